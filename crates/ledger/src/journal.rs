//! What changed between the figures that were booked and the figures that the facts say now, as double entries.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::prelude::Insertable;
use diesel::sql_types::BigInt;
use diesel::{ExecuteCopyFromDsl as _, PgConnection, QueryResult, QueryableByName, RunQueryDsl};

use crate::fact::Key;
use crate::schema::{journal_entry, journal_line};
use crate::statement::statement;
use crate::trade::Trade;

/// What the journal holds of a trade: the figures of the last fold.
#[derive(Default)]
pub(crate) struct Booked {
    pub(crate) payment: Option<Figures>,
    /// By request number.
    pub(crate) refunds: BTreeMap<String, Figures>,
}

/// A movement's figures, positive on refunds too.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) total_fen: i64,
    pub(crate) receipt_fen: i64,
}

/// An entry to write.
pub(crate) struct Posting<'f> {
    pub(crate) key: Key<'f>,
    /// Empty for the payment.
    pub(crate) request_no: String,
    /// The movement's figures now.
    pub(crate) is: Figures,
    /// What they changed by.
    pub(crate) change: Figures,
    reason: &'static str,
    moved_at: DateTime<Utc>,
    /// (account, fen): debits positive.
    lines: [(&'static str, i64); 3],
}

/// The entries between what was booked and what the facts say now. `None` where an amount does not fit.
pub(crate) fn post_changes<'f>(
    key: Key<'f>,
    trade: &Trade,
    was: &Booked,
    postings: &mut Vec<Posting<'f>>,
) -> Option<()> {
    let mut post = |request_no: &str, sign: i64, was: Option<Figures>, is: Figures, moved_at| {
        let before = was.unwrap_or_default();
        let change = Figures {
            total_fen: is.total_fen.checked_sub(before.total_fen)?,
            receipt_fen: is.receipt_fen.checked_sub(before.receipt_fen)?,
        };
        let total = change.total_fen.checked_mul(sign)?;
        let receipt = change.receipt_fen.checked_mul(sign)?;
        let discount = total.checked_sub(receipt)?;
        let sales = total.checked_neg()?;
        if change != Figures::default() {
            postings.push(Posting {
                key,
                request_no: request_no.to_owned(),
                is,
                change,
                reason: if was.is_none() { "booked" } else { "corrected" },
                moved_at,
                lines: [
                    ("alipay:clearing", receipt),
                    ("merchant:discount", discount),
                    ("sales", sales),
                ],
            });
        }
        Some(())
    };
    if let Some(paid) = &trade.paid {
        let is = Figures { total_fen: paid.total.get(), receipt_fen: paid.receipt.get() };
        post("", 1, was.payment, is, paid.at)?;
    }
    for (request_no, refund) in &trade.refunds {
        let is = Figures { total_fen: refund.amount.get(), receipt_fen: refund.receipt.get() };
        let before = was.refunds.get(request_no.as_str()).copied();
        post(request_no.as_str(), -1, before, is, refund.at)?;
    }
    // A refund first told without its number, now known by it: taken back where it stood.
    for (request_no, figures) in &was.refunds {
        if !trade.refunds.keys().any(|known| known.as_str() == request_no) {
            let moved_at = trade.refunds.values().map(|refund| refund.at).min()?;
            post(request_no, -1, Some(*figures), Figures::default(), moved_at)?;
        }
    }
    Some(())
}

/// Writes the entries, and gives the number of each.
pub(crate) fn store(
    conn: &mut PgConnection,
    postings: &[Posting<'_>],
    now: DateTime<Utc>,
) -> QueryResult<Vec<i64>> {
    if postings.is_empty() {
        return Ok(Vec::new());
    }
    let entry_ids = take_entry_ids(conn, postings.len())?;
    let numbered = || entry_ids.iter().copied().zip(postings);
    let entries: Vec<EntryRow<'_>> = numbered()
        .map(|(entry_id, posting)| EntryRow {
            app_id: posting.key.app_id.as_str(),
            entry_id,
            trade_no: posting.key.trade_no.as_str(),
            request_no: &posting.request_no,
            reason: posting.reason,
            moved_at: posting.moved_at,
            recorded_at: now,
        })
        .collect();
    diesel::copy_from(journal_entry::table).from_insertable(entries).execute(conn)?;
    let lines: Vec<LineRow<'_>> = numbered()
        .flat_map(|(entry_id, posting)| {
            let lines = posting.lines.iter().filter(|(_, amount_fen)| *amount_fen != 0);
            lines.map(move |(account, amount_fen)| LineRow {
                app_id: posting.key.app_id.as_str(),
                entry_id,
                account,
                amount_fen: *amount_fen,
            })
        })
        .collect();
    diesel::copy_from(journal_line::table).from_insertable(lines).execute(conn)?;
    Ok(entry_ids)
}

#[derive(Insertable)]
#[diesel(table_name = journal_entry, treat_none_as_default_value = false)]
struct EntryRow<'p> {
    app_id: &'p str,
    entry_id: i64,
    trade_no: &'p str,
    request_no: &'p str,
    reason: &'static str,
    moved_at: DateTime<Utc>,
    recorded_at: DateTime<Utc>,
}

#[derive(Insertable)]
#[diesel(table_name = journal_line, treat_none_as_default_value = false)]
struct LineRow<'p> {
    app_id: &'p str,
    entry_id: i64,
    account: &'static str,
    amount_fen: i64,
}

fn take_entry_ids(conn: &mut PgConnection, count: usize) -> QueryResult<Vec<i64>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        entry_id: i64,
    }
    let rows: Vec<Row> = statement(
        "SELECT nextval('journal_entry_entry_id_seq') AS entry_id FROM generate_series(1, $1)",
    )
    .bind::<BigInt, _>(i64::try_from(count).unwrap_or(i64::MAX))
    .load(conn)?;
    Ok(rows.into_iter().map(|row| row.entry_id).collect())
}
