use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::body::{BodyStream, MessageBody};
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::Payload;

use crate::outcome::{Outcome, Refused};

/// The raw bytes of a request's body, or what the request comes to without them.
///
/// No more than `limit_bytes` are kept. A longer body is received to its end and thrown away, up to a
/// megabyte: who is hung up on while sending does not see the answer.
pub(crate) async fn read(
    request: &HttpRequest,
    payload: Payload,
    limit_bytes: usize,
    limit: Duration,
) -> Result<Vec<u8>, Outcome> {
    let announced = announced(request);
    if announced.is_some_and(|bytes| bytes > limit_bytes.saturating_add(THROWN_AWAY_BYTES)) {
        return Err(Outcome::TooLarge);
    }
    let mut body = Vec::with_capacity(announced.unwrap_or(0).min(limit_bytes));
    let mut received_bytes = 0_usize;
    let receive = async {
        let mut stream = pin!(BodyStream::new(payload));
        while let Some(chunk) = poll_fn(|context| stream.as_mut().poll_next(context)).await {
            let chunk = chunk.map_err(|_| Outcome::Refused(Refused::INCOMPLETE_BODY))?;
            received_bytes = received_bytes.saturating_add(chunk.len());
            if received_bytes <= limit_bytes {
                body.extend_from_slice(&chunk);
            } else if received_bytes > limit_bytes.saturating_add(THROWN_AWAY_BYTES) {
                return Err(Outcome::TooLarge);
            }
        }
        Ok(())
    };
    match tokio::time::timeout(limit, receive).await {
        Ok(received) => received?,
        Err(_) if announced.unwrap_or(received_bytes) > limit_bytes => {
            return Err(Outcome::TooLarge);
        }
        Err(_) => return Err(Outcome::TimedOut),
    }
    if received_bytes > limit_bytes { Err(Outcome::TooLarge) } else { Ok(body) }
}

const THROWN_AWAY_BYTES: usize = 1 << 20;

fn announced(request: &HttpRequest) -> Option<usize> {
    let length = request.headers().get(CONTENT_LENGTH)?.to_str().ok()?;
    // More than fits a number is more than any limit.
    Some(length.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};

    use actix_web::{App, HttpServer, web};
    use service::Server;

    use super::*;

    const LIMIT: usize = 10;

    /// Answers as many `x` as the body has bytes.
    fn server(timeout: Duration) -> Server {
        let echo = move |request: HttpRequest, payload: Payload| async move {
            match read(&request, payload, LIMIT, timeout).await {
                Ok(body) => actix_web::HttpResponse::Ok().body("x".repeat(body.len())),
                Err(outcome) => outcome.answer(),
            }
        };
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Server::start("test", listen, move |listener| {
            let server = HttpServer::new(move || App::new().route("/", web::post().to(echo)));
            Ok(server.workers(1).disable_signals().shutdown_timeout(1).listen(listener)?.run())
        })
        .unwrap()
    }

    fn post(server: &Server, headers: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(server.addr()).unwrap();
        write!(stream, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n\r\n")
            .unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        // The server may hang up while bytes it does not want are still coming.
        drop(stream.read_to_end(&mut answer));
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        format!("{status} {body}")
    }

    #[test]
    fn a_body_up_to_the_limit_is_read_and_a_longer_one_refused() {
        let server = server(Duration::from_secs(60));
        assert_eq!(post(&server, "Content-Length: 10", b"0123456789"), "200 xxxxxxxxxx");
        assert_eq!(post(&server, "Content-Length: 0", b""), "200 ");
        assert_eq!(post(&server, "Content-Length: 11", b"0123456789a"), "413 fail");
        let long = vec![b'a'; 700_000];
        assert_eq!(
            post(&server, "Content-Length: 700000", &long),
            "413 fail",
            "the answer arrives"
        );
        assert_eq!(post(&server, "Content-Length: 9999999", b""), "413 fail", "before it is sent");
        let chunked = "Transfer-Encoding: chunked";
        assert_eq!(post(&server, chunked, b"a\r\n0123456789\r\n0\r\n\r\n"), "200 xxxxxxxxxx");
        assert_eq!(post(&server, chunked, b"a\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n"), "413 fail");
    }

    #[test]
    fn a_body_that_does_not_come_is_not_waited_for_without_end() {
        let server = server(Duration::from_millis(1));
        assert_eq!(post(&server, "Content-Length: 5", b"01"), "408 fail");
    }
}
