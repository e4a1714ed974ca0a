//! Looking at tables, and doing to them what only a test may.

use diesel::connection::SimpleConnection as _;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Text};
use diesel::{QueryableByName, RunQueryDsl as _, sql_query};
use ledger::Connection;

pub(crate) fn run(conn: &mut Connection, sql: &str) {
    conn.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// What the database says against it.
pub(crate) fn refusal(conn: &mut Connection, sql: &str) -> String {
    match conn.batch_execute(sql) {
        Err(Error::DatabaseError(_, information)) => information.message().to_owned(),
        other => panic!("{sql}: {other:?}"),
    }
}

/// The one `number` that the query gives.
pub(crate) fn number(conn: &mut Connection, sql: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        number: i64,
    }
    let row: Row = sql_query(sql).get_result(conn).unwrap();
    row.number
}

pub(crate) fn count(conn: &mut Connection, table: &str) -> i64 {
    number(conn, &format!("SELECT count(*) AS number FROM {table}"))
}

/// Every `text` that the query gives.
pub(crate) fn texts(conn: &mut Connection, sql: &str) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        text: String,
    }
    let rows: Vec<Row> = sql_query(sql).load(conn).unwrap();
    rows.into_iter().map(|row| row.text).collect()
}

/// How many of this database's connections wait for a lock that another one holds. Not to be asked inside a
/// transaction, which sees one answer only.
pub(crate) fn blocked(conn: &mut Connection) -> i64 {
    number(
        conn,
        "SELECT count(*) AS number FROM pg_stat_activity
          WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
}
