use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::{io, thread};

use crate::Shutdown;

/// An HTTP server on threads of its own, so that whoever starts it may be blocking code.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    stopping: Shutdown,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds `listen` (port 0 takes any free port) and serves what `make` builds around the
    /// listener. Accepts connections when this returns. `name` is what logs and threads say.
    ///
    /// `make` should build with `disable_signals()` and say how long a graceful stop may take
    /// with `shutdown_timeout()`.
    ///
    /// # Errors
    /// When the address cannot be bound, or `make` fails.
    pub fn start(
        name: &'static str,
        listen: SocketAddr,
        make: impl FnOnce(TcpListener) -> io::Result<actix_web::dev::Server> + Send + 'static,
    ) -> io::Result<Server> {
        let listener = TcpListener::bind(listen)?;
        // The standard library lets 128 connections wait; a burst beyond that would wait for a second.
        rustix::net::listen(&listener, 1024)?;
        let addr = listener.local_addr()?;
        let stopping = Shutdown::new();
        let stop = stopping.clone();
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = match make(listener) {
                    Ok(server) => server,
                    Err(error) => return drop(started.send(Err(error))),
                };
                let handle = server.handle();
                actix_web::rt::spawn(async move {
                    stop.triggered().await;
                    handle.stop(true).await;
                });
                // The listener's backlog takes connections already; nobody is refused.
                drop(started.send(Ok(())));
                if let Err(error) = server.await {
                    tracing::error!(server = name, error = %error, "{name} stopped serving");
                }
            });
        })?;
        start.recv().unwrap_or_else(|_| Err(io::Error::other("the server's thread ended")))?;
        tracing::info!(server = name, addr = %addr, "{name} listens on {addr}");
        Ok(Server { addr, stopping, thread: Some(thread) })
    }

    /// Where it listens; the port is the real one.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Accepts nothing more, answers what is in flight within the server's limit, and returns
    /// when it is done.
    pub fn stop(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        self.stopping.trigger();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(addr = %self.addr, "a server's thread fell over");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.finish();
    }
}
