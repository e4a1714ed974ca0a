//! Facts, as stored: a set, known by their digests.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Bytea, Nullable, Text, Timestamptz};
use diesel::{PgConnection, QueryableByName, RunQueryDsl, sql_query};
use payment::{AppId, Fact, Fen, OutTradeNo, Reported, RequestNo, Told, TradeNo};

use crate::book::{BookError, Origin};

/// A trade's place in every table.
pub(crate) type Key = (AppId, TradeNo);

pub(crate) fn key(fact: &Fact) -> Key {
    (fact.app_id.clone(), fact.trade_no.clone())
}

/// The keys as two parallel columns.
pub(crate) fn columns<'k>(keys: impl IntoIterator<Item = &'k Key>) -> (Vec<&'k str>, Vec<&'k str>) {
    keys.into_iter().map(|(app_id, trade_no)| (app_id.as_str(), trade_no.as_str())).unzip()
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
pub(crate) fn insert(
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

pub(crate) fn parse_key(app_id: &str, trade_no: &str) -> Result<Key, BookError> {
    let wrong = |column| BookError::Stored { trade_no: trade_no.to_owned(), column };
    Ok((
        AppId::parse(app_id).map_err(|_| wrong("app_id"))?,
        TradeNo::parse(trade_no).map_err(|_| wrong("trade_no"))?,
    ))
}

#[derive(QueryableByName)]
pub(crate) struct FactRow {
    #[diesel(sql_type = Text)]
    pub(crate) app_id: String,
    #[diesel(sql_type = Text)]
    pub(crate) trade_no: String,
    #[diesel(sql_type = Text)]
    pub(crate) out_trade_no: String,
    #[diesel(sql_type = Text)]
    pub(crate) kind: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) request_no: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(crate) total_fen: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(crate) receipt_fen: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(crate) reported_fen: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) reported_as: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(crate) told_at: Option<DateTime<Utc>>,
}

pub(crate) fn load(
    conn: &mut PgConnection,
    trades: &BTreeSet<Key>,
) -> Result<BTreeMap<Key, Vec<Fact>>, BookError> {
    let (apps, trade_nos) = columns(trades);
    let rows: Vec<FactRow> = sql_query(
        "SELECT f.app_id, f.trade_no, f.out_trade_no, f.kind, f.request_no, f.total_fen, f.receipt_fen,
                f.reported_fen, f.reported_as, f.told_at
           FROM unnest($1, $2) AS asked (app_id, trade_no) CROSS JOIN LATERAL (
                SELECT * FROM fact WHERE fact.app_id = asked.app_id AND fact.trade_no = asked.trade_no
                OFFSET 0) AS f",
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
    pub(crate) fn parse(self) -> Result<Fact, BookError> {
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
