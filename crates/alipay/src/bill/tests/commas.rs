//! Commas and quotes inside texts. How Alipay writes them is not known; see `cells`.

use expect_test::expect;

use super::*;

fn rows_of(text: &str) -> Vec<BillRow> {
    let (_, mut rows) = read_all(&bill_of(text)).unwrap_or_else(|err| panic!("{}", told(&err)));
    // Where a line lies changes with the lines before it; what it says must not.
    rows.iter_mut().for_each(|row| row.offset = 0);
    rows
}

/// Texts of the payment that has one in every column.
const TEXTS: [&str; 8] =
    ["用券商品", "S001\t", "一号店\t", "op1\t", "T9\t", "*丙(139****02)\t", "满50减5", "备注文本"];

#[test]
fn a_bare_comma_in_any_text_leaves_the_row_as_it_is() {
    for text in TEXTS {
        for commas in ["甲,乙", ",", "，", ",,,,", "1.00,2024-03-05 12:00:00,S"] {
            let changed = DETAIL.replace(text, commas);
            assert_ne!(changed, DETAIL, "{text}");
            assert_eq!(rows_of(&changed), rows_of(DETAIL), "{commas} for {text}");
        }
    }
}

#[test]
fn bare_commas_in_several_texts_at_once_leave_the_row_as_it_is() {
    let changed = DETAIL
        .replace("用券商品", "用券,商品")
        .replace("一号店", "一号,店")
        .replace("*丙(139****02)", "*丙,丁")
        .replace("满50减5", "满50,减5")
        .replace("备注文本", "备注,文,本");
    assert_eq!(rows_of(&changed), rows_of(DETAIL));
}

#[test]
fn quoted_cells_are_read_as_csv() {
    for text in TEXTS {
        for quoted in ["\"甲,乙\"", "\"甲,\"\"乙\"\",丙\"", "\"\"", "\",\"\t"] {
            let changed = DETAIL.replace(text, quoted);
            assert_eq!(rows_of(&changed), rows_of(DETAIL), "{quoted} for {text}");
        }
    }
    let all_quoted: String = DETAIL
        .lines()
        .map(|line| match line.starts_with('#') {
            true => format!("{line}\r\n"),
            false => format!("\"{}\"\r\n", line.replace(',', "\",\"")),
        })
        .collect();
    assert_eq!(rows_of(&all_quoted), rows_of(DETAIL));
}

#[test]
fn a_lone_quote_swallows_nothing() {
    for text in TEXTS {
        for quote in ["\"", "\"甲", "甲\"乙", "甲\"", "\"甲\"乙", "2\" x 4\""] {
            let changed = DETAIL.replace(text, quote);
            assert_eq!(rows_of(&changed), rows_of(DETAIL), "{quote} for {text}");
        }
    }
    let in_two_texts = DETAIL.replace("用券商品", "\"甲").replace("备注文本", "乙\"");
    assert_eq!(rows_of(&in_two_texts), rows_of(DETAIL));
    let with_a_comma = DETAIL.replace("用券商品", "\"甲,乙").replace("备注文本", "丙\"");
    assert_eq!(rows_of(&with_a_comma), rows_of(DETAIL));
}

#[test]
fn commas_that_can_be_read_in_two_ways_are_refused() {
    let row = "-15.50,-15.50,0.00,0.00,0.00,0.00,0.00,,0.00\t,0.00,RF20240305000003\t,0.00,0.00,";
    assert_eq!(DETAIL.matches(row).count(), 1);
    // The coupon is `满减,0.50`, the request `7.00`; or the coupon is `满减`, the fee 7.00 and the
    // remark has the comma.
    let ambiguous = row.replace(",,0.00\t,0.00,RF20240305000003\t", ",满减,0.50,0.00,0.00,7.00");
    expect![[r#"
        `bill.csv`, row 4 (line 9, byte 1132): has 26 cells for 25 headings, and it is not certain to which of its texts the commas belong
    "#]]
    .assert_eq(&refusal(&DETAIL.replace(row, &ambiguous)));
}

#[test]
fn commas_that_can_be_read_in_no_way_are_refused() {
    let many = ",".repeat(60_000);
    let changes = [("备注文本", many.as_str()), ("2024-03-05 12:00:09", "甲,2024-03-05 12:00:09")];
    let told: String =
        changes.iter().map(|(from, to)| refusal(&DETAIL.replace(from, to))).collect();
    expect![[r#"
        `bill.csv`, row 5 (line 10, byte 1352): has 60025 cells for 25 headings, and it is not certain to which of its texts the commas belong
        `bill.csv`, row 5 (line 10, byte 1352): has 26 cells for 25 headings, and wherever its texts have commas, an amount, a time or an id is not in its column
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_comma_in_an_amount_is_never_taken_for_one_in_the_text_before_it() {
    for amounts in [
        "50,00,45.00,",
        "50.00,45,00,",
        "1,050.00,1,045.00,",
        "1,050.00,1045.00,",
        "1,000.00,995.00,",
        "1,045.00,1,040.00,",
        "1,050.00,45.00,",
    ] {
        let err = read_all(&bill_of(&DETAIL.replace("50.00,45.00,", amounts))).unwrap_err();
        let BillError::Row { row: 5, fault, .. } = &err else { panic!("{amounts}: {err}") };
        assert!(matches!(fault, RowFault::NoReading { .. }), "{amounts}: {err}");
    }
}

#[test]
fn a_quoted_amount_that_is_none_is_named_in_its_column() {
    let refused = |cell: &str| refusal(&DETAIL.replace("50.00,45.00,", &format!("{cell},45.00,")));
    expect![[r#"
        `bill.csv`, row 5 (line 10, byte 1352): column `订单金额（元）`: `1e3` is not an amount in yuan; it looks like `88.88`: digits, at most two after the point
        `bill.csv`, row 5 (line 10, byte 1352): column `订单金额（元）`: `1,050.00` is not an amount in yuan; it looks like `88.88`: digits, at most two after the point
    "#]]
    .assert_eq(&(refused("\"1e3\"") + &refused("\"1,050.00\"")));
}
