//! Facts, as stored: a set, known by their digests.

use chrono::{DateTime, Utc};
use diesel::prelude::Insertable;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz};
use diesel::{ExecuteCopyFromDsl as _, PgConnection, QueryResult, QueryableByName, RunQueryDsl};
use payment::{AppId, Fact, Fen, OutTradeNo, Reported, RequestNo, Told, TradeNo};

use crate::book::{BookError, Origin};
use crate::schema::fact;
use crate::statement::statement;

/// A trade's place in every table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key<'f> {
    pub(crate) app_id: &'f AppId,
    pub(crate) trade_no: &'f TradeNo,
}

impl<'f> Key<'f> {
    pub(crate) fn of(fact: &'f Fact) -> Self {
        Key { app_id: &fact.app_id, trade_no: &fact.trade_no }
    }
}

/// The keys as two parallel columns.
pub(crate) fn columns<'f>(keys: impl IntoIterator<Item = Key<'f>>) -> (Vec<&'f str>, Vec<&'f str>) {
    keys.into_iter().map(|key| (key.app_id.as_str(), key.trade_no.as_str())).unzip()
}

/// Adds facts to the set. None of them may be in it, and their trades are the caller's: new, or locked.
pub(crate) fn insert<'f>(
    conn: &mut PgConnection,
    facts: impl IntoIterator<Item = (&'f Fact, Origin)>,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let rows: Vec<NewRow<'_>> =
        facts.into_iter().map(|(fact, origin)| NewRow::of(fact, origin, now)).collect();
    diesel::copy_from(fact::table).from_insertable(rows).execute(conn)?;
    Ok(())
}

#[derive(Insertable)]
#[diesel(table_name = fact, treat_none_as_default_value = false)]
struct NewRow<'f> {
    app_id: &'f str,
    trade_no: &'f str,
    digest: Vec<u8>,
    out_trade_no: &'f str,
    kind: &'static str,
    request_no: Option<&'f str>,
    total_fen: Option<i64>,
    receipt_fen: Option<i64>,
    reported_fen: Option<i64>,
    reported_as: Option<&'static str>,
    told_at: Option<DateTime<Utc>>,
    source: &'static str,
    recorded_at: DateTime<Utc>,
}

impl<'f> NewRow<'f> {
    fn of(fact: &'f Fact, origin: Origin, now: DateTime<Utc>) -> Self {
        let row = NewRow {
            app_id: fact.app_id.as_str(),
            trade_no: fact.trade_no.as_str(),
            digest: fact.digest().to_vec(),
            out_trade_no: fact.out_trade_no.as_str(),
            kind: fact.told.kind(),
            request_no: None,
            total_fen: None,
            receipt_fen: None,
            reported_fen: None,
            reported_as: None,
            told_at: None,
            source: origin.as_str(),
            recorded_at: now,
        };
        match &fact.told {
            Told::Created { total, at } => {
                NewRow { total_fen: Some(total.get()), told_at: Some(*at), ..row }
            }
            Told::Paid { total, receipt, at } => NewRow {
                total_fen: Some(total.get()),
                receipt_fen: receipt.map(Fen::get),
                told_at: Some(*at),
                ..row
            },
            Told::Refunded { request_no, reported, receipt, at } => {
                let (amount, meaning) = match reported {
                    Reported::Cumulative(amount) => (amount, "cumulative"),
                    Reported::Single(amount) => (amount, "single"),
                };
                NewRow {
                    request_no: Some(request_no.as_str()),
                    receipt_fen: receipt.map(Fen::get),
                    reported_fen: Some(amount.get()),
                    reported_as: Some(meaning),
                    told_at: Some(*at),
                    ..row
                }
            }
            Told::Closed { at } => NewRow { told_at: *at, ..row },
            Told::Finished => row,
        }
    }
}

/// What is known of these trades, in their order.
pub(crate) fn load(
    conn: &mut PgConnection,
    trades: &[Key<'_>],
) -> Result<Vec<Vec<Fact>>, BookError> {
    #[derive(QueryableByName)]
    struct Placed {
        #[diesel(sql_type = BigInt)]
        place: i64,
        #[diesel(embed)]
        row: FactRow,
    }
    let (apps, trade_nos) = columns(trades.iter().copied());
    let rows: Vec<Placed> = statement(
        "SELECT asked.place - 1 AS place, f.out_trade_no, f.kind, f.request_no, f.total_fen, f.receipt_fen,
                f.reported_fen, f.reported_as, f.told_at
           FROM unnest($1, $2) WITH ORDINALITY AS asked (app_id, trade_no, place) CROSS JOIN LATERAL (
                SELECT * FROM fact WHERE fact.app_id = asked.app_id AND fact.trade_no = asked.trade_no
                OFFSET 0) AS f",
    )
    .bind::<Array<Text>, _>(apps)
    .bind::<Array<Text>, _>(trade_nos)
    .load(conn)?;
    let mut known: Vec<Vec<Fact>> = trades.iter().map(|_| Vec::new()).collect();
    for Placed { place, row } in rows {
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        if let (Some(key), Some(known)) = (trades.get(place), known.get_mut(place)) {
            known.push(row.parse(key.app_id, key.trade_no)?);
        }
    }
    Ok(known)
}

/// A fact of a trade, as it stands in the table.
#[derive(QueryableByName)]
pub(crate) struct FactRow {
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

impl FactRow {
    pub(crate) fn parse(self, app_id: &AppId, trade_no: &TradeNo) -> Result<Fact, BookError> {
        let wrong = |column| BookError::Stored { trade_no: trade_no.to_string(), column };
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
        Ok(Fact { app_id: app_id.clone(), trade_no: trade_no.clone(), out_trade_no, told })
    }
}
