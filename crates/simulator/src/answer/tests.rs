//! A small reconciliation over what was really sent and billed, read by the receiving side: it must
//! come to the answer key, which was written from what was planted.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::Cursor;

use alipay::{App, Trust, Verdict, bill, receive};
use chrono::{DateTime, Utc};
use payment::{BillRow, OutTradeNo, Reported, Told};

use super::*;
use crate::scenario::{Scenario, plan};
use crate::testing::{KEYS, merchant, two_days};

#[test]
fn an_independent_reconciliation_comes_to_the_answer_key() {
    for seed in 0..6 {
        let plan_of = two_days(seed, 400);
        let scenario = plan(&plan_of, &KEYS).unwrap();
        let ledger = ledger(&merchant(&plan_of, &KEYS), &scenario);
        let bills = bills(&scenario);
        let found = reconcile(&ledger, &bills);
        let mut differences = scenario.key.differences.clone();
        differences.sort_by(|a, b| a.trade_no.cmp(&b.trade_no));
        assert_eq!(found.differences, differences, "seed {seed}");
        assert_eq!(
            found.carried.iter().collect::<BTreeSet<_>>(),
            scenario
                .key
                .carried
                .iter()
                .map(|one| (&one.trade_no, &one.request_no, one.from_day, one.to_day))
                .map(|(trade_no, request_no, from, to)| (
                    trade_no.clone(),
                    request_no.clone(),
                    from,
                    to
                ))
                .collect::<BTreeSet<_>>()
                .iter()
                .collect()
        );
        for totals in &scenario.key.days {
            let booked = found.booked.get(&totals.day).copied().unwrap_or_default();
            assert_eq!(booked, (totals.ledger_movements, totals.ledger_net_fen.get()));
        }
    }
}

#[test]
fn every_bill_is_sound_and_adds_up_to_the_key() {
    for seed in 0..10 {
        let scenario = plan(&two_days(seed, 120), &KEYS).unwrap();
        for (one, totals) in scenario.bills.iter().zip(&scenario.key.days) {
            let each = |row: BillRow| {
                assert_eq!(BillDay::of(row.completed_at), totals.day);
                Ok::<_, Infallible>(())
            };
            let read = bill::read(Cursor::new(&one.zip), &bill::Limits::DAILY, each).unwrap();
            assert_eq!(read.account.as_deref(), Some("20880000000000010156"));
            assert_eq!((read.from, read.to), (totals.day, totals.day.next()));
            assert_eq!(read.rows, totals.bill_rows);
            assert_eq!(read.payments.count, totals.payments);
            assert_eq!(read.payments.receipt, totals.payments_receipt_fen);
            assert_eq!(read.refunds.count, totals.refunds);
            assert_eq!(read.refunds.receipt, totals.refunds_receipt_fen);
            let net = read.payments.receipt.checked_add(read.refunds.receipt);
            assert_eq!(net, Some(totals.bill_net_fen));
        }
    }
}

/// What the accepted deliveries tell of one trade.
#[derive(Default)]
struct Heard {
    out_trade_no: Option<OutTradeNo>,
    closed: bool,
    paid: BTreeSet<(Fen, Option<Fen>, DateTime<Utc>)>,
    /// By `gmt_refund`.
    refunds: BTreeSet<(DateTime<Utc>, RequestNo, Fen)>,
}

type Row = (BillDay, BillRow);

struct Found {
    differences: Vec<Planted>,
    carried: Vec<(TradeNo, Option<RequestNo>, BillDay, BillDay)>,
    booked: BTreeMap<BillDay, (u64, i64)>,
}

fn ledger(app: &App, scenario: &Scenario) -> BTreeMap<TradeNo, Heard> {
    let mut ledger: BTreeMap<TradeNo, Heard> = BTreeMap::new();
    for delivery in &scenario.deliveries {
        let Verdict::Genuine { notification, .. } = receive(app, &delivery.body, Trust::Active)
        else {
            continue;
        };
        for fact in notification.facts(app.refund_fee) {
            let heard = ledger.entry(fact.trade_no).or_default();
            heard.out_trade_no = Some(fact.out_trade_no);
            match fact.told {
                Told::Created { .. } | Told::Finished => {}
                Told::Closed { .. } => heard.closed = true,
                Told::Paid { total, receipt, at } => {
                    heard.paid.insert((total, receipt, at));
                }
                Told::Refunded { request_no, reported: Reported::Cumulative(fen), at, .. } => {
                    heard.refunds.insert((at, request_no, fen));
                }
                Told::Refunded { reported: Reported::Single(_), .. } => unreachable!(),
            }
        }
    }
    ledger
}

fn bills(scenario: &Scenario) -> BTreeMap<TradeNo, Vec<Row>> {
    let mut bills: BTreeMap<TradeNo, Vec<Row>> = BTreeMap::new();
    for one in &scenario.bills {
        bill::read(Cursor::new(&one.zip), &bill::Limits::DAILY, |row| {
            bills.entry(row.trade_no.clone()).or_default().push((one.day, row));
            Ok::<_, Infallible>(())
        })
        .unwrap();
    }
    bills
}

fn reconcile(ledger: &BTreeMap<TradeNo, Heard>, bills: &BTreeMap<TradeNo, Vec<Row>>) -> Found {
    let mut found = Found { differences: Vec::new(), carried: Vec::new(), booked: BTreeMap::new() };
    let nothing = Heard::default();
    for trade_no in ledger.keys().chain(bills.keys()).collect::<BTreeSet<_>>() {
        let heard = ledger.get(trade_no).unwrap_or(&nothing);
        let rows = bills.get(trade_no).map(Vec::as_slice).unwrap_or_default();
        found.payment(trade_no, heard, rows);
        found.refunds(trade_no, heard, rows);
    }
    found
}

