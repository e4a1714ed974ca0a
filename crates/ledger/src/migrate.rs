use diesel::PgConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel::pg::Pg;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// Two processes starting at once must not both migrate: the second waits here and finds nothing to do.
const MIGRATION_LOCK: i64 = 0x5355_414e_5041_4e01;

#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("cannot prepare the migration")]
    Lock(#[source] diesel::result::Error),
    #[error("cannot migrate the database: {0}")]
    Migrate(Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "the database's schema is older than this program: run `suanpan migrate` ({missing} missing)"
    )]
    Behind { missing: String },
    #[error(
        "the database's encoding is {encoding}, which cannot hold every message: make one with ENCODING 'UTF8'"
    )]
    Encoding { encoding: String },
}

/// Brings the database to this version's schema and says which migrations ran.
pub fn migrate(conn: &mut PgConnection) -> Result<Vec<String>, MigrateError> {
    check_encoding(conn)?;
    advisory(conn, "SELECT pg_advisory_lock($1)")?;
    let ran = conn
        .run_pending_migrations(MIGRATIONS)
        .map(|versions| versions.iter().map(ToString::to_string).collect())
        .map_err(MigrateError::Migrate);
    advisory(conn, "SELECT pg_advisory_unlock($1)")?;
    ran
}

/// Refuses a database that lacks a migration of this version.
pub fn check_schema(conn: &mut PgConnection) -> Result<(), MigrateError> {
    check_encoding(conn)?;
    let pending = MigrationHarness::<Pg>::pending_migrations(conn, MIGRATIONS);
    let pending = pending.map_err(MigrateError::Migrate)?;
    match pending.first() {
        None => Ok(()),
        Some(first) => Err(MigrateError::Behind { missing: first.name().to_string() }),
    }
}

/// Takes back every migration, newest first, and says which: for tests of `down.sql`.
pub fn revert(conn: &mut PgConnection) -> Result<Vec<String>, MigrateError> {
    conn.revert_all_migrations(MIGRATIONS)
        .map(|versions| versions.iter().map(ToString::to_string).collect())
        .map_err(MigrateError::Migrate)
}

/// How many migrations this version carries.
pub fn count() -> Result<usize, MigrateError> {
    let all: Vec<Box<dyn Migration<Pg>>> =
        MIGRATIONS.migrations().map_err(MigrateError::Migrate)?;
    Ok(all.len())
}

fn check_encoding(conn: &mut PgConnection) -> Result<(), MigrateError> {
    use diesel::{QueryableByName, RunQueryDsl, sql_types::Text};
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        encoding: String,
    }
    let Row { encoding } =
        diesel::sql_query("SELECT current_setting('server_encoding') AS encoding")
            .get_result(conn)
            .map_err(MigrateError::Lock)?;
    if encoding == "UTF8" { Ok(()) } else { Err(MigrateError::Encoding { encoding }) }
}

fn advisory(conn: &mut PgConnection, sql: &str) -> Result<(), MigrateError> {
    use diesel::{RunQueryDsl, sql_types::BigInt};
    diesel::sql_query(sql)
        .bind::<BigInt, _>(MIGRATION_LOCK)
        .execute(conn)
        .map(|_| ())
        .map_err(MigrateError::Lock)
}
