use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Nullable, Text, Timestamptz};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use payment::{AppId, Fact, Fen, OutTradeNo, Reported, RequestNo, Told, TradeNo};

use crate::trade::{self, Trade};

/// Who told a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Notification,
    Query,
    Bill,
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Origin::Notification => "notification",
            Origin::Query => "query",
            Origin::Bill => "bill",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BookError {
    #[error("cannot book facts")]
    Database(#[from] diesel::result::Error),
    #[error("trade `{trade_no}` has amounts that do not fit into the journal")]
    TooLarge { trade_no: TradeNo },
    #[error(
        "a stored fact of trade `{trade_no}` cannot be read back: its {column} is not one of ours"
    )]
    Stored { trade_no: String, column: &'static str },
}

/// Adds facts to the set, folds the trades they belong to anew, and posts what changed to the journal.
///
/// Must run in a transaction. The trades' rows are locked in key order, so two callers with facts about the
/// same trade queue up, and the second sees the first one's facts. A constant number of round trips, whatever
/// the number of facts. Returns how many facts were new.
pub fn record(
    conn: &mut PgConnection,
    facts: &[(Fact, Origin)],
    now: DateTime<Utc>,
) -> Result<usize, BookError> {
    if facts.is_empty() {
        return Ok(0);
    }
    let trades: BTreeMap<Key, &OutTradeNo> =
        facts.iter().map(|(fact, _)| (key(fact), &fact.out_trade_no)).collect();
    lock(conn, &trades, now)?;
    let touched = insert_facts(conn, facts, now)?;
    let new_facts = touched.len();
    let touched: BTreeSet<Key> = touched.into_iter().collect();
    if touched.is_empty() {
        return Ok(0);
    }
    let before = load_booked(conn, &touched)?;
    let known = load_facts(conn, &touched)?;
    let after: Vec<(&Key, Trade)> =
        touched.iter().filter_map(|key| Some((key, trade::fold(known.get(key)?)?))).collect();

    let mut postings = Vec::new();
    for (key, trade) in &after {
        let was = before.get(*key);
        post_changes(key, trade, was, &mut postings)
            .ok_or_else(|| BookError::TooLarge { trade_no: key.1.clone() })?;
    }
    store_trades(conn, &after, now)?;
    store_refunds(conn, &after)?;
    store_conflicts(conn, &after, now)?;
    store_postings(conn, &postings, now)?;
    Ok(new_facts)
}

type Key = (AppId, TradeNo);

fn key(fact: &Fact) -> Key {
    (fact.app_id.clone(), fact.trade_no.clone())
}

/// The keys as two parallel columns.
fn columns<'k>(keys: impl IntoIterator<Item = &'k Key>) -> (Vec<&'k str>, Vec<&'k str>) {
    keys.into_iter().map(|(app_id, trade_no)| (app_id.as_str(), trade_no.as_str())).unzip()
}

/// Makes the rows of trades never heard of and locks all of them, both in key order: no deadlocks.
fn lock(
    conn: &mut PgConnection,
    trades: &BTreeMap<Key, &OutTradeNo>,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let (apps, trade_nos) = columns(trades.keys());
    let out_trade_nos: Vec<&str> = trades.values().map(|no| no.as_str()).collect();
    sql_query(
        "INSERT INTO trade (app_id, trade_no, out_trade_no, state, changed_at)
         SELECT app_id, trade_no, out_trade_no, 'waiting', $4
           FROM unnest($1, $2, $3) AS new (app_id, trade_no, out_trade_no)
         ON CONFLICT DO NOTHING",
    )
    .bind::<Array<Text>, _>(&apps)
    .bind::<Array<Text>, _>(&trade_nos)
    .bind::<Array<Text>, _>(out_trade_nos)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    sql_query(
        "SELECT 1 FROM trade JOIN unnest($1, $2) AS asked (app_id, trade_no) USING (app_id, trade_no)
          ORDER BY trade.app_id COLLATE \"C\", trade.trade_no COLLATE \"C\" FOR UPDATE OF trade",
    )
    .bind::<Array<Text>, _>(apps)
    .bind::<Array<Text>, _>(trade_nos)
    .execute(conn)?;
    Ok(())
}

