//! A line on loopback that can be cut.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::port;

/// Stands in front of a server, on a port of its own that it keeps.
pub(crate) struct Proxy {
    line: Arc<Line>,
    /// `None` while the line is cut.
    door: Mutex<Option<JoinHandle<()>>>,
}

impl Proxy {
    /// Passes everything on to `server`, which need not be there yet.
    pub(crate) fn to(server: SocketAddr) -> Proxy {
        let address = SocketAddr::from(([127, 0, 0, 1], port::free()));
        let state = Mutex::new(State { flow: Flow::Passing, ends: Vec::new() });
        let line = Arc::new(Line { address, server, state, changed: Condvar::new() });
        let door = Mutex::new(Some(open(&line)));
        Proxy { line, door }
    }

    /// Where clients knock.
    pub(crate) fn address(&self) -> SocketAddr {
        self.line.address
    }

    /// Closes all connections and refuses new ones.
    pub(crate) fn cut(&self) {
        for end in self.line.set(Flow::Cut) {
            // It may be closed already.
            drop(end.shutdown(Shutdown::Both));
        }
        let door = self.door.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(door) = door {
            // Whoever waits for somebody to knock sees that the line was cut.
            drop(TcpStream::connect(self.line.address));
            door.join().unwrap();
        }
    }

    /// Keeps connections open, takes new ones, and passes nothing: not a byte, not the end of a connection.
    pub(crate) fn freeze(&self) {
        self.line.set(Flow::Frozen);
    }

    /// Passes everything again; what was held back by `freeze` first.
    pub(crate) fn restore(&self) {
        self.line.set(Flow::Passing);
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        door.get_or_insert_with(|| open(&self.line));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

struct Line {
    address: SocketAddr,
    server: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    flow: Flow,
    /// Both ends of every connection.
    ends: Vec<TcpStream>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Passing,
    Frozen,
    Cut,
}

impl Line {
    /// The ends of the connections that this cuts.
    fn set(&self, flow: Flow) -> Vec<TcpStream> {
        let mut state = self.lock();
        state.flow = flow;
        self.changed.notify_all();
        if flow == Flow::Cut { std::mem::take(&mut state.ends) } else { Vec::new() }
    }

    /// Both ends of a new connection, unless the line is cut.
    fn connect(&self, client: TcpStream) -> Option<[TcpStream; 2]> {
        // A server that is not there: the client is let in and shown out, as by any proxy.
        let server = TcpStream::connect(self.server).ok()?;
        for end in [&client, &server] {
            end.set_nodelay(true).ok()?;
        }
        let mut state = self.lock();
        if state.flow == Flow::Cut {
            return None;
        }
        state.ends.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
        Some([client, server])
    }

    /// Waits while it is frozen; whether bytes may pass.
    fn passes(&self) -> bool {
        let waited = self.changed.wait_while(self.lock(), |state| state.flow == Flow::Frozen);
        waited.unwrap_or_else(PoisonError::into_inner).flow == Flow::Passing
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets clients in until the line is cut.
fn open(line: &Arc<Line>) -> JoinHandle<()> {
    let listener = TcpListener::bind(line.address).unwrap();
    let line = line.clone();
    thread::spawn(move || {
        for client in listener.incoming() {
            if line.lock().flow == Flow::Cut {
                return;
            }
            if let Some([client, server]) = client.ok().and_then(|client| line.connect(client)) {
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                for (from, to) in [(client, server), back] {
                    let line = line.clone();
                    thread::spawn(move || pump(&line, from, to));
                }
            }
        }
    })
}

/// Passes bytes on until one side ends; then both do.
fn pump(line: &Line, mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 65_536];
    loop {
        let read = from.read(&mut bytes).unwrap_or(0);
        if !line.passes() || read == 0 || to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    for end in [from, to] {
        drop(end.shutdown(Shutdown::Both));
    }
}
