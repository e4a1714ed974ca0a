//! The same rows into tables of the same columns and indexes, by multi-row inserts and nothing else.

use std::error::Error;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Integer, Nullable, Text, Timestamptz};
use diesel::{Connection as _, QueryResult, QueryableByName, RunQueryDsl as _, sql_query};
use ledger::Connection;

use crate::statement::statement;
use crate::{Cost, Meter};

type Time = DateTime<Utc>;

/// A table's rows, held as columns, and the statement that inserts some of them.
macro_rules! tables {
    ($($table:ident by $order:literal { $($column:ident: $sql:ty => $rust:ty,)* })*) => {$(
        mod $table {
            use super::*;

            #[derive(QueryableByName)]
            struct Row {
                $(#[diesel(sql_type = $sql)] $column: $rust,)*
            }

            #[derive(Default)]
            pub(super) struct Columns {
                rows: usize,
                $($column: Vec<$rust>,)*
            }

            impl Columns {
                pub(super) fn load(conn: &mut Connection) -> QueryResult<Columns> {
                    let text = concat!(
                        "SELECT ", tables!(@list $($column)*), " FROM public.", stringify!($table),
                        " ORDER BY ", $order,
                    );
                    let rows: Vec<Row> = sql_query(text).load(conn)?;
                    let mut columns = Columns { rows: rows.len(), ..Columns::default() };
                    for row in rows {
                        $(columns.$column.push(row.$column);)*
                    }
                    Ok(columns)
                }

                pub(super) fn insert(&self, conn: &mut Connection, batch: usize, of: usize) -> QueryResult<usize> {
                    let range = self.rows * batch / of..self.rows * (batch + 1) / of;
                    statement(concat!(
                        "INSERT INTO bare.", stringify!($table), " (", tables!(@list $($column)*), ")",
                        " OVERRIDING SYSTEM VALUE SELECT * FROM unnest(", tables!(@places $($column)*), ")",
                    ))
                    $(.bind::<Array<$sql>, _>(self.$column.get(range.clone()).unwrap_or_default()))*
                    .execute(conn)
                }
            }
        }
    )*};
    (@list $first:ident $($column:ident)*) => {
        concat!(stringify!($first) $(, ", ", stringify!($column))*)
    };
    (@places $a:ident $b:ident $c:ident $d:ident) => { "$1, $2, $3, $4" };
    (@places $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident) => {
        "$1, $2, $3, $4, $5, $6, $7"
    };
    (@places $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident) => {
        "$1, $2, $3, $4, $5, $6, $7, $8"
    };
    (@places $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident $i:ident $j:ident
             $k:ident $l:ident $m:ident) => {
        "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13"
    };
    (@places $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident $i:ident $j:ident
             $k:ident $l:ident $m:ident $n:ident) => {
        "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14"
    };
}

tables! {
    inbox by "recorded_at, log_partition, log_offset" {
        app_id: Text => String,
        log_topic: Text => String,
        log_partition: Integer => i32,
        log_offset: BigInt => i64,
        notify_id: Text => String,
        kind: Text => String,
        source: Text => String,
        outcome: Text => String,
        trade_no: Nullable<Text> => Option<String>,
        out_trade_no: Nullable<Text> => Option<String>,
        received_at: Timestamptz => Time,
        recorded_at: Timestamptz => Time,
        body: Bytea => Vec<u8>,
    }
    fact by "recorded_at, trade_no" {
        app_id: Text => String,
        trade_no: Text => String,
        digest: Bytea => Vec<u8>,
        out_trade_no: Text => String,
        kind: Text => String,
        request_no: Nullable<Text> => Option<String>,
        total_fen: Nullable<BigInt> => Option<i64>,
        receipt_fen: Nullable<BigInt> => Option<i64>,
        reported_fen: Nullable<BigInt> => Option<i64>,
        reported_as: Nullable<Text> => Option<String>,
        told_at: Nullable<Timestamptz> => Option<Time>,
        source: Text => String,
        recorded_at: Timestamptz => Time,
    }
    trade by "trade_no" {
        app_id: Text => String,
        trade_no: Text => String,
        out_trade_no: Text => String,
        state: Text => String,
        total_fen: Nullable<BigInt> => Option<i64>,
        receipt_fen: Nullable<BigInt> => Option<i64>,
        receipt_known: Bool => bool,
        refunded_fen: BigInt => i64,
        created_at: Nullable<Timestamptz> => Option<Time>,
        paid_at: Nullable<Timestamptz> => Option<Time>,
        closed_at: Nullable<Timestamptz> => Option<Time>,
        has_conflict: Bool => bool,
        doubt: Nullable<Text> => Option<String>,
        changed_at: Timestamptz => Time,
    }
    refund by "refunded_at" {
        app_id: Text => String,
        trade_no: Text => String,
        request_no: Text => String,
        amount_fen: BigInt => i64,
        receipt_fen: BigInt => i64,
        confirmed: Bool => bool,
        refunded_at: Timestamptz => Time,
        has_conflict: Bool => bool,
    }
    journal_entry by "entry_id" {
        app_id: Text => String,
        entry_id: BigInt => i64,
        trade_no: Text => String,
        request_no: Text => String,
        reason: Text => String,
        moved_at: Timestamptz => Time,
        recorded_at: Timestamptz => Time,
    }
    journal_line by "entry_id" {
        app_id: Text => String,
        entry_id: BigInt => i64,
        account: Text => String,
        amount_fen: BigInt => i64,
    }
    outbox by "outbox_id" {
        outbox_id: BigInt => i64,
        app_id: Text => String,
        kind: Text => String,
        event_id: Text => String,
        key: Text => String,
        body: Nullable<Text> => Option<String>,
        recorded_at: Timestamptz => Time,
    }
}

/// Inserts every row that the ledger has into tables of their own, in as many transactions as it took before.
pub(crate) fn insert(conn: &mut Connection, batches: usize) -> Result<Cost, Box<dyn Error>> {
    sql_query("CREATE SCHEMA bare").execute(conn)?;
    for table in ["inbox", "fact", "trade", "refund", "journal_entry", "journal_line", "outbox"] {
        let like = format!("CREATE TABLE bare.{table} (LIKE public.{table} INCLUDING ALL)");
        sql_query(like).execute(conn)?;
    }
    let inbox = inbox::Columns::load(conn)?;
    let fact = fact::Columns::load(conn)?;
    let trade = trade::Columns::load(conn)?;
    let refund = refund::Columns::load(conn)?;
    let journal_entry = journal_entry::Columns::load(conn)?;
    let journal_line = journal_line::Columns::load(conn)?;
    let outbox = outbox::Columns::load(conn)?;
    sql_query("CHECKPOINT").execute(conn)?;

    let mut notifications = 0;
    let mut meter = Meter::start(conn)?;
    for batch in 0..batches {
        notifications += meter.measure(|| {
            conn.transaction(|conn| {
                fact.insert(conn, batch, batches)?;
                trade.insert(conn, batch, batches)?;
                refund.insert(conn, batch, batches)?;
                journal_entry.insert(conn, batch, batches)?;
                journal_line.insert(conn, batch, batches)?;
                outbox.insert(conn, batch, batches)?;
                inbox.insert(conn, batch, batches)
            })
        })?;
    }
    Ok(meter.stop(notifications))
}
