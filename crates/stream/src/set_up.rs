use crate::{Log, StreamError, kafka, postgres};

/// Makes the log's topics, or brings them to the settings as far as that loses nothing; says what it did.
/// Safe to run any number of times.
///
/// # Errors
/// When the log cannot be reached, or a topic is unfit in a way that only its owner may change: the error
/// says what to run.
pub fn set_up(log: &Log) -> Result<Vec<String>, StreamError> {
    match log {
        Log::Postgres { database_url, partitions } => {
            let mut conn = postgres::connect(database_url)?;
            postgres::create_partitions(&mut conn, *partitions)?;
            Ok(Vec::new())
        }
        Log::Kafka(settings) => kafka::topics::set_up(settings),
    }
}

/// Refuses a log that [`set_up`] would change or refuse.
///
/// # Errors
/// When the log cannot be reached, or is unfit: the error says what to run.
pub fn check(log: &Log) -> Result<(), StreamError> {
    match log {
        Log::Postgres { database_url, .. } => {
            let mut conn = postgres::connect(database_url)?;
            postgres::partition::ends(&mut conn).map(drop)
        }
        Log::Kafka(settings) => kafka::topics::check(settings),
    }
}
