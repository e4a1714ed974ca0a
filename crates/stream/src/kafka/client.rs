use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde::Deserialize;
use tokio::sync::Notify;

use crate::{KafkaSettings, StreamError};

/// What every client of ours begins with: the settings' properties, which whoever calls may override.
pub(super) fn config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("client.id", "suanpan")
        // A broker that is back is found at once, and not after ten seconds.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        // What librdkafka notices on the way is told by our own words.
        .set("log.connection.close", "false");
    for (name, value) in &settings.properties {
        config.set(name, value);
    }
    config.set("bootstrap.servers", &settings.brokers);
    config
}

/// For `map_err`: what was tried, and what its client has heard of the brokers.
pub(super) fn failed(
    settings: &KafkaSettings,
    heard: &Brokers,
    action: &'static str,
) -> impl FnOnce(KafkaError) -> StreamError {
    let (brokers, why) = (settings.brokers.clone(), heard.why());
    move |source| {
        if let KafkaError::ClientConfig(_, why, name, _) = source {
            let is_secret =
                ["password", "secret", "pem", "oauth"].iter().any(|part| name.contains(part));
            let why = if is_secret { "its value is refused".to_owned() } else { why };
            StreamError::Property { name, why }
        } else if is_away(&source) {
            StreamError::Away { brokers, why }
        } else {
            StreamError::Kafka { action, brokers, source }
        }
    }
}

/// Whether trying again may help, without anybody doing anything here.
pub(super) fn is_away(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    error.rdkafka_error_code().is_some_and(|code| {
        [
            Code::AllBrokersDown,
            // Whoever is turned away is let in once the password is set right, there or here.
            Code::Authentication,
            Code::SSL,
            Code::BrokerTransportFailure,
            Code::Resolve,
            Code::OperationTimedOut,
            Code::RequestTimedOut,
            Code::MessageTimedOut,
            Code::LeaderNotAvailable,
            // What it knows is older than what we know, or newer: it has just come, or we have just heard.
            Code::FencedLeaderEpoch,
            Code::UnknownLeaderEpoch,
            Code::OffsetNotAvailable,
            Code::ReplicaNotAvailable,
            Code::KafkaStorageError,
            Code::NotLeaderForPartition,
            Code::CoordinatorLoadInProgress,
            Code::CoordinatorNotAvailable,
            Code::NotCoordinator,
            Code::NetworkException,
            Code::BrokerNotAvailable,
        ]
        .contains(&code)
    })
}

/// What a client tells about its brokers.
#[derive(Debug, Default)]
pub(super) struct Brokers {
    away: AtomicBool,
    /// Tells those who wait for an answer that none will come soon.
    pub(super) gone: Notify,
    /// There is one broker in all: where it is not to be reached, nobody is.
    pub(super) is_alone: AtomicBool,
    /// Why they turned us away, if they did when last asked.
    why: Mutex<Option<String>>,
}

impl Brokers {
    pub(super) fn are_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    pub(super) fn went(&self) {
        if !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!("no broker of the log answers");
        }
        self.gone.notify_waiters();
    }

    pub(super) fn came_back(&self) {
        if self.away.swap(false, Ordering::Relaxed) {
            *self.why.lock().unwrap_or_else(PoisonError::into_inner) = None;
            tracing::info!("a broker of the log answers again");
        }
    }

    fn why(&self) -> Option<String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For whoever has found out by [`are_away`](Self::are_away).
    pub(super) fn away(&self, settings: &KafkaSettings) -> StreamError {
        StreamError::Away { brokers: settings.brokers.clone(), why: self.why() }
    }

    /// librdkafka's errors that are nobody's answer.
    pub(super) fn error(&self, error: &KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.went(),
            Some(RDKafkaErrorCode::BrokerTransportFailure)
                if self.is_alone.load(Ordering::Relaxed)
                    && reason.contains("Connection refused") =>
            {
                self.went();
            }
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL) => {
                let mut why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
                if why.replace(reason.to_owned()).is_none() {
                    tracing::warn!("a broker of the log turns us away: {reason}");
                }
            }
            _ => tracing::debug!(error = %error, "librdkafka: {reason}"),
        }
    }

    /// Whether a broker is connected, from librdkafka's statistics.
    pub(super) fn statistics(&self, text: &[u8]) {
        #[derive(Deserialize)]
        struct Statistics {
            brokers: HashMap<String, Broker>,
        }
        #[derive(Deserialize)]
        struct Broker {
            nodeid: i32,
            state: String,
        }
        let Ok(statistics) = serde_json::from_slice::<Statistics>(text) else { return };
        // Those that are only addresses to begin with have no number.
        let mut brokers = statistics.brokers.values().filter(|broker| broker.nodeid >= 0);
        if brokers.any(|broker| ["UP", "UPDATE"].contains(&broker.state.as_str())) {
            self.came_back();
        }
    }
}

/// librdkafka's own lines, in our log.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    // One set of properties is for all kinds of clients, and each kind complains about the others'.
    if facility == "CONFWARN" && text.contains("will be ignored by this") {
        tracing::debug!(facility, "librdkafka: {text}");
        return;
    }
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => tracing::warn!(facility, "librdkafka: {text}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(facility, "librdkafka: {text}");
        }
    }
}
