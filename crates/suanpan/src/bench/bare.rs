//! The least that a database has to do for the same rows: inserting them, many at once, and nothing else.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection as _;
use diesel::pg::Pg;
use diesel::query_builder::BoxedSqlQuery;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Integer, Nullable, Text, Timestamptz};
use diesel::{Connection as _, QueryableByName, RunQueryDsl, sql_query};

use super::cpu;

/// Takes every row that the consumer has made, and inserts it again into empty tables with the same columns,
/// checks and indexes: a transaction for every 500 notifications, one `INSERT` from arrays for each table.
/// Foreign keys and triggers are left out, and nothing is read or decided.
pub(super) fn insert_again(
    conn: &mut ledger::Connection,
    notifications: u64,
    postgres_cpu: impl Fn() -> Option<Duration>,
) -> anyhow::Result<Inserted> {
    conn.batch_execute(
        "SET synchronous_commit = on; SET synchronize_seqscans = off; CREATE SCHEMA bare",
    )?;
    let mut tables = Vec::new();
    for name in names(conn)? {
        let table = Table::read(conn, name)?;
        if table.rows > 0 {
            conn.batch_execute(&format!(
                "CREATE TABLE bare.\"{0}\" (LIKE public.\"{0}\" INCLUDING ALL)",
                table.name
            ))?;
            tables.push(table);
        }
    }
    let batches = usize::try_from(notifications)?.div_ceil(BATCH).max(1);
    let cpu_before = postgres_cpu();
    let started = Instant::now();
    for batch in 0..batches {
        conn.transaction(|conn| {
            tables.iter().try_for_each(|table| table.insert(conn, batch, batches))
        })?;
    }
    let elapsed = started.elapsed();
    let rows: usize = tables.iter().map(|table| table.rows).sum();
    let rows = u64::try_from(rows)?;
    Ok(Inserted { rows, elapsed, postgres_cpu: cpu::spent(cpu_before, postgres_cpu()) })
}

#[derive(Debug)]
pub(super) struct Inserted {
    pub(super) rows: u64,
    pub(super) elapsed: Duration,
    pub(super) postgres_cpu: Option<Duration>,
}

/// What the consumer takes at once.
const BATCH: usize = 500;

/// The ledger's tables: not the log's, not the positions, which hold no row for a notification.
fn names(conn: &mut ledger::Connection) -> anyhow::Result<Vec<String>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let rows: Vec<Row> = sql_query(
        r"SELECT relname::text AS name FROM pg_class
           WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
             AND relname NOT LIKE 'log\_%' AND relname NOT LIKE '\_\_%' ORDER BY relname",
    )
    .load(conn)?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// All rows of one table, in the order they were written, column by column.
struct Table {
    name: String,
    rows: usize,
    columns: Vec<Column>,
}

struct Column {
    name: String,
    /// What its array is cast to where it travels as text, else nothing.
    cast: String,
    values: Values,
}

enum Values {
    Text(Vec<Option<String>>),
    Integer(Vec<Option<i32>>),
    BigInt(Vec<Option<i64>>),
    Bool(Vec<Option<bool>>),
    Timestamptz(Vec<Option<DateTime<Utc>>>),
    Bytea(Vec<Option<Vec<u8>>>),
}

