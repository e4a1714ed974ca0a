//! Ports that stay one's own while nobody listens on them.

use std::net::TcpListener;

use rand::Rng as _;

/// A port of loopback on which nobody listens. Not from those that the system gives to outgoing connections, as
/// port 0 would be: one of these could take it while its server is down, and a client that knocks at a
/// closed port of that range may be connected to itself.
pub(crate) fn free() -> u16 {
    let mut random = rand::rng();
    loop {
        let port = random.random_range(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
