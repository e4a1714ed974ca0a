use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bool, Bytea, Nullable, Text, Timestamptz};
use diesel::{PgConnection, QueryableByName, RunQueryDsl as _, sql_query};
use payment::{AppId, Fact, TradeNo};

use super::sheet::{Balance, RefundSheet, Sheet, TradeSheet};
use crate::book::BookError;
use crate::cursor;
use crate::fact::FactRow;
use crate::trade;

/// Something in the books that is not what the facts say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub app_id: String,
    pub trade_no: String,
    /// Which figure, as `trade.total_fen` or `refund R1`.
    pub what: String,
    /// What it must be; empty for nothing at all.
    pub expected: String,
    /// What stands there; empty for nothing at all.
    pub found: String,
}

/// What was walked over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub trades: u64,
    pub facts: u64,
    pub refunds: u64,
    /// Of the journal.
    pub entries: u64,
    pub findings: u64,
    /// Σ of the payments' totals, as the trades' rows have them.
    pub paid_fen: i64,
    /// Σ of the payments' receipts (商家实收).
    pub receipt_fen: i64,
    /// Σ of what went back to buyers.
    pub refunded_fen: i64,
    /// The merchant's part of that.
    pub refunded_receipt_fen: i64,
    /// The journal's balance of `alipay:clearing`: receipts less the merchant's part of refunds, where all is well.
    pub clearing_fen: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("cannot read the books")]
    Database(#[from] diesel::result::Error),
    #[error("the books' totals do not fit into 64 bits of fen, at trade `{trade_no}`")]
    TooLarge { trade_no: String },
}

/// Walks over all trades of all apps in one snapshot and tells what does not fit: the facts folded anew against the
/// trade's row, its refunds, its conflicts and the journal's sum of each movement; entries that do not sum to zero;
/// rows without the facts they stand on; messages that were applied and left no fact. Holds one trade at a time.
///
/// Begins and ends a transaction of its own, which writes nothing.
pub fn books(
    conn: &mut PgConnection,
    mut on_finding: impl FnMut(&Finding),
) -> Result<Totals, AuditError> {
    conn.build_transaction().read_only().repeatable_read().run(|conn| {
        let mut totals = Totals::default();
        let mut report = |totals: &mut Totals, finding: &Finding| {
            totals.findings += 1;
            on_finding(finding);
        };
        sql_query(TRADES).execute(conn)?;
        let mut book = Book::default();
        cursor::for_each(conn, "audit", |row: Row| {
            if (&row.app_id, &row.trade_no) != (&book.app_id, &book.trade_no) {
                let next = Book::of(&row);
                let done = std::mem::replace(&mut book, next);
                done.check(&mut totals, &mut report)?;
            }
            book.take(row);
            Ok::<(), AuditError>(())
        })?;
        book.check(&mut totals, &mut report)?;
        sql_query(FACTLESS).execute(conn)?;
        cursor::for_each(conn, "audit", |row: Factless| {
            let finding = Finding {
                app_id: row.app_id,
                trade_no: row.trade_no.unwrap_or_default(),
                what: format!("facts of the applied message at {}", row.place),
                expected: "some".to_owned(),
                found: String::new(),
            };
            report(&mut totals, &finding);
            Ok::<(), AuditError>(())
        })?;
        Ok(totals)
    })
}

/// Every row about every trade, a trade's rows beside each other. Each branch comes sorted out of an index.
const TRADES: &str = "
    DECLARE audit NO SCROLL CURSOR FOR
    SELECT app_id, trade_no, 'fact' AS part, request_no, digest, out_trade_no, kind, total_fen, receipt_fen,
           reported_fen, reported_as, told_at AS at, NULL::bool AS known, NULL::bool AS has_conflict,
           NULL::timestamptz AS created_at, NULL::timestamptz AS closed_at, NULL::bigint AS other_fen
      FROM fact
    UNION ALL
    SELECT app_id, trade_no, 'trade', NULL, NULL, out_trade_no, state, total_fen, receipt_fen, refunded_fen,
           doubt, paid_at, receipt_known, has_conflict, created_at, closed_at, NULL
      FROM trade
    UNION ALL
    SELECT app_id, trade_no, 'refund', request_no, NULL, NULL, NULL, amount_fen, receipt_fen, NULL, NULL,
           refunded_at, confirmed, has_conflict, NULL, NULL, NULL
      FROM refund
    UNION ALL
    SELECT app_id, trade_no, 'conflict', request_no, NULL, NULL, subject, NULL, NULL, NULL, told, NULL, NULL,
           NULL, NULL, NULL, NULL
      FROM conflict
    UNION ALL
    SELECT e.app_id, e.trade_no, 'entry', e.request_no, NULL, NULL, NULL, l.sales_fen, l.clearing_fen,
           l.discount_fen, e.entry_id::text, NULL, NULL, NULL, NULL, NULL, l.rest_fen
      FROM journal_entry e CROSS JOIN LATERAL (
           SELECT coalesce(sum(amount_fen) FILTER (WHERE account = 'sales'), 0)::bigint AS sales_fen,
                  coalesce(sum(amount_fen) FILTER (WHERE account = 'alipay:clearing'), 0)::bigint AS clearing_fen,
                  coalesce(sum(amount_fen) FILTER (WHERE account = 'merchant:discount'), 0)::bigint
                      AS discount_fen,
                  sum(amount_fen)::bigint AS rest_fen
             FROM journal_line l WHERE l.app_id = e.app_id AND l.entry_id = e.entry_id OFFSET 0) AS l
    ORDER BY app_id, trade_no";