impl Found {
    fn payment(&mut self, trade_no: &TradeNo, heard: &Heard, rows: &[Row]) {
        let rows: Vec<&Row> =
            rows.iter().filter(|(_, row)| row.business == Business::Payment).collect();
        for (day, row) in rows.iter().skip(1) {
            self.differs(*day, "duplicate_in_bill", trade_no, None, Some(row.receipt), None);
        }
        let row = rows.first();
        let Some((total, _, at)) = heard.paid.first() else {
            if let Some((day, row)) = row {
                let kind = if heard.closed { "status" } else { "missing_in_ledger" };
                self.differs(*day, kind, trade_no, None, Some(row.receipt), None);
            }
            return;
        };
        let told = heard.paid.iter().filter_map(|(_, receipt, _)| *receipt).min();
        let receipt = told.or(row.map(|(_, row)| row.receipt)).expect("somebody knows the receipt");
        let day = BillDay::of(*at);
        self.books(day, receipt);
        let Some((billed_on, row)) = row else {
            return self.differs(day, "missing_in_bill", trade_no, None, None, Some(receipt));
        };
        self.carries(trade_no, None, day, *billed_on);
        let totals: BTreeSet<_> = heard.paid.iter().map(|(total, _, _)| total).collect();
        let fee = Fen::new(-((row.receipt.get() * 6_000 + 500_000) / 1_000_000));
        let (kind, bill, ledger) = if totals.len() > 1 {
            ("conflict", row.receipt, receipt)
        } else if row.total != *total {
            ("amount", row.total, *total)
        } else if row.receipt != receipt {
            ("receipt", row.receipt, receipt)
        } else if row.fee != fee {
            ("fee", row.fee, fee)
        } else if Some(&row.out_trade_no) != heard.out_trade_no.as_ref() {
            ("order_no", row.receipt, receipt)
        } else {
            return;
        };
        self.differs(day, kind, trade_no, None, Some(bill), Some(ledger));
    }

    fn refunds(&mut self, trade_no: &TradeNo, heard: &Heard, rows: &[Row]) {
        let rows: Vec<&Row> =
            rows.iter().filter(|(_, row)| row.business == Business::Refund).collect();
        let row_of = |request_no: &RequestNo| {
            rows.iter().find(|(_, row)| row.request_no.as_ref() == Some(request_no))
        };
        let is_heard = |row: &BillRow| {
            heard
                .refunds
                .iter()
                .any(|(_, request_no, _)| Some(request_no) == row.request_no.as_ref())
        };
        for (day, row) in rows.iter().filter(|(_, row)| !is_heard(row)) {
            let request_no = row.request_no.clone();
            let bill = Some(row.receipt);
            self.differs(*day, "missing_in_ledger", trade_no, request_no, bill, None);
        }
        let discounted =
            heard.paid.iter().any(|(total, receipt, _)| receipt.is_some_and(|r| r < *total));
        let mut before = 0;
        let mut since = DateTime::<Utc>::MIN_UTC;
        for (at, request_no, cumulative) in &heard.refunds {
            // What the bill knows of refunds in between, the notification's sum contains.
            let untold: i64 = rows
                .iter()
                .filter(|(_, row)| !is_heard(row))
                .filter(|(_, row)| row.completed_at > since && row.completed_at <= *at)
                .map(|(_, row)| -row.total.get())
                .sum();
            let amount = Fen::new(-(cumulative.get() - before - untold));
            (before, since) = (cumulative.get(), *at);
            let day = BillDay::of(*at);
            let row = row_of(request_no);
            let receipt = match row {
                Some((_, row)) if discounted => row.receipt,
                _ => amount,
            };
            self.books(day, receipt);
            let request_no = Some(request_no.clone());
            let Some((billed_on, row)) = row else {
                self.differs(day, "missing_in_bill", trade_no, request_no, None, Some(receipt));
                continue;
            };
            self.carries(trade_no, request_no.clone(), day, *billed_on);
            if row.total != amount {
                let (bill, ledger) = (Some(row.total), Some(amount));
                self.differs(day, "amount", trade_no, request_no, bill, ledger);
            } else {
                assert_eq!(row.receipt, receipt);
            }
        }
    }

    fn books(&mut self, day: BillDay, receipt: Fen) {
        let (count, net_fen) = self.booked.entry(day).or_default();
        *count += 1;
        *net_fen += receipt.get();
    }

    fn carries(
        &mut self,
        trade_no: &TradeNo,
        request_no: Option<RequestNo>,
        booked_on: BillDay,
        billed_on: BillDay,
    ) {
        if booked_on != billed_on {
            let (from, to) = (booked_on.min(billed_on), booked_on.max(billed_on));
            self.carried.push((trade_no.clone(), request_no, from, to));
        }
    }

    fn differs(
        &mut self,
        day: BillDay,
        kind: &'static str,
        trade_no: &TradeNo,
        request_no: Option<RequestNo>,
        bill_fen: Option<Fen>,
        ledger_fen: Option<Fen>,
    ) {
        let trade_no = trade_no.clone();
        self.differences.push(Planted { day, kind, trade_no, request_no, bill_fen, ledger_fen });
    }
}
