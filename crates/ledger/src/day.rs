use diesel::sql_types::{Bool, Text};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use payment::{AppId, BillDay};

/// Proof that nobody else reconciles this day of this app now. Held by the database session that took it.
#[derive(Debug)]
pub struct DayLock {
    app_id: AppId,
    day: BillDay,
}

impl DayLock {
    pub fn app_id(&self) -> &AppId {
        &self.app_id
    }

    pub fn day(&self) -> BillDay {
        self.day
    }

    fn key(&self) -> String {
        format!("suanpan day {} {}", self.app_id, self.day)
    }
}

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = Bool)]
    taken: bool,
}

/// Takes the day, or says that another session holds it (`None`).
pub fn lock(conn: &mut PgConnection, app_id: &AppId, day: BillDay) -> QueryResult<Option<DayLock>> {
    let lock = DayLock { app_id: app_id.clone(), day };
    let Taken { taken } =
        sql_query("SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS taken")
            .bind::<Text, _>(lock.key())
            .get_result(conn)?;
    Ok(taken.then_some(lock))
}

/// Gives the day back. A session that ends gives it back too.
pub fn unlock(conn: &mut PgConnection, lock: DayLock) -> QueryResult<()> {
    sql_query("SELECT pg_advisory_unlock(hashtextextended($1, 0)) AS taken")
        .bind::<Text, _>(lock.key())
        .get_result::<Taken>(conn)
        .map(|_| ())
}
