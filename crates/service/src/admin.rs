use std::io;
use std::net::SocketAddr;

use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, web};
use prometheus::{Encoder, Registry, TextEncoder};

use crate::{Health, Server};

/// The port for those who run the process: `/healthz`, `/readyz`, `/metrics`.
#[derive(Debug)]
pub struct Admin(Server);

/// Starts the admin port on `listen`.
///
/// - `GET /healthz`: 200 `ok` as long as the process lives.
/// - `GET /readyz`: 200 or 503 with [`health::Report`](crate::health::Report) as JSON.
/// - `GET /metrics`: everything in `registry`, in Prometheus's text format.
///
/// # Errors
/// When the address cannot be bound.
pub fn start(listen: SocketAddr, registry: Registry, health: Health) -> io::Result<Admin> {
    Server::start("admin", listen, move |listener| {
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::new(registry.clone()))
                .app_data(web::Data::new(health.clone()))
                .route("/healthz", web::get().to(async || HttpResponse::Ok().body("ok")))
                .route("/readyz", web::get().to(readyz))
                .route("/metrics", web::get().to(metrics))
        });
        Ok(server.workers(1).disable_signals().shutdown_timeout(1).listen(listener)?.run())
    })
    .map(Admin)
}

impl Admin {
    /// Where it listens; the port is the real one.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr()
    }

    /// Stops it.
    pub fn stop(self) {
        self.0.stop();
    }
}

async fn readyz(health: web::Data<Health>) -> HttpResponse {
    let report = health.report();
    let mut answer =
        if report.ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    answer.json(report)
}

async fn metrics(registry: web::Data<Registry>) -> HttpResponse {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&registry.gather(), &mut text) {
        Ok(()) => HttpResponse::Ok().content_type(encoder.format_type()).body(text),
        Err(error) => {
            tracing::error!(error = %error, "cannot write the metrics");
            HttpResponse::InternalServerError().content_type(ContentType::plaintext()).finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use prometheus::IntCounter;

    use super::*;

    fn get(admin: &Admin, path: &str) -> String {
        let mut stream = TcpStream::connect(admin.addr()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn it_tells_whether_the_process_lives_is_ready_and_what_it_counted() {
        let registry = Registry::new();
        let counter = IntCounter::new("suanpan_seen_total", "seen").unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        let health = Health::new();
        health.register("log");
        let admin = start("127.0.0.1:0".parse().unwrap(), registry, health.clone()).unwrap();

        assert!(get(&admin, "/healthz").ends_with("\r\n\r\nok"));
        let answer = get(&admin, "/readyz");
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains(r#""log":{"state":"starting"}"#), "{answer}");
        health.ok("log");
        assert!(get(&admin, "/readyz").starts_with("HTTP/1.1 200"));
        counter.inc_by(3);
        assert!(get(&admin, "/metrics").contains("suanpan_seen_total 3"));

        let addr = admin.addr();
        admin.stop();
        // A child that another test is just starting may hold the port for a moment more.
        let free = (0..10_000).any(|_| TcpStream::connect(addr).is_err());
        assert!(free, "somebody still listens");
    }
}
