use std::io::{Cursor, Write};

use encoding_rs::GB18030;
use payment::{OutTradeNo, RequestNo, TradeNo, to_local};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

mod archives;
mod commas;
mod made;
mod refused;

const GBK_ZIP: &[u8] = include_bytes!("fixtures/trade-gbk.csv.zip");
const DETAIL: &str = include_str!("fixtures/trade-detail.csv");
const EMPTY: &str = include_str!("fixtures/trade-detail-empty.csv");
const SUMMARY: &str = include_str!("fixtures/trade-summary.csv");
const FUND_DETAIL: &str = include_str!("fixtures/fund-detail.csv");
const FUND_SUMMARY: &str = include_str!("fixtures/fund-summary.csv");

fn gbk(text: &str) -> Vec<u8> {
    let (bytes, _, lossy) = GB18030.encode(text);
    assert!(!lossy);
    bytes.into_owned()
}

fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        if let Some(directory) = name.strip_suffix('/') {
            zip.add_directory(directory, SimpleFileOptions::default()).unwrap();
        } else {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content).unwrap();
        }
    }
    zip.finish().unwrap().into_inner()
}

/// One 业务明细 in GBK, zipped.
fn bill_of(text: &str) -> Vec<u8> {
    zipped(&[("bill.csv", &gbk(text))])
}

fn read_all(zip: &[u8]) -> Result<(Bill, Vec<BillRow>), BillError> {
    read_within(zip, &Limits::DAILY)
}

fn read_within(zip: &[u8], limits: &Limits) -> Result<(Bill, Vec<BillRow>), BillError> {
    let mut rows = Vec::new();
    let bill = read(Cursor::new(zip), limits, |row| {
        rows.push(row);
        Ok::<_, std::convert::Infallible>(())
    });
    match bill {
        Ok(bill) => Ok((bill, rows)),
        Err(ReadError::Bill(err)) => Err(err),
        Err(ReadError::Sink(never)) => match never {},
    }
}

/// The error with its causes, as a person reads it, on a line.
fn told(err: &BillError) -> String {
    let err: &dyn std::error::Error = err;
    let causes = std::iter::successors(err.source(), |err| err.source());
    causes.fold(err.to_string(), |told, cause| format!("{told}: {cause}")) + "\n"
}

fn refusal(text: &str) -> String {
    told(&read_all(&bill_of(text)).unwrap_err())
}

fn fen(fen: i64) -> Fen {
    Fen::new(fen)
}

#[test]
fn the_gbk_zip_is_read_to_the_last_fen() {
    let (bill, rows) = read_all(GBK_ZIP).unwrap();
    let day = BillDay::parse("2024-03-05").unwrap();
    let expected = Bill {
        account: Some("20880000000000000156".to_owned()),
        from: day,
        to: day.next(),
        rows: 5,
        payments: Totals { count: 2, total: fen(15_000), receipt: fen(14_500) },
        refunds: Totals { count: 3, total: fen(-6_550), receipt: fen(-6_550) },
        fee: fen(-87),
        share: Fen::ZERO,
        details: 1,
    };
    assert_eq!(bill, expected);
    let refund = BillRow {
        trade_no: TradeNo::parse("2024030422001400000000000077").unwrap(),
        out_trade_no: OutTradeNo::parse("ORD20240304000077").unwrap(),
        business: Business::Refund,
        request_no: Some(RequestNo::parse("RF20240305000003").unwrap()),
        completed_at: payment::parse_local("2024-03-05 08:00:03").unwrap(),
        total: fen(-1_550),
        receipt: fen(-1_550),
        fee: Fen::ZERO,
        share: Fen::ZERO,
        entry: 1,
        line: 9,
        offset: rows[3].offset,
    };
    assert_eq!(rows[3], refund);
    let payment = &rows[4];
    assert_eq!((payment.total, payment.receipt, payment.fee), (fen(5_000), fen(4_500), fen(-27)));
    assert_eq!(to_local(payment.completed_at), "2024-03-05 12:00:09");
    assert_eq!(payment.request_no, None);
}