/// Messages that were applied, of trades that no fact tells of.
const FACTLESS: &str = "
    DECLARE audit NO SCROLL CURSOR FOR
    SELECT app_id, trade_no, concat_ws('/', log_topic, log_partition, log_offset) AS place
      FROM inbox i
     WHERE outcome = 'applied' AND NOT EXISTS (
           SELECT 1 FROM fact f WHERE f.app_id = i.app_id AND f.trade_no = i.trade_no)";

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    app_id: String,
    #[diesel(sql_type = Text)]
    trade_no: String,
    #[diesel(sql_type = Text)]
    part: String,
    #[diesel(sql_type = Nullable<Text>)]
    request_no: Option<String>,
    #[diesel(sql_type = Nullable<Bytea>)]
    digest: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Text>)]
    out_trade_no: Option<String>,
    /// A fact's kind, a trade's state, a conflict's subject.
    #[diesel(sql_type = Nullable<Text>)]
    kind: Option<String>,
    /// A refund's amount; an entry's change of `sales`.
    #[diesel(sql_type = Nullable<BigInt>)]
    total_fen: Option<i64>,
    /// An entry's change of `alipay:clearing`.
    #[diesel(sql_type = Nullable<BigInt>)]
    receipt_fen: Option<i64>,
    /// A trade's refunded sum; an entry's change of `merchant:discount`.
    #[diesel(sql_type = Nullable<BigInt>)]
    reported_fen: Option<i64>,
    /// A trade's doubt, a conflict's value, an entry's number.
    #[diesel(sql_type = Nullable<Text>)]
    reported_as: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Bool>)]
    known: Option<bool>,
    #[diesel(sql_type = Nullable<Bool>)]
    has_conflict: Option<bool>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    created_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    closed_at: Option<DateTime<Utc>>,
    /// Of an entry: what its lines sum to.
    #[diesel(sql_type = Nullable<BigInt>)]
    other_fen: Option<i64>,
}

#[derive(QueryableByName)]
struct Factless {
    #[diesel(sql_type = Text)]
    app_id: String,
    #[diesel(sql_type = Nullable<Text>)]
    trade_no: Option<String>,
    #[diesel(sql_type = Text)]
    place: String,
}

/// Everything that stands about one trade.
#[derive(Default)]
struct Book {
    app_id: String,
    trade_no: String,
    facts: Vec<Fact>,
    fact_rows: u64,
    entries: u64,
    stands: Sheet,
    /// What is wrong in itself, whatever the facts say: what, expected, found.
    broken: Vec<(String, String, String)>,
}

impl Book {
    fn of(row: &Row) -> Book {
        Book { app_id: row.app_id.clone(), trade_no: row.trade_no.clone(), ..Book::default() }
    }

    fn take(&mut self, row: Row) {
        let request_no = row.request_no.clone().unwrap_or_default();
        match row.part.as_str() {
            "fact" => self.take_fact(row),
            "trade" => {
                self.stands.trade = Some(TradeSheet {
                    out_trade_no: row.out_trade_no.unwrap_or_default(),
                    state: row.kind.unwrap_or_default(),
                    total_fen: row.total_fen,
                    receipt_fen: row.receipt_fen,
                    receipt_known: row.known.unwrap_or_default(),
                    refunded_fen: row.reported_fen.unwrap_or_default(),
                    created_at: row.created_at,
                    paid_at: row.at,
                    closed_at: row.closed_at,
                    has_conflict: row.has_conflict.unwrap_or_default(),
                    doubt: row.reported_as,
                });
            }
            "refund" => {
                let refund = RefundSheet {
                    amount_fen: row.total_fen.unwrap_or_default(),
                    receipt_fen: row.receipt_fen.unwrap_or_default(),
                    confirmed: row.known.unwrap_or_default(),
                    refunded_at: row.at,
                    has_conflict: row.has_conflict.unwrap_or_default(),
                };
                self.stands.refunds.insert(request_no, refund);
            }
            "conflict" => {
                let (subject, told) = (row.kind.unwrap_or_default(), row.reported_as);
                self.stands.conflicts.insert((subject, request_no, told.unwrap_or_default()));
            }
            _ => self.take_entry(request_no, row),
        }
    }

