use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::settings::LogFormat;

/// Sends this process's logs to standard error, from now on.
///
/// What is logged is set by `SUANPAN_LOG` in the form of `tracing`'s `EnvFilter`
/// (`debug`, `info,ingress=debug`); without it, `info`. A second call changes nothing.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::builder()
        .with_env_var("SUANPAN_LOG")
        .try_from_env()
        // The HTTP server tells the life of its threads; ours say the same once.
        .unwrap_or_else(|_| "info,actix_server=warn".into());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    // An error here says that logs were started before, which is what is wanted.
    match format {
        LogFormat::Text => drop(subscriber.try_init()),
        LogFormat::Json => drop(subscriber.json().try_init()),
    }
}