#[test]
fn a_rows_text_is_read_back_by_where_it_lies() {
    let (_, rows) = read_all(GBK_ZIP).unwrap();
    let written: Vec<&str> = DETAIL.lines().filter(|line| line.starts_with("2024")).collect();
    let back: Vec<String> = rows
        .iter()
        .map(|row| row_text(Cursor::new(GBK_ZIP), row.entry, row.offset).unwrap())
        .collect();
    assert_eq!(back, written);

    for (entry, offset) in [(1, rows[0].offset + 1), (1, 1 << 40), (2, 0), (u32::MAX, 0)] {
        let err = row_text(Cursor::new(GBK_ZIP), entry, offset).unwrap_err();
        assert!(matches!(err, BillError::NoSuchRow { .. }), "{err}");
    }
}

#[test]
fn utf_8_with_and_without_a_mark_and_any_line_end_read_the_same() {
    let (expected, _) = read_all(&bill_of(DETAIL)).unwrap();
    let unix = DETAIL.replace("\r\n", "\n");
    let dos = unix.replace('\n', "\r\n");
    for text in [unix.clone(), dos.clone(), format!("\u{FEFF}{dos}"), unix.trim_end().to_owned()] {
        let (bill, rows) = read_all(&zipped(&[("bill.csv", text.as_bytes())])).unwrap();
        assert_eq!(bill, expected);
        let first = row_text(Cursor::new(zipped(&[("b", text.as_bytes())])), 0, rows[0].offset);
        assert!(first.unwrap().starts_with("2024030522001400000000000101\t,ORD"));
    }
}

#[test]
fn an_empty_day_is_a_sound_bill_without_rows() {
    let (bill, rows) = read_all(&bill_of(EMPTY)).unwrap();
    assert_eq!((bill.rows, bill.payments, bill.refunds), (0, Totals::default(), Totals::default()));
    assert_eq!(bill.from, BillDay::parse("2024-03-06").unwrap());
    assert_eq!(rows, []);
}

#[test]
fn a_bill_without_its_account_line_has_no_account() {
    let text = DETAIL.replace("#账号：[20880000000000000156]", "#");
    assert_eq!(read_all(&bill_of(&text)).unwrap().0.account, None);
}

#[test]
fn columns_may_stand_anywhere_and_unknown_ones_come_and_go() {
    let moved: String = DETAIL
        .lines()
        .map(|line| match line.split(',').collect::<Vec<_>>() {
            cells if cells.len() == 25 => {
                let last =
                    if line.starts_with("支付宝") { "实收净额（元）" } else { "0.00" };
                cells.into_iter().rev().chain([last]).collect::<Vec<_>>().join(",") + "\n"
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert_ne!(moved, DETAIL);
    let (expected, rows) = read_all(&bill_of(DETAIL)).unwrap();
    let (bill, moved_rows) = read_all(&bill_of(&moved)).unwrap();
    assert_eq!(bill, expected);
    assert_eq!(moved_rows[2].request_no, rows[2].request_no);
}

#[test]
fn a_bill_without_the_optional_columns_is_read_without_them() {
    let fewer: String = DETAIL
        .lines()
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            match cells.len() {
                // 商家优惠 and 分润.
                25 => [&cells[..16], &cells[17..23], &cells[24..]].concat().join(",") + "\n",
                _ => format!("{line}\n"),
            }
        })
        .collect();
    let (bill, _) = read_all(&bill_of(&fewer)).unwrap();
    assert_eq!(bill, read_all(&bill_of(DETAIL)).unwrap().0);
}

#[test]
fn the_older_wording_of_the_footer_speaks_of_the_order_amount() {
    let older = DETAIL
        .replace("商家实收共145.00元，商家优惠共5.00元", "交易金额共150.00元，优惠金额共0.00元")
        .replace(
            "商家实收退款共-65.50元，商家优惠退款共0.00元",
            "交易退款金额共65.50元，优惠退款金额共0.00元",
        );
    assert!(read_all(&bill_of(&older)).is_ok());
    let wrong = older.replace("150.00元，优惠", "145.00元，优惠");
    assert_eq!(
        refusal(&wrong),
        "`bill.csv`: the footer `#交易合计` says 订单金额 145.00, the rows add up to 150.00\n"
    );
}

#[test]
fn what_the_caller_refuses_is_handed_back_as_it_is() {
    #[derive(Debug, PartialEq, thiserror::Error)]
    #[error("the disk is full")]
    struct Full;

    let mut seen = 0;
    let refused = read(Cursor::new(GBK_ZIP), &Limits::DAILY, |_| {
        seen += 1;
        if seen == 3 { Err(Full) } else { Ok(()) }
    });
    assert!(matches!(refused, Err(ReadError::Sink(Full))));
    assert_eq!(seen, 3);
}
