use chrono::Duration;
use ledger::side::Side;

use crate::kind::Kind;

/// What a merchant's contract and calendar say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The agreed fee in millionths of 商家实收; fees are not checked without it.
    pub fee_rate_millionths: Option<u32>,
    /// So close to midnight the other side may date a movement on the other day.
    pub carry_window: Duration,
}

/// One thing that differs between a row and a movement, with both sides' figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    pub bill_fen: Option<i64>,
    pub ledger_fen: Option<i64>,
}

/// Compares a bill row with the ledger's movement of the same identity. Empty: they agree.
///
/// A contradiction between notifications is told alone: figures that are in doubt are not compared. A different
/// order amount brings a different receipt with it, so the receipt is compared only where the amounts agree.
pub fn compare(bill: &Side, ledger: &Side, terms: &Terms) -> Vec<Finding> {
    let finding = |kind, bill_fen, ledger_fen| Finding {
        kind,
        bill_fen: Some(bill_fen),
        ledger_fen: Some(ledger_fen),
    };
    if ledger.has_conflict {
        return vec![finding(Kind::Conflict, bill.receipt_fen, ledger.receipt_fen)];
    }
    let mut findings = Vec::new();
    if bill.out_trade_no != ledger.out_trade_no {
        findings.push(finding(Kind::OrderNo, bill.receipt_fen, ledger.receipt_fen));
    }
    if bill.total_fen != ledger.total_fen {
        findings.push(finding(Kind::Amount, bill.total_fen, ledger.total_fen));
    } else if bill.receipt_fen != ledger.receipt_fen {
        findings.push(finding(Kind::Receipt, bill.receipt_fen, ledger.receipt_fen));
    }
    if bill.business == "payment"
        && let Some(rate) = terms.fee_rate_millionths
    {
        // Where the receipts differ, which one the fee was taken of is part of that difference.
        let fits = |receipt_fen| bill.fee_fen == expected_fee(receipt_fen, rate);
        if !fits(ledger.receipt_fen) && !fits(bill.receipt_fen) {
            let expected = expected_fee(ledger.receipt_fen, rate);
            findings.push(finding(Kind::Fee, bill.fee_fen, expected));
        }
    }
    findings
}

/// The fee of a payment as the bill writes it (negative): the rate of the receipt, rounded half up to a fen.
fn expected_fee(receipt_fen: i64, rate_millionths: u32) -> i64 {
    let exact = i128::from(receipt_fen) * i128::from(rate_millionths);
    // Smaller than the receipt, since a rate is below one: it fits.
    i64::try_from((exact + 500_000) / 1_000_000).map_or(receipt_fen, |fee| -fee)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// A side as text: `O1 100.00 99.00 fee -0.59 [conflict]`.
    fn side(text: &str) -> Side {
        let words: Vec<&str> = text.split_whitespace().collect();
        let fen = |at: usize| payment::Fen::parse_yuan(words[at]).unwrap().get();
        Side {
            business: if words[1].starts_with('-') { "refund" } else { "payment" }.to_owned(),
            trade_no: "T1".to_owned(),
            request_no: String::new(),
            is_bill: words.contains(&"fee"),
            out_trade_no: words[0].to_owned(),
            moved_at: payment::parse_local("2024-03-05 09:00:00").unwrap(),
            total_fen: fen(1),
            receipt_fen: fen(2),
            fee_fen: if words.contains(&"fee") { fen(4) } else { 0 },
            figures_known: true,
            has_conflict: words.contains(&"conflict"),
            day: payment::BillDay::parse("2024-03-05").unwrap().date(),
        }
    }

    fn check(bill: &str, ledger: &str, expected: Expect) {
        let terms = Terms { fee_rate_millionths: Some(6000), carry_window: Duration::minutes(5) };
        let found: Vec<String> = compare(&side(bill), &side(ledger), &terms)
            .iter()
            .map(|f| {
                let [bill, ledger] = [f.bill_fen, f.ledger_fen].map(|fen| fen.unwrap_or_default());
                format!("{} {bill} {ledger}", f.kind)
            })
            .collect();
        expected.assert_eq(&found.join(", "));
    }

    #[test]
    fn equal_sides_agree() {
        check("O1 100.00 100.00 fee -0.60", "O1 100.00 100.00", expect![""]);
        check("O1 -30.00 -30.00 fee 0.00", "O1 -30.00 -30.00", expect![""]);
    }

    #[test]
    fn one_fen_is_a_difference() {
        check("O1 100.01 100.01 fee -0.60", "O1 100.00 100.00", expect!["amount 10001 10000"]);
        check("O1 -30.00 -30.00 fee 0.00", "O1 -29.99 -29.99", expect!["amount -3000 -2999"]);
        check("O1 100.00 99.99 fee -0.60", "O1 100.00 100.00", expect!["receipt 9999 10000"]);
    }

    #[test]
    fn independent_differences_are_told_each() {
        check(
            "O2 100.00 99.00 fee -0.61",
            "O1 100.00 100.00",
            expect!["order_no 9900 10000, receipt 9900 10000, fee -61 -60"],
        );
    }

    #[test]
    fn a_fee_of_either_receipt_is_no_second_difference() {
        check("O1 250.01 250.01 fee -1.50", "O1 250.00 250.00", expect!["amount 25001 25000"]);
        check("O1 10.00 9.00 fee -0.05", "O1 10.00 10.00", expect!["receipt 900 1000"]);
        check("O1 10.00 9.00 fee -0.06", "O1 10.00 10.00", expect!["receipt 900 1000"]);
    }

    #[test]
    fn a_contradiction_is_told_alone() {
        check(
            "O2 100.00 100.00 fee -9.00",
            "O1 90.00 90.00 conflict",
            expect!["conflict 10000 9000"],
        );
    }

    #[test]
    fn fees_round_half_up_to_a_fen() {
        assert_eq!(expected_fee(4500, 6000), -27);
        assert_eq!(expected_fee(250, 2000), -1);
        assert_eq!(expected_fee(249, 2000), 0);
        assert_eq!(expected_fee(0, 6000), 0);
    }
}