/// A fact's columns, as stored.
#[derive(Default)]
struct FactColumns {
    request_no: Option<String>,
    total_fen: Option<i64>,
    receipt_fen: Option<i64>,
    reported_fen: Option<i64>,
    reported_as: Option<&'static str>,
    told_at: Option<DateTime<Utc>>,
}

fn fact_columns(told: &Told) -> FactColumns {
    let empty = FactColumns::default();
    match told {
        Told::Created { total, at } => {
            FactColumns { total_fen: Some(total.get()), told_at: Some(*at), ..empty }
        }
        Told::Paid { total, receipt, at } => FactColumns {
            total_fen: Some(total.get()),
            receipt_fen: receipt.map(Fen::get),
            told_at: Some(*at),
            ..empty
        },
        Told::Refunded { request_no, reported, receipt, at } => {
            let (amount, meaning) = match reported {
                Reported::Cumulative(amount) => (amount, "cumulative"),
                Reported::Single(amount) => (amount, "single"),
            };
            FactColumns {
                request_no: Some(request_no.to_string()),
                receipt_fen: receipt.map(Fen::get),
                reported_fen: Some(amount.get()),
                reported_as: Some(meaning),
                told_at: Some(*at),
                ..empty
            }
        }
        Told::Closed { at } => FactColumns { told_at: *at, ..empty },
        Told::Finished => empty,
    }
}

