use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use alipay::{Trust, Verdict, receive};

use super::*;
use crate::scenario::plan;
use crate::testing::{KEYS, merchant, two_days};

/// A merchant that answers every body as `answer` says.
fn merchant_server(
    answer: impl Fn(&[u8]) -> HttpResponse + Clone + Send + Sync + 'static,
) -> service::Server {
    service::Server::start("merchant", SocketAddr::from(([127, 0, 0, 1], 0)), move |listener| {
        let server = HttpServer::new(move || {
            let answer = answer.clone();
            let door = move |request: HttpRequest, body: web::Bytes| {
                let said = if request.method() == "GET" {
                    answer(request.query_string().as_bytes())
                } else {
                    answer(&body)
                };
                async move { said }
            };
            App::new().route("/notify/alipay/2021000000000001", web::route().to(door))
        })
        .workers(2)
        .disable_signals()
        .shutdown_timeout(1)
        .listen(listener)?
        .run();
        Ok(server)
    })
    .unwrap()
}

fn url(server: &service::Server) -> String {
    format!("http://{}/", server.addr())
}

#[test]
fn an_upright_merchant_answers_everything_as_the_key_says() {
    let scenario = plan(&two_days(4, 80), &KEYS).unwrap();
    let app = Arc::new(merchant(&scenario.plan, &KEYS));
    let server = merchant_server(move |body| match receive(&app, body, Trust::Active) {
        Verdict::Genuine { .. } | Verdict::SetAside { .. } => HttpResponse::Ok().body("success"),
        Verdict::Refused(_) => HttpResponse::Forbidden().body("fail"),
    });
    let mut seen = Vec::new();
    let progress = |done, total| seen.push((done, total));
    let tally = post_all(&scenario.deliveries, &url(&server), 4, progress).unwrap();
    assert_eq!(tally.wrong, []);
    assert_eq!((tally.success, tally.fail), (scenario.key.accepted, scenario.key.refused));
    let total = scenario.deliveries.len();
    assert_eq!(seen, (1..=total).map(|done| (done, total)).collect::<Vec<_>>());
}

#[test]
fn anything_but_the_seven_bytes_is_wrong() {
    let scenario = plan(&two_days(4, 20), &KEYS).unwrap();
    let server = merchant_server(|_| HttpResponse::Ok().body("SUCCESS"));
    let tally = post_all(&scenario.deliveries, &url(&server), 2, |_, _| ()).unwrap();
    assert_eq!(tally.wrong.len(), scenario.deliveries.len());
    assert!(tally.wrong.iter().all(|wrong| wrong.got == Got::Other { status: 200 }));
    assert!(tally.wrong.is_sorted_by_key(|wrong| wrong.index));
}

#[test]
fn a_merchant_that_is_not_ready_yet_is_asked_again() {
    let scenario = plan(&two_days(4, 3), &KEYS).unwrap();
    let first: Vec<Delivery> = scenario
        .deliveries
        .into_iter()
        .filter(|one| one.expected == Expected::Success)
        .take(1)
        .collect();
    let ready = AtomicBool::new(false);
    let ready = Arc::new(ready);
    let server = merchant_server(move |_| {
        if ready.swap(true, Ordering::Relaxed) {
            HttpResponse::Ok().body("success")
        } else {
            HttpResponse::ServiceUnavailable().body("fail")
        }
    });
    let tally = post_all(&first, &url(&server), 1, |_, _| ()).unwrap();
    assert_eq!(tally, Tally { success: 1, fail: 0, wrong: Vec::new() });
}

#[test]
fn an_address_that_is_none_is_refused() {
    let said = post_all(&[], "localhost:8080", 1, |_, _| ()).unwrap_err().to_string();
    assert_eq!(
        said,
        "`localhost:8080` is not the address of a merchant; it looks like `http://127.0.0.1:8080`"
    );
}
