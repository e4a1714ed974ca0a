//! Every way a 业务明细 can be unsound, and what the person who gave it reads.

use expect_test::expect;

use super::*;

/// What is said of the bill after each of these changes, one line each.
fn refusals(changes: &[(&str, &str)]) -> String {
    changes.iter().map(|(from, to)| refusal(&with(from, to))).collect()
}

/// Replaces text that is there exactly once.
fn with(from: &str, to: &str) -> String {
    assert_eq!(DETAIL.matches(from).count(), 1, "{from}");
    DETAIL.replace(from, to)
}

#[test]
fn an_amount_that_is_none_is_named_with_row_line_and_column() {
    let changes = [
        ("100.00,100.00,", "1e3,100.00,"),
        ("100.00,100.00,", "100.00,88.888,"),
        ("\t,-0.60,", "\t,,"),
        ("50.00,45.00,", "甲乙,45.00,"),
        ("-0.27,0.00,", "-0.27,99999999999999999999.00,"),
        ("3.00,5.00,5.00", "3.00,5.0.0,5.00"),
    ];
    expect![[r#"
        `bill.csv`, row 1 (line 6, byte 529): column `订单金额（元）`: `1e3` is not an amount in yuan; it looks like `88.88`: digits, at most two after the point
        `bill.csv`, row 1 (line 6, byte 529): column `商家实收（元）`: `88.888` is not an amount in yuan; it looks like `88.88`: digits, at most two after the point
        `bill.csv`, row 1 (line 6, byte 529): column `服务费（元）`: the cell is empty; an amount looks like `88.88`
        `bill.csv`, row 5 (line 10, byte 1352): column `订单金额（元）`: a text of 4 bytes is not an amount in yuan; it looks like `88.88`: digits, at most two after the point
        `bill.csv`, row 5 (line 10, byte 1352): column `分润（元）`: `99999999999999999999.00` is larger than this system can hold
        `bill.csv`, row 5 (line 10, byte 1352): column `商家优惠（元）`: `5.0.0` is not an amount in yuan; it looks like `88.88`: digits, at most two after the point
    "#]]
    .assert_eq(&refusals(&changes));
}

#[test]
fn a_sign_that_contradicts_the_kind_of_row_is_refused() {
    let changes = [("100.00,100.00,", "100.00,-100.00,"), ("-30.00,-30.00,", "30.00,-30.00,")];
    expect![[r#"
        `bill.csv`, row 1 (line 6, byte 529): column `商家实收（元）`: `-100.00` is negative, and the row is a payment (交易)
        `bill.csv`, row 2 (line 7, byte 720): column `订单金额（元）`: `30.00` is positive, and the row is a refund (退款)
    "#]]
    .assert_eq(&refusals(&changes));
}

#[test]
fn an_id_a_time_or_a_kind_of_row_that_is_none_is_refused() {
    let long = "9".repeat(65);
    let changes = [
        ("2024030422001400000000000077\t", "\t"),
        ("ORD20240304000077", "订单77"),
        ("RF20240305000002", "RF\u{7f}2"),
        ("RF20240305000002", &long),
        ("2024-03-05 11:45:00", "2024-03-05T11:45:00"),
        ("2024-03-05 11:45:00", "2024/3/5 11:45"),
        ("2024-03-05 11:45:00", "甲"),
        (",交易\t,商品A", ",转账\t,商品A"),
    ];
    expect![[r#"
        `bill.csv`, row 4 (line 9, byte 1132): column `支付宝交易号`: the id is empty
        `bill.csv`, row 4 (line 9, byte 1132): column `商户订单号`: the id has characters that no id has
        `bill.csv`, row 3 (line 8, byte 926): column `退款批次号/请求号`: the id has a control character or a blank at its edge
        `bill.csv`, row 3 (line 8, byte 926): column `退款批次号/请求号`: the id is longer than 64 characters
        `bill.csv`, row 3 (line 8, byte 926): column `完成时间`: `2024-03-05T11:45:00` is not a time; it looks like `2024-03-05 09:00:12`
        `bill.csv`, row 3 (line 8, byte 926): column `完成时间`: `2024/3/5 11:45` is not a time; it looks like `2024-03-05 09:00:12`
        `bill.csv`, row 3 (line 8, byte 926): column `完成时间`: a text of 2 bytes is not a time; it looks like `2024-03-05 09:00:12`
        `bill.csv`, row 1 (line 6, byte 529): column `业务类型`: the cell is neither 交易 nor 退款
    "#]]
    .assert_eq(&refusals(&changes));
}

#[test]
fn a_torn_row_is_refused_and_nothing_of_the_buyer_is_shown() {
    let changes = [
        (",*乙(abc***@example.com)\t", ""),
        (",用券商品,2024-03-05 12:00:00,", ",用券商品,甲,乙,"),
        ("12:00:09,S001\t,一号店\t,op1", "12:00:09,S001"),
        ("2024-03-05 12:00:09,S001\t,一号店\t", "*丙(139****02),S001\t,一号店"),
    ];
    expect![[r#"
        `bill.csv`, row 4 (line 9, byte 1132): has 24 cells, fewer than the 25 headings
        `bill.csv`, row 5 (line 10, byte 1352): has 26 cells for 25 headings, and wherever its texts have commas, an amount, a time or an id is not in its column
        `bill.csv`, row 5 (line 10, byte 1352): has 23 cells, fewer than the 25 headings
        `bill.csv`, row 5 (line 10, byte 1352): column `完成时间`: a text of 14 bytes is not a time; it looks like `2024-03-05 09:00:12`
    "#]]
    .assert_eq(&refusals(&changes));
}

#[test]
fn a_bill_that_was_cut_off_is_refused() {
    let ends =
        ["支付宝交易号", "满50减5", "#-----------------------------------------业务明细列表结束"];
    let ends = ends.iter().chain(&["#交易合计", "#退款合计"]);
    let told: String = ends.map(|end| refusal(DETAIL.split_once(end).unwrap().0)).collect();
    expect![[r#"
        `bill.csv` ends after 0 rows without its headings: it was cut off, fetch the bill again
        `bill.csv`, row 5 (line 10, byte 1352): has 19 cells, fewer than the 25 headings
        `bill.csv` ends after 5 rows without the end of the list (业务明细列表结束): it was cut off, fetch the bill again
        `bill.csv` ends after 5 rows without its footer 交易合计: it was cut off, fetch the bill again
        `bill.csv` ends after 5 rows without its footer 退款合计: it was cut off, fetch the bill again
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_footer_that_is_not_its_rows_is_refused_with_both_figures() {
    let changes = [
        ("#交易合计：2笔", "#交易合计：3笔"),
        ("商家实收共145.00元", "商家实收共145.01元"),
        ("商家优惠共5.00元", "商家优惠共0.00元"),
        ("#退款合计：3笔", "#退款合计：0笔"),
        ("退款共-65.50元", "退款共65.50元"),
        ("商家优惠退款共0.00元", "商家优惠退款共0.01元"),
    ];
    expect![[r#"
        `bill.csv`: the footer `#交易合计` says 笔数 3, the rows add up to 2
        `bill.csv`: the footer `#交易合计` says 商家实收 145.01, the rows add up to 145.00
        `bill.csv`: the footer `#交易合计` says 商家优惠 0.00, the rows add up to 5.00
        `bill.csv`: the footer `#退款合计` says 笔数 0, the rows add up to 3
        `bill.csv`: the footer `#退款合计` says 商家实收 65.50, the rows add up to -65.50
        `bill.csv`: the footer `#退款合计` says 商家优惠 0.01, the rows add up to 0.00
    "#]]
    .assert_eq(&refusals(&changes));
}

#[test]
fn comments_that_cannot_be_read_are_refused() {
    let changes = [
        ("#账号：[20880000000000000156]", "#账号：20880000000000000156"),
        ("终止日期", "结束日期"),
        ("#起始日期", "#日期"),
        ("商家实收共145.00元", "共145.00元"),
        ("#导出时间", "#退款合计：3笔，商家实收退款共-65.50元\n#导出时间"),
        ("#导出时间", "2024030522001400000000000199\t,ORD\n#导出时间"),
    ];
    expect![[r#"
        `bill.csv`, line 2 (byte 21): is not the account; it looks like `#账号：[20880000000000000156]`
        `bill.csv`, line 3 (byte 52): is not the period; it looks like `#起始日期：[2024年03月05日 00:00:00]   终止日期：[2024年03月06日 00:00:00]`
        `bill.csv` has no period: its line `#起始日期：[…]   终止日期：[…]` is missing
        `bill.csv`, line 12 (byte 1670): is not a footer; it looks like `#交易合计：2笔，商家实收共145.00元，商家优惠共5.00元`
        `bill.csv`, line 14 (byte 1786): says 退款合计 a second time
        `bill.csv`, line 14 (byte 1786): is a row behind the end of the list (业务明细列表结束)
    "#]]
    .assert_eq(&refusals(&changes));
}

#[test]
fn headings_that_are_missing_or_repeated_are_refused() {
    let changes = [
        ("服务费（元）,", "手续费（元）,"),
        ("退款批次号/请求号", "商户订单号"),
        ("支付宝红包（元）", "商家实收(元)"),
    ];
    expect![[r#"
        `bill.csv`, line 5 (byte 224): the headings lack 服务费（元）
        `bill.csv`, line 5 (byte 224): the headings lack 退款批次号/请求号
        `bill.csv`, line 5 (byte 224): the headings have 商家实收（元） twice
    "#]]
    .assert_eq(&refusals(&changes));
}

#[test]
fn text_in_another_charset_than_the_first_line_is_refused() {
    let mut bytes = DETAIL.as_bytes().to_vec();
    let at = memchr::memmem::find(&bytes, "#交易合计".as_bytes()).unwrap();
    bytes[at + 1] = 0xFF;
    let err = read_all(&zipped(&[("bill.csv", &bytes)])).unwrap_err();
    expect![[r#"
        `bill.csv`, line 12 (byte 1890): is not text in utf-8, the charset of the first line
    "#]]
    .assert_eq(&told(&err));
}

#[test]
fn sums_beyond_what_can_be_held_are_refused() {
    let large = "90000000000000000.00,90000000000000000.00,";
    let text = with("100.00,100.00,", large).replace("50.00,45.00,", large);
    expect![[r#"
        `bill.csv`, row 5 (line 10, byte 1380): makes the sums larger than this system can hold
    "#]]
    .assert_eq(&refusal(&text));
}
