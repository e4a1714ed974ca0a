use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection};

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// What the server, or the way to it, says.
    #[error("cannot connect to the database: {0}")]
    Refused(String),
    /// libpq's own words are withheld: they quote pieces of the address, which may be the password's.
    #[error(
        "cannot connect to the database: its address is not one; it looks like postgres://user:password@host/name, \
         with `@`, `/`, `:`, `%` and blanks in the password percent-encoded"
    )]
    Address,
    #[error("cannot prepare the connection to the database")]
    Prepare(#[source] diesel::result::Error),
}

/// Connects to a Postgres by its libpq address (`postgres://...`). The address is a secret: it is not in errors.
pub fn connect(database_url: &str) -> Result<PgConnection, ConnectError> {
    let mut conn = PgConnection::establish(database_url).map_err(refused)?;
    // Ledger times are moments; the session must not shift what is printed of them. And a plan that was made when
    // the tables were empty must not be kept until they are full.
    conn.batch_execute("SET TIME ZONE 'UTC'; SET plan_cache_mode = force_custom_plan")
        .map_err(ConnectError::Prepare)?;
    Ok(conn)
}

/// The same for whoever applies the log. A process that is stopped in the middle of a batch, or whose machine is gone,
/// would hold its partitions' positions as long as its connection stands, and nobody could take them over: the database
/// gives it up, and its batch, after ten silent seconds. Of those that are silent in a COPY it does not know that they
/// are; they are found by whoever [claims](crate::position::claim).
pub fn connect_to_apply(database_url: &str) -> Result<PgConnection, ConnectError> {
    let mut conn = connect(database_url)?;
    conn.batch_execute("SET idle_in_transaction_session_timeout = '10s'")
        .map_err(ConnectError::Prepare)?;
    Ok(conn)
}

fn refused(error: diesel::ConnectionError) -> ConnectError {
    let text = error.to_string();
    // Only once the address was understood does libpq speak of a connection.
    if text.starts_with("connection to server") {
        ConnectError::Refused(text.trim_end().to_owned())
    } else {
        ConnectError::Address
    }
}