    fn take_fact(&mut self, row: Row) {
        self.fact_rows += 1;
        let digest = row.digest;
        let fact = FactRow {
            out_trade_no: row.out_trade_no.unwrap_or_default(),
            kind: row.kind.unwrap_or_default(),
            request_no: row.request_no,
            total_fen: row.total_fen,
            receipt_fen: row.receipt_fen,
            reported_fen: row.reported_fen,
            reported_as: row.reported_as,
            told_at: row.at,
        };
        let ids = (AppId::parse(&row.app_id), TradeNo::parse(&row.trade_no));
        let (Ok(app_id), Ok(trade_no)) = ids else {
            let found = "none that can be read".to_owned();
            self.broken.push(("fact: trade_no".to_owned(), "one of ours".to_owned(), found));
            return;
        };
        match fact.parse(&app_id, &trade_no) {
            Ok(fact) => {
                if digest.as_deref() != Some(fact.digest().as_slice()) {
                    let what = format!("fact {}: digest", fact.told.kind());
                    let found = digest.unwrap_or_default();
                    self.broken.push((what, hex(&fact.digest()), hex(&found)));
                }
                self.facts.push(fact);
            }
            Err(BookError::Stored { column, .. }) => {
                let found = "none that can be read".to_owned();
                self.broken.push((format!("fact: {column}"), "one of ours".to_owned(), found));
            }
            Err(error @ (BookError::Database(_) | BookError::TooLarge { .. })) => {
                self.broken.push(("fact".to_owned(), String::new(), error.to_string()));
            }
        }
    }

    fn take_entry(&mut self, request_no: String, row: Row) {
        self.entries += 1;
        if row.other_fen != Some(0) {
            let found = row.other_fen.map_or("no lines".to_owned(), |fen| fen.to_string());
            let what = format!("journal entry {}: sum", row.reported_as.unwrap_or_default());
            self.broken.push((what, "0".to_owned(), found));
        }
        let change = [row.receipt_fen, row.reported_fen, row.total_fen];
        let balance = self.stands.balances.entry(request_no).or_default();
        for (balance, change) in balance.iter_mut().zip(change) {
            *balance += i128::from(change.unwrap_or_default());
        }
    }

    fn check(
        mut self,
        totals: &mut Totals,
        report: &mut impl FnMut(&mut Totals, &Finding),
    ) -> Result<(), AuditError> {
        self.stands.balances.retain(|_, balance| *balance != Balance::default());
        self.count(totals)
            .ok_or_else(|| AuditError::TooLarge { trade_no: self.trade_no.clone() })?;
        let expected = trade::fold(&self.facts).map(|trade| Sheet::of(&trade)).unwrap_or_default();
        if expected != self.stands {
            let (expected, mut stands) = (expected.lines(), self.stands.lines());
            for (what, expected) in expected {
                let found = stands.remove(&what).unwrap_or_default();
                if found != expected {
                    self.broken.push((what, expected, found));
                }
            }
            let beyond = stands.into_iter().map(|(what, found)| (what, String::new(), found));
            self.broken.extend(beyond);
        }
        for (what, expected, found) in self.broken {
            let (app_id, trade_no) = (self.app_id.clone(), self.trade_no.clone());
            report(totals, &Finding { app_id, trade_no, what, expected, found });
        }
        Ok(())
    }

    /// `None` where a sum does not fit.
    fn count(&self, totals: &mut Totals) -> Option<()> {
        let add = |sum: &mut i64, fen: i64| {
            *sum = sum.checked_add(fen)?;
            Some(())
        };
        totals.facts += self.fact_rows;
        totals.entries += self.entries;
        totals.refunds += u64::try_from(self.stands.refunds.len()).unwrap_or(u64::MAX);
        if let Some(trade) = &self.stands.trade {
            totals.trades += 1;
            if trade.paid_at.is_some() {
                add(&mut totals.paid_fen, trade.total_fen.unwrap_or_default())?;
                add(&mut totals.receipt_fen, trade.receipt_fen.unwrap_or_default())?;
            }
        }
        for refund in self.stands.refunds.values() {
            add(&mut totals.refunded_fen, refund.amount_fen)?;
            add(&mut totals.refunded_receipt_fen, refund.receipt_fen)?;
        }
        for [clearing, ..] in self.stands.balances.values() {
            add(&mut totals.clearing_fen, i64::try_from(*clearing).ok()?)?;
        }
        Some(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
