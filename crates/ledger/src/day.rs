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

/// Proof that nobody else compares any day of this app now: what a run finds on one day settles and opens things on
/// its neighbours, so two runs side by side could each miss what the other does.
#[derive(Debug)]
pub struct AppLock {
    key: String,
}

/// Waits until no other session compares a day of this app, and takes its place. Take it before the transaction
/// begins, which must see what the one before has done.
pub fn lock_app(conn: &mut PgConnection, app_id: &AppId) -> QueryResult<AppLock> {
    let lock = AppLock { key: format!("suanpan app {app_id}") };
    sql_query("SELECT true AS taken FROM pg_advisory_lock(hashtextextended($1, 0))")
        .bind::<Text, _>(&lock.key)
        .get_result::<Taken>(conn)?;
    Ok(lock)
}

/// Lets the next one in. A session that ends does so too.
pub fn unlock_app(conn: &mut PgConnection, lock: AppLock) -> QueryResult<()> {
    sql_query("SELECT pg_advisory_unlock(hashtextextended($1, 0)) AS taken")
        .bind::<Text, _>(lock.key)
        .get_result::<Taken>(conn)
        .map(|_| ())
}