/// Inserts the facts that are not known yet; the trades of those, one per new fact.
fn insert_facts(
    conn: &mut PgConnection,
    facts: &[(Fact, Origin)],
    now: DateTime<Utc>,
) -> Result<Vec<Key>, BookError> {
    let columns: Vec<FactColumns> =
        facts.iter().map(|(fact, _)| fact_columns(&fact.told)).collect();
    let rows: Vec<KeyRow> = sql_query(
        "INSERT INTO fact (app_id, trade_no, digest, out_trade_no, kind, request_no, total_fen, receipt_fen,
                           reported_fen, reported_as, told_at, source, recorded_at)
         SELECT new.*, $13
           FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) AS new
         ON CONFLICT DO NOTHING
         RETURNING app_id, trade_no",
    )
    .bind::<Array<Text>, _>(facts.iter().map(|(fact, _)| fact.app_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(facts.iter().map(|(fact, _)| fact.trade_no.as_str()).collect::<Vec<_>>())
    .bind::<Array<Bytea>, _>(facts.iter().map(|(fact, _)| fact.digest().to_vec()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(
        facts.iter().map(|(fact, _)| fact.out_trade_no.as_str()).collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(facts.iter().map(|(fact, _)| fact.told.kind()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(
        columns.iter().map(|fact| fact.request_no.as_deref()).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<BigInt>>, _>(columns.iter().map(|fact| fact.total_fen).collect::<Vec<_>>())
    .bind::<Array<Nullable<BigInt>>, _>(
        columns.iter().map(|fact| fact.receipt_fen).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<BigInt>>, _>(
        columns.iter().map(|fact| fact.reported_fen).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<Text>>, _>(columns.iter().map(|fact| fact.reported_as).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(
        columns.iter().map(|fact| fact.told_at).collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(facts.iter().map(|(_, origin)| origin.as_str()).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .load(conn)?;
    rows.into_iter().map(KeyRow::parse).collect()
}

#[derive(QueryableByName)]
struct KeyRow {
    #[diesel(sql_type = Text)]
    app_id: String,
    #[diesel(sql_type = Text)]
    trade_no: String,
}

impl KeyRow {
    fn parse(self) -> Result<Key, BookError> {
        parse_key(&self.app_id, &self.trade_no)
    }
}

fn parse_key(app_id: &str, trade_no: &str) -> Result<Key, BookError> {
    let wrong = |column| BookError::Stored { trade_no: trade_no.to_owned(), column };
    Ok((
        AppId::parse(app_id).map_err(|_| wrong("app_id"))?,
        TradeNo::parse(trade_no).map_err(|_| wrong("trade_no"))?,
    ))
}

/// What the journal holds of a trade: the figures of the last fold.
#[derive(Default)]
struct Booked {
    payment: Option<Figures>,
    refunds: BTreeMap<String, Figures>,
}

/// A movement's figures, positive on refunds too.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Figures {
    total: i64,
    receipt: i64,
}

#[derive(QueryableByName)]
struct BookedRow {
    #[diesel(sql_type = Text)]
    app_id: String,
    #[diesel(sql_type = Text)]
    trade_no: String,
    #[diesel(sql_type = Text)]
    business: String,
    #[diesel(sql_type = Text)]
    request_no: String,
    #[diesel(sql_type = BigInt)]
    total_fen: i64,
    #[diesel(sql_type = BigInt)]
    receipt_fen: i64,
}

fn load_booked(
    conn: &mut PgConnection,
    trades: &BTreeSet<Key>,
) -> Result<BTreeMap<Key, Booked>, BookError> {
    let (apps, trade_nos) = columns(trades);
    let rows: Vec<BookedRow> = sql_query(
        "SELECT m.app_id, m.trade_no, m.business, m.request_no, abs(m.total_fen) AS total_fen,
                abs(m.receipt_fen) AS receipt_fen
           FROM unnest($1, $2) AS asked (app_id, trade_no) JOIN movement m USING (app_id, trade_no)",
    )
    .bind::<Array<Text>, _>(apps)
    .bind::<Array<Text>, _>(trade_nos)
    .load(conn)?;
    let mut booked: BTreeMap<Key, Booked> = BTreeMap::new();
    for row in rows {
        let of_trade = booked.entry(parse_key(&row.app_id, &row.trade_no)?).or_default();
        let figures = Figures { total: row.total_fen, receipt: row.receipt_fen };
        if row.business == "payment" {
            of_trade.payment = Some(figures);
        } else {
            of_trade.refunds.insert(row.request_no, figures);
        }
    }
    Ok(booked)
}

#[derive(QueryableByName)]
struct FactRow {
    #[diesel(sql_type = Text)]
    app_id: String,
    #[diesel(sql_type = Text)]
    trade_no: String,
    #[diesel(sql_type = Text)]
    out_trade_no: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Nullable<Text>)]
    request_no: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    total_fen: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    receipt_fen: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    reported_fen: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    reported_as: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    told_at: Option<DateTime<Utc>>,
}

fn load_facts(
    conn: &mut PgConnection,
    trades: &BTreeSet<Key>,
) -> Result<BTreeMap<Key, Vec<Fact>>, BookError> {
    let (apps, trade_nos) = columns(trades);
    let rows: Vec<FactRow> = sql_query(
        "SELECT f.app_id, f.trade_no, f.out_trade_no, f.kind, f.request_no, f.total_fen, f.receipt_fen,
                f.reported_fen, f.reported_as, f.told_at
           FROM unnest($1, $2) AS asked (app_id, trade_no) JOIN fact f USING (app_id, trade_no)",
    )
    .bind::<Array<Text>, _>(apps)
    .bind::<Array<Text>, _>(trade_nos)
    .load(conn)?;
    let mut facts: BTreeMap<Key, Vec<Fact>> = BTreeMap::new();
    for row in rows {
        let fact = row.parse()?;
        facts.entry(key(&fact)).or_default().push(fact);
    }
    Ok(facts)
}

impl FactRow {
    fn parse(self) -> Result<Fact, BookError> {
        let (app_id, trade_no) = parse_key(&self.app_id, &self.trade_no)?;
        let wrong = |column| BookError::Stored { trade_no: self.trade_no.clone(), column };
        let at = || self.told_at.ok_or_else(|| wrong("told_at"));
        let total = || self.total_fen.map(Fen::new).ok_or_else(|| wrong("total_fen"));
        let receipt = self.receipt_fen.map(Fen::new);
        let told = match self.kind.as_str() {
            "created" => Told::Created { total: total()?, at: at()? },
            "paid" => Told::Paid { total: total()?, receipt, at: at()? },
            "refunded" => {
                let amount =
                    self.reported_fen.map(Fen::new).ok_or_else(|| wrong("reported_fen"))?;
                let request_no = self.request_no.as_deref().unwrap_or_default();
                Told::Refunded {
                    request_no: RequestNo::parse(request_no).map_err(|_| wrong("request_no"))?,
                    reported: match self.reported_as.as_deref() {
                        Some("cumulative") => Reported::Cumulative(amount),
                        Some("single") => Reported::Single(amount),
                        Some(_) | None => return Err(wrong("reported_as")),
                    },
                    receipt,
                    at: at()?,
                }
            }
            "closed" => Told::Closed { at: self.told_at },
            "finished" => Told::Finished,
            _ => return Err(wrong("kind")),
        };
        let out_trade_no =
            OutTradeNo::parse(&self.out_trade_no).map_err(|_| wrong("out_trade_no"))?;
        Ok(Fact { app_id, trade_no, out_trade_no, told })
    }
}

/// An entry to write: what one movement's figures changed by, signed as on the payment's side.
struct Posting<'k> {
    key: &'k Key,
    request_no: String,
    reason: &'static str,
    moved_at: DateTime<Utc>,
    /// (account, fen): debits positive.
    lines: [(&'static str, i64); 3],
}

/// The entries between what was booked and what the facts say now. `None` where an amount does not fit.
fn post_changes<'k>(
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

fn store_trades(
    conn: &mut PgConnection,
    trades: &[(&Key, Trade)],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let (apps, trade_nos) = columns(trades.iter().map(|(key, _)| *key));
    let paid = |pick: fn(&trade::Paid) -> i64| {
        trades.iter().map(|(_, trade)| trade.paid.as_ref().map(pick)).collect::<Vec<_>>()
    };
    let refunded: Vec<i64> = trades
        .iter()
        .map(|(_, trade)| {
            let sum = Fen::checked_sum(trade.refunds.values().map(|refund| refund.amount));
            sum.map_or(i64::MAX, Fen::get)
        })
        .collect();
    sql_query(
        "UPDATE trade SET out_trade_no = new.out_trade_no, state = new.state, total_fen = new.total_fen,
                receipt_fen = new.receipt_fen, receipt_known = new.receipt_known,
                refunded_fen = new.refunded_fen, created_at = new.created_at, paid_at = new.paid_at,
                closed_at = new.closed_at, has_conflict = new.has_conflict, doubt = new.doubt,
                changed_at = $14
           FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
                AS new (app_id, trade_no, out_trade_no, state, total_fen, receipt_fen, receipt_known,
                        refunded_fen, created_at, paid_at, closed_at, has_conflict, doubt)
          WHERE trade.app_id = new.app_id AND trade.trade_no = new.trade_no",
    )
    .bind::<Array<Text>, _>(apps)
    .bind::<Array<Text>, _>(trade_nos)
    .bind::<Array<Text>, _>(
        trades.iter().map(|(_, trade)| trade.out_trade_no.as_str()).collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(trades.iter().map(|(_, trade)| trade.state.as_str()).collect::<Vec<_>>())
    .bind::<Array<Nullable<BigInt>>, _>(
        trades.iter().map(|(_, trade)| trade.total.map(Fen::get)).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<BigInt>>, _>(paid(|paid| paid.receipt.get()))
    .bind::<Array<Bool>, _>(
        trades
            .iter()
            .map(|(_, trade)| trade.paid.is_some_and(|paid| paid.receipt_known))
            .collect::<Vec<_>>(),
    )
    .bind::<Array<BigInt>, _>(refunded)
    .bind::<Array<Nullable<Timestamptz>>, _>(
        trades.iter().map(|(_, trade)| trade.created_at).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<Timestamptz>>, _>(
        trades.iter().map(|(_, trade)| trade.paid.map(|paid| paid.at)).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<Timestamptz>>, _>(
        trades.iter().map(|(_, trade)| trade.closed_at).collect::<Vec<_>>(),
    )
    .bind::<Array<Bool>, _>(
        trades
            .iter()
            .map(|(_, trade)| {
                trade.conflicts.iter().any(|conflict| conflict.subject != trade::Subject::Refund)
            })
            .collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<Text>>, _>(
        trades.iter().map(|(_, trade)| trade.doubt.map(trade::Doubt::as_str)).collect::<Vec<_>>(),
    )
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}

fn store_refunds(conn: &mut PgConnection, trades: &[(&Key, Trade)]) -> QueryResult<()> {
    let refunds: Vec<(&Key, &RequestNo, &trade::Refund)> = trades
        .iter()
        .flat_map(|(key, trade)| trade.refunds.iter().map(move |(no, refund)| (*key, no, refund)))
        .collect();
    if refunds.is_empty() {
        return Ok(());
    }
    let (apps, trade_nos) = columns(refunds.iter().map(|(key, _, _)| *key));
    let request_nos: Vec<&str> = refunds.iter().map(|(_, no, _)| no.as_str()).collect();
    sql_query(
        "INSERT INTO refund (app_id, trade_no, request_no, amount_fen, receipt_fen, confirmed, refunded_at,
                             has_conflict)
         SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (app_id, trade_no, request_no) DO UPDATE SET
                amount_fen = excluded.amount_fen, receipt_fen = excluded.receipt_fen,
                confirmed = excluded.confirmed, refunded_at = excluded.refunded_at,
                has_conflict = excluded.has_conflict",
    )
    .bind::<Array<Text>, _>(&apps)
    .bind::<Array<Text>, _>(&trade_nos)
    .bind::<Array<Text>, _>(&request_nos)
    .bind::<Array<BigInt>, _>(refunds.iter().map(|(_, _, r)| r.amount.get()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(refunds.iter().map(|(_, _, r)| r.receipt.get()).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(refunds.iter().map(|(_, _, r)| r.confirmed).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(refunds.iter().map(|(_, _, r)| r.at).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(refunds.iter().map(|(_, _, r)| r.has_conflict).collect::<Vec<_>>())
    .execute(conn)?;
    // Only a refund first told without its number can vanish; see `trade::fold`.
    sql_query(
        "DELETE FROM refund r
          USING (SELECT DISTINCT app_id, trade_no FROM unnest($1, $2) AS t (app_id, trade_no)) AS touched
          WHERE r.app_id = touched.app_id AND r.trade_no = touched.trade_no AND r.request_no = r.trade_no
            AND NOT EXISTS (SELECT 1 FROM unnest($1, $2, $3) AS kept (app_id, trade_no, request_no)
                             WHERE (kept.app_id, kept.trade_no, kept.request_no)
                                 = (r.app_id, r.trade_no, r.request_no))",
    )
    .bind::<Array<Text>, _>(&apps)
    .bind::<Array<Text>, _>(&trade_nos)
    .bind::<Array<Text>, _>(&request_nos)
    .execute(conn)?;
    Ok(())
}

fn store_conflicts(
    conn: &mut PgConnection,
    trades: &[(&Key, Trade)],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let conflicts: Vec<(&Key, &trade::Conflict)> = trades
        .iter()
        .flat_map(|(key, trade)| trade.conflicts.iter().map(move |conflict| (*key, conflict)))
        .collect();
    if conflicts.is_empty() {
        return Ok(());
    }
    let (apps, trade_nos) = columns(conflicts.iter().map(|(key, _)| *key));
    sql_query(
        "INSERT INTO conflict (app_id, trade_no, subject, request_no, told, recorded_at)
         SELECT new.*, $6 FROM unnest($1, $2, $3, $4, $5) AS new
         ON CONFLICT DO NOTHING",
    )
    .bind::<Array<Text>, _>(apps)
    .bind::<Array<Text>, _>(trade_nos)
    .bind::<Array<Text>, _>(conflicts.iter().map(|(_, c)| c.subject.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(
        conflicts.iter().map(|(_, c)| c.request_no.as_str()).collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(conflicts.iter().map(|(_, c)| c.told.as_str()).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}

fn store_postings(
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