impl Table {
    fn read(conn: &mut ledger::Connection, name: String) -> anyhow::Result<Table> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            name: String,
            #[diesel(sql_type = Text)]
            kind: String,
        }
        let rows: Vec<Row> = sql_query(
            "SELECT attname::text AS name, format_type(atttypid, NULL) AS kind FROM pg_attribute
              WHERE attrelid = format('public.%I', $1)::regclass AND attnum > 0 AND NOT attisdropped
                AND attgenerated = '' ORDER BY attnum",
        )
        .bind::<Text, _>(&name)
        .load(conn)?;
        let mut columns = Vec::new();
        for row in rows {
            let (values, is_cast) = Values::read(conn, &name, &row.name, &row.kind)?;
            let cast = if is_cast { format!("::{}", row.kind) } else { String::new() };
            columns.push(Column { name: row.name, cast, values });
        }
        let rows = columns.first().map_or(0, |column| column.values.len());
        Ok(Table { name, rows, columns })
    }

    /// The share of its rows that belongs to one batch of so many.
    fn insert(
        &self,
        conn: &mut ledger::Connection,
        batch: usize,
        batches: usize,
    ) -> diesel::QueryResult<()> {
        let (from, to) = (self.rows * batch / batches, self.rows * (batch + 1) / batches);
        if from == to {
            return Ok(());
        }
        let list = |each: &dyn Fn(usize, &Column) -> String| {
            let items: Vec<String> = self
                .columns
                .iter()
                .enumerate()
                .map(|(place, column)| each(place, column))
                .collect();
            items.join(", ")
        };
        let sql = format!(
            "INSERT INTO bare.\"{}\" ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM unnest({}) AS new ({})",
            self.name,
            list(&|_, column| format!("\"{}\"", column.name)),
            list(&|place, column| format!("c{place}{}", column.cast)),
            list(&|place, _| format!("${}", place + 1)),
            list(&|place, _| format!("c{place}")),
        );
        let mut query = sql_query(sql).into_boxed::<Pg>();
        for column in &self.columns {
            query = column.values.bind(query, from, to);
        }
        let inserted = query.execute(conn)?;
        if inserted == to - from { Ok(()) } else { Err(diesel::result::Error::NotFound) }
    }
}

impl Values {
    /// The column's values, and whether they travel as text because their type has no array here.
    fn read(
        conn: &mut ledger::Connection,
        table: &str,
        column: &str,
        kind: &str,
    ) -> anyhow::Result<(Values, bool)> {
        macro_rules! load {
            ($variant:ident, $value:ty, $cast:literal) => {{
                #[derive(QueryableByName)]
                struct Row {
                    #[diesel(sql_type = Nullable<$variant>)]
                    value: Option<$value>,
                }
                let rows: Vec<Row> = sql_query(format!(
                    "SELECT \"{column}\"{} AS value FROM public.\"{table}\" ORDER BY ctid",
                    $cast
                ))
                .load(conn)?;
                Values::$variant(rows.into_iter().map(|row| row.value).collect())
            }};
        }
        Ok(match kind {
            "text" => (load!(Text, String, ""), false),
            "integer" => (load!(Integer, i32, ""), false),
            "bigint" => (load!(BigInt, i64, ""), false),
            "boolean" => (load!(Bool, bool, ""), false),
            "timestamp with time zone" => (load!(Timestamptz, DateTime<Utc>, ""), false),
            "bytea" => (load!(Bytea, Vec<u8>, ""), false),
            _ => (load!(Text, String, "::text"), true),
        })
    }

    fn len(&self) -> usize {
        match self {
            Values::Text(values) => values.len(),
            Values::Integer(values) => values.len(),
            Values::BigInt(values) => values.len(),
            Values::Bool(values) => values.len(),
            Values::Timestamptz(values) => values.len(),
            Values::Bytea(values) => values.len(),
        }
    }

    fn bind<'q>(&'q self, query: Insert<'q>, from: usize, to: usize) -> Insert<'q> {
        macro_rules! part {
            ($sql_type:ident, $values:ident) => {
                query.bind::<Array<Nullable<$sql_type>>, _>(
                    $values.get(from..to).unwrap_or_default(),
                )
            };
        }
        match self {
            Values::Text(values) => part!(Text, values),
            Values::Integer(values) => part!(Integer, values),
            Values::BigInt(values) => part!(BigInt, values),
            Values::Bool(values) => part!(Bool, values),
            Values::Timestamptz(values) => part!(Timestamptz, values),
            Values::Bytea(values) => part!(Bytea, values),
        }
    }
}

type Insert<'q> = BoxedSqlQuery<'q, Pg, diesel::query_builder::SqlQuery>;
