//! What changed between the figures that were booked and the figures that the facts say now, as double entries.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Text, Timestamptz};
use diesel::{PgConnection, QueryResult, RunQueryDsl, sql_query};

use crate::fact::{Key, columns};
use crate::trade::Trade;

/// What the journal holds of a trade: the figures of the last fold.
#[derive(Default)]
pub(crate) struct Booked {
    pub(crate) payment: Option<Figures>,
    pub(crate) refunds: BTreeMap<String, Figures>,
}

/// A movement's figures, positive on refunds too.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) total: i64,
    pub(crate) receipt: i64,
}

/// An entry to write: what one movement's figures changed by, signed as on the payment's side.
pub(crate) struct Posting<'k> {
    key: &'k Key,
    request_no: String,
    reason: &'static str,
    moved_at: DateTime<Utc>,
    /// (account, fen): debits positive.
    lines: [(&'static str, i64); 3],
}

/// The entries between what was booked and what the facts say now. `None` where an amount does not fit.
pub(crate) fn post_changes<'k>(
    key: &'k Key,
    trade: &Trade,
    was: Option<&Booked>,
    postings: &mut Vec<Posting<'k>>,
) -> Option<()> {
    let mut post = |request_no: &str, sign: i64, was: Option<Figures>, is: Figures, moved_at| {
        let before = was.unwrap_or_default();
        let total = is.total.checked_sub(before.total)?.checked_mul(sign)?;
        let receipt = is.receipt.checked_sub(before.receipt)?.checked_mul(sign)?;
        let discount = total.checked_sub(receipt)?;
        let sales = total.checked_neg()?;
        if total != 0 || receipt != 0 {
            postings.push(Posting {
                key,
                request_no: request_no.to_owned(),
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
        let is = Figures { total: paid.total.get(), receipt: paid.receipt.get() };
        post("", 1, was.and_then(|was| was.payment), is, paid.at)?;
    }
    for (request_no, refund) in &trade.refunds {
        let is = Figures { total: refund.amount.get(), receipt: refund.receipt.get() };
        let before = was.and_then(|was| was.refunds.get(request_no.as_str())).copied();
        post(request_no.as_str(), -1, before, is, refund.at)?;
    }
    // A refund first told without its number, now known by it: taken back where it stood.
    let now_unknown = was.iter().flat_map(|was| &was.refunds);
    for (request_no, figures) in now_unknown {
        if !trade.refunds.keys().any(|known| known.as_str() == request_no) {
            let moved_at = trade.refunds.values().map(|refund| refund.at).min()?;
            post(request_no, -1, Some(*figures), Figures::default(), moved_at)?;
        }
    }
    Some(())
}

pub(crate) fn store(
    conn: &mut PgConnection,
    postings: &[Posting<'_>],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    if postings.is_empty() {
        return Ok(());
    }
    let (apps, trade_nos) = columns(postings.iter().map(|posting| posting.key));
    let (mut line_place, mut line_account, mut line_fen) = (Vec::new(), Vec::new(), Vec::new());
    for (place, posting) in (1_i64..).zip(postings) {
        for (account, fen) in posting.lines.iter().filter(|(_, fen)| *fen != 0) {
            line_place.push(place);
            line_account.push(*account);
            line_fen.push(*fen);
        }
    }
    sql_query(
        "WITH numbered AS MATERIALIZED (
             SELECT nextval(pg_get_serial_sequence('journal_entry', 'entry_id')) AS entry_id, new.*
               FROM unnest($1, $2, $3, $4, $5) WITH ORDINALITY
                    AS new (app_id, trade_no, request_no, reason, moved_at, place)),
         entries AS (
             INSERT INTO journal_entry (app_id, entry_id, trade_no, request_no, reason, moved_at, recorded_at)
             OVERRIDING SYSTEM VALUE
             SELECT app_id, entry_id, trade_no, request_no, reason, moved_at, $6 FROM numbered)
         INSERT INTO journal_line (app_id, entry_id, account, amount_fen)
         SELECT n.app_id, n.entry_id, line.account, line.amount_fen
           FROM unnest($7, $8, $9) AS line (place, account, amount_fen) JOIN numbered n USING (place)",
    )
    .bind::<Array<Text>, _>(apps)
    .bind::<Array<Text>, _>(trade_nos)
    .bind::<Array<Text>, _>(postings.iter().map(|p| p.request_no.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(postings.iter().map(|p| p.reason).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(postings.iter().map(|p| p.moved_at).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .bind::<Array<BigInt>, _>(line_place)
    .bind::<Array<Text>, _>(line_account)
    .bind::<Array<BigInt>, _>(line_fen)
    .execute(conn)?;
    Ok(())
}
