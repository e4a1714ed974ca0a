use diesel::{Connection as _, PgConnection, RunQueryDsl};

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to the database")]
    Refused(#[source] diesel::ConnectionError),
    #[error("cannot prepare the connection to the database")]
    Prepare(#[source] diesel::result::Error),
}

/// Connects to a Postgres by its libpq address (`postgres://...`). The address is a secret: it is not in errors.
pub fn connect(database_url: &str) -> Result<PgConnection, ConnectError> {
    let mut conn = PgConnection::establish(database_url).map_err(ConnectError::Refused)?;
    // Ledger times are moments; the session must not shift what is printed of them.
    diesel::sql_query("SET TIME ZONE 'UTC'").execute(&mut conn).map_err(ConnectError::Prepare)?;
    Ok(conn)
}
