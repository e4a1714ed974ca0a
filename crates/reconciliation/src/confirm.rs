use chrono::{DateTime, Utc};
use ledger::Connection;
use ledger::book::{self, BookError, Origin};
use ledger::day::DayLock;
use ledger::side::{Inferred, inferred};
use payment::{Fact, Fen, OutTradeNo, Reported, RequestNo, Told, TradeNo};

/// Tells the ledger what the bill knows and no notification told: the receipt of a payment known only from its
/// refund's notice, the share of a refund that falls on the merchant, and a single refund's amount where the notice
/// told the trade's cumulative one and an earlier notice was lost.
///
/// Must run in a transaction. Returns how many facts were new.
pub(crate) fn confirm(
    conn: &mut Connection,
    day: &DayLock,
    bill_id: i64,
    now: DateTime<Utc>,
) -> Result<usize, BookError> {
    let facts: Vec<(Fact, Origin)> = inferred(conn, day, bill_id)?
        .iter()
        .filter_map(|movement| Some((fact(day, movement)?, Origin::Bill)))
        .collect();
    book::record(conn, &facts, now)
}

fn fact(day: &DayLock, movement: &Inferred) -> Option<Fact> {
    Some(Fact {
        app_id: day.app_id().clone(),
        trade_no: TradeNo::parse(&movement.trade_no).ok()?,
        out_trade_no: OutTradeNo::parse(&movement.out_trade_no).ok()?,
        told: told(movement)?,
    })
}

/// What the bill's row confirms, `None` where it contradicts what was told: that is a difference.
fn told(movement: &Inferred) -> Option<Told> {
    let at = movement.moved_at;
    if movement.business == "payment" {
        let fits = movement.bill_total_fen == movement.ledger_total_fen
            && (0..=movement.bill_total_fen).contains(&movement.bill_receipt_fen);
        return fits.then(|| Told::Paid {
            total: Fen::new(movement.bill_total_fen),
            receipt: Some(Fen::new(movement.bill_receipt_fen)),
            at,
        });
    }
    let amount = movement.bill_total_fen.checked_neg()?;
    let receipt = movement.bill_receipt_fen.checked_neg()?;
    let booked = movement.ledger_total_fen.checked_neg()?;
    // Without a discount the merchant bears a refund whole; anything else is a difference.
    let receipt_fits = receipt == amount || movement.discounted && (0..=amount).contains(&receipt);
    let amount_fits = amount == booked
        // The step holds refunds that were never told, and the bills have exactly those.
        || movement.unheard_fen > 0 && booked.checked_sub(amount) == Some(movement.unheard_fen)
        // The step was no step, so the figure told was this refund's own.
        || booked == 0 && movement.reported_fen == Some(amount);
    (receipt_fits && amount_fits).then_some(())?;
    Some(Told::Refunded {
        request_no: RequestNo::parse(&movement.request_no).ok()?,
        reported: Reported::Single(Fen::new(amount)),
        receipt: Some(Fen::new(receipt)),
        at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A refund inferred as `booked`, reported as `reported`, with the bill's own amount and what it refunded unheard.
    fn refund(booked: i64, reported: i64, bill: i64, unheard: i64) -> Inferred {
        Inferred {
            business: "refund".to_owned(),
            trade_no: "T1".to_owned(),
            out_trade_no: "O1".to_owned(),
            request_no: "R2".to_owned(),
            moved_at: payment::parse_local("2024-03-05 09:00:00").unwrap(),
            ledger_total_fen: -booked,
            bill_total_fen: -bill,
            bill_receipt_fen: -bill,
            reported_fen: Some(reported),
            unheard_fen: unheard,
            discounted: false,
        }
    }

    fn amount(movement: &Inferred) -> Option<i64> {
        let told = told(movement)?;
        let Told::Refunded { reported: Reported::Single(amount), .. } = told else {
            panic!("{told:?}")
        };
        Some(amount.get())
    }

    #[test]
    fn a_step_over_a_lost_notice_is_confirmed_when_the_bills_explain_it() {
        assert_eq!(amount(&refund(5000, 5000, 2000, 3000)), Some(2000));
        assert_eq!(amount(&refund(5000, 5000, 2000, 0)), None);
        assert_eq!(amount(&refund(5000, 5000, 2001, 3000)), None);
        // The ledger heard of every refund before: the bill contradicts what was told.
        assert_eq!(amount(&refund(2000, 5000, 3000, 0)), None);
    }

    #[test]
    fn a_figure_that_was_not_cumulative_is_confirmed_only_where_it_made_no_step() {
        assert_eq!(amount(&refund(0, 2000, 2000, 0)), Some(2000));
        assert_eq!(amount(&refund(1000, 3000, 3000, 0)), None);
    }

    #[test]
    fn a_receipt_is_taken_from_the_bill_only_on_discounted_trades() {
        let mut movement = refund(3000, 3000, 3000, 0);
        movement.bill_receipt_fen = -2700;
        assert_eq!(amount(&movement), None);
        movement.discounted = true;
        assert_eq!(amount(&movement), Some(3000));
        movement.bill_receipt_fen = -3001;
        assert_eq!(amount(&movement), None);
    }
}
