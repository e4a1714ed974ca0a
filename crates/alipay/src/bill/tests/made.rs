//! Bills made at random: what is written is what is read, and no change of money goes unseen.

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

#[derive(Clone, Debug)]
struct Made {
    business: Business,
    subject: String,
    remark: String,
    completed_at: DateTime<Utc>,
    total_fen: i64,
    discount_fen: i64,
    fee_fen: i64,
    share_fen: i64,
    request_no: Option<u64>,
}

fn rows() -> impl Strategy<Value = Vec<Made>> {
    let text = "[甲乙丙a-z0-9\"，.]{0,6}(,[甲乙丙a-z]{1,3})?";
    let row = (
        any::<bool>(),
        (text, text),
        0..86_400_i64,
        0..100_000_000_i64,
        0..10_000_i64,
        (-1000..=1000_i64, -1000..=0_i64),
        proptest::option::of(any::<u64>()),
    );
    let row =
        row.prop_map(|(refund, (subject, remark), seconds, receipt, discount, taken, request)| {
            let start = BillDay::parse("2024-03-05").unwrap().start();
            let (business, sign) =
                if refund { (Business::Refund, -1) } else { (Business::Payment, 1) };
            Made {
                business,
                subject,
                remark,
                completed_at: start + chrono::Duration::seconds(seconds),
                total_fen: sign * (receipt + discount),
                discount_fen: sign * discount,
                fee_fen: taken.0,
                share_fen: taken.1,
                request_no: request.filter(|_| refund),
            }
        });
    proptest::collection::vec(row, 0..20)
}

/// A text as CSV writes it.
fn quoted(text: &str) -> String {
    if text.contains([',', '"']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn line(number: usize, row: &Made) -> String {
    let (business, subject, remark) = match row.business {
        Business::Payment => ("交易", quoted(&row.subject), quoted(&row.remark)),
        Business::Refund => ("退款", quoted(&row.subject), quoted(&row.remark)),
    };
    let at = to_local(row.completed_at);
    let receipt = fen(row.total_fen - row.discount_fen);
    let (total, discount) = (fen(row.total_fen), fen(row.discount_fen));
    let (fee, share) = (fen(row.fee_fen), fen(row.share_fen));
    let request = row.request_no.map(|number| format!("RF{number}")).unwrap_or_default();
    format!(
        "2024{number:024}\t,ORD{number}\t,{business}\t,{subject},{at},{at},\t,\t,\t,\t,*甲(1**1)\t,\
         {total},{receipt},0.00,0.00,0.00,{discount},0.00,,0.00\t,0.00,{request}\t,{fee},{share},{remark}\r\n"
    )
}

fn footer(of: &[Made]) -> String {
    let side = |business| {
        let rows = || of.iter().filter(move |row| row.business == business);
        let discount: i64 = rows().map(|row| row.discount_fen).sum();
        let receipt: i64 = rows().map(|row| row.total_fen).sum::<i64>() - discount;
        (rows().count(), fen(receipt), fen(discount))
    };
    let (payments, receipt, discount) = side(Business::Payment);
    let (refunds, refunded, discount_back) = side(Business::Refund);
    format!(
        "#交易合计：{payments}笔，商家实收共{receipt}元，商家优惠共{discount}元\r\n\
         #退款合计：{refunds}笔，商家实收退款共{refunded}元，商家优惠退款共{discount_back}元\r\n"
    )
}

/// A bill with `rows` and the footer of `claimed`.
fn bill(rows: &[Made], claimed: &[Made]) -> Vec<u8> {
    let empty: Vec<&str> = EMPTY.lines().collect();
    let head = empty[..5].join("\r\n").replace("03月07日", "03月08日");
    let lines: String = rows.iter().enumerate().map(|(number, row)| line(number, row)).collect();
    bill_of(&format!("{head}\r\n{lines}{}\r\n{}", empty[5], footer(claimed)))
}

proptest! {
    #[test]
    fn what_is_written_is_read(made in rows()) {
        let (bill, rows) = read_all(&bill(&made, &made)).unwrap();
        prop_assert_eq!(rows.len(), made.len());
        prop_assert_eq!(bill.rows, u64::try_from(made.len()).unwrap());
        for (number, (row, made)) in rows.iter().zip(&made).enumerate() {
            let expected = BillRow {
                trade_no: TradeNo::parse(&format!("2024{number:024}")).unwrap(),
                out_trade_no: OutTradeNo::parse(&format!("ORD{number}")).unwrap(),
                business: made.business,
                request_no: made.request_no.map(|no| RequestNo::parse(&format!("RF{no}")).unwrap()),
                completed_at: made.completed_at,
                total: fen(made.total_fen),
                receipt: fen(made.total_fen - made.discount_fen),
                fee: fen(made.fee_fen),
                share: fen(made.share_fen),
                entry: 0,
                line: u64::try_from(number).unwrap() + 6,
                offset: row.offset,
            };
            prop_assert_eq!(row, &expected);
        }
        let sum = |amount: fn(&Made) -> i64| fen(made.iter().map(amount).sum());
        prop_assert_eq!(bill.fee, sum(|row| row.fee_fen));
        prop_assert_eq!(bill.share, sum(|row| row.share_fen));
        prop_assert_eq!(
            bill.payments.total.checked_add(bill.refunds.total),
            Some(sum(|row| row.total_fen))
        );
    }

    #[test]
    fn a_row_lost_doubled_or_changed_by_a_fen_is_refused(made in rows(), at in any::<Index>()) {
        prop_assume!(!made.is_empty());
        let at = at.index(made.len());
        let sign = if made[at].business == Business::Refund { -1 } else { 1 };

        let mut lost = made.clone();
        lost.remove(at);
        let mut doubled = made.clone();
        doubled.insert(at, made[at].clone());
        let mut received = made.clone();
        received[at].total_fen += sign;
        let mut discounted = made.clone();
        discounted[at].total_fen += sign;
        discounted[at].discount_fen += sign;
        for changed in [lost, doubled, received, discounted] {
            let refused = read_all(&bill(&changed, &made)).unwrap_err();
            prop_assert!(matches!(refused, BillError::Footer { .. }), "{refused}");
        }
    }

    #[test]
    fn no_bytes_at_all_make_the_reader_fall_over(at in any::<Index>(), bytes in any::<[u8; 3]>()) {
        let mut text = gbk(DETAIL);
        let at = at.index(text.len() - bytes.len());
        text[at..at + bytes.len()].copy_from_slice(&bytes);
        // Whatever it says: a bill that is read has rows that its footer knows.
        if let Ok((bill, rows)) = read_all(&zipped(&[("bill.csv", &text)])) {
            prop_assert_eq!(bill.rows, u64::try_from(rows.len()).unwrap());
        }
    }
}
