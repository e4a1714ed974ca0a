use diesel::pg::Pg;
use diesel::{PgConnection, QueryableByName, RunQueryDsl, sql_query};

/// How many rows are asked for, or sent, at once.
pub(crate) const ROWS_AT_ONCE: usize = 4096;

/// Hands over the rows of an open cursor one by one, and closes it. Only `ROWS_AT_ONCE` are held at a time.
pub(crate) fn for_each<R, E>(
    conn: &mut PgConnection,
    cursor: &str,
    mut each: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E>
where
    R: QueryableByName<Pg> + 'static,
    E: From<diesel::result::Error>,
{
    loop {
        let rows: Vec<R> = sql_query(format!("FETCH {ROWS_AT_ONCE} FROM {cursor}")).load(conn)?;
        let last = rows.len() < ROWS_AT_ONCE;
        for row in rows {
            each(row)?;
        }
        if last {
            sql_query(format!("CLOSE {cursor}")).execute(conn)?;
            return Ok(());
        }
    }
}
