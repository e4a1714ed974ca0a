//! HTTP as Alipay speaks it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use ureq::Agent;
use ureq::http::Response;

/// Every status is an answer. No connection is kept: a server that was restarted has another port.
static AGENT: LazyLock<Agent> = LazyLock::new(|| {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_idle_connections(0)
        .timeout_global(Some(Duration::from_secs(60)));
    config.build().into()
});

/// Status and body.
pub(crate) type Answer = (u16, Vec<u8>);

pub(crate) const SUCCESS: (u16, &[u8]) = (200, b"success");

pub(crate) fn post(url: &str, body: &[u8]) -> Answer {
    try_post(url, body).unwrap()
}

/// `None` where no whole answer came.
pub(crate) fn try_post(url: &str, body: &[u8]) -> Option<Answer> {
    let form = "application/x-www-form-urlencoded; charset=utf-8";
    read(AGENT.post(url).header("content-type", form).send(body).ok()?)
}

pub(crate) fn get(url: &str) -> Answer {
    read(AGENT.get(url).call().unwrap()).unwrap()
}

fn read(mut response: Response<ureq::Body>) -> Option<Answer> {
    let body = response.body_mut().read_to_vec().ok()?;
    Some((response.status().as_u16(), body))
}

/// Sends these bytes and no more, and gives everything that comes back until the other side hangs up.
pub(crate) fn send_raw(to: SocketAddr, bytes: &[u8], then: Then) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(bytes).unwrap();
    match then {
        Then::Wait => {}
        Then::Leave => stream.shutdown(Shutdown::Write).unwrap(),
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// What a sender does after its last byte.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    /// Keeps the connection open.
    Wait,
    /// Says that nothing more will come.
    Leave,
}
