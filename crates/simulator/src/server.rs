use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use service::Clock;

use crate::gateway::{self, Desk};
use crate::key::Keys;
use crate::link;
use crate::scenario::Scenario;

/// Opens the pretend Alipay's doors on threads of their own: `POST /gateway.do`, and the bill links
/// that it gives out. `clock` says which days are over and how old a link is. Port 0 takes any free
/// port.
pub fn start(
    listen: SocketAddr,
    scenario: Arc<Scenario>,
    keys: Arc<Keys>,
    clock: Arc<dyn Clock>,
) -> Result<Server, ServerError> {
    let desk = web::Data::new(Desk::new(scenario, keys, clock));
    let server = service::Server::start("simulator", listen, move |listener| {
        let server = HttpServer::new(move || {
            App::new()
                .app_data(desk.clone())
                .app_data(web::PayloadConfig::new(BODY_LIMIT_BYTES))
                .route("/gateway.do", web::post().to(gateway))
                .route("/downloadBillFile.resource", web::get().to(download))
        })
        .workers(2)
        .disable_signals()
        .shutdown_timeout(SHUTDOWN_TIMEOUT_S)
        .listen(listener)?
        .run();
        Ok(server)
    })
    .map_err(|err| ServerError::Start { listen, err })?;
    Ok(Server(server))
}

/// A pretend Alipay that answers. Dropping it stops it.
#[derive(Debug)]
pub struct Server(service::Server);

/// Why the pretend Alipay does not open.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("the simulator cannot listen on {listen}; free the port, or give another")]
    Start {
        listen: SocketAddr,
        #[source]
        err: io::Error,
    },
}

impl Server {
    /// Where it listens; the port is the real one.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr()
    }

    /// The gateway's address, as it stands in an app's settings.
    pub fn gateway_url(&self) -> String {
        format!("http://{}/gateway.do", self.addr())
    }

    /// Answers what is in flight, then closes.
    pub fn stop(self) {
        self.0.stop();
    }
}

const BODY_LIMIT_BYTES: usize = 256 * 1024;
const SHUTDOWN_TIMEOUT_S: u64 = 5;

async fn gateway(desk: web::Data<Desk>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let host = request.connection_info().host().to_owned();
    match gateway::answer(&desk, request.query_string().as_bytes(), &body, &host) {
        // Alipay says HTML, and sends JSON.
        Ok(answer) => HttpResponse::Ok().content_type("text/html;charset=utf-8").body(answer),
        Err(error) => broken(&error),
    }
}

async fn download(desk: web::Data<Desk>, request: HttpRequest) -> HttpResponse {
    match link::follow(&desk, request.query_string().as_bytes(), desk.clock.now()) {
        Ok(Some(zip)) => HttpResponse::Ok().content_type("application/zip").body(zip.to_vec()),
        Ok(None) => HttpResponse::Ok().content_type(ContentType::html()).body(link::TOO_LATE),
        Err(error) => broken(&error),
    }
}

fn broken(error: &crate::KeyError) -> HttpResponse {
    tracing::error!(error = %error, "the simulator cannot answer");
    HttpResponse::build(StatusCode::INTERNAL_SERVER_ERROR).finish()
}

#[cfg(test)]
mod tests;
