//! Zips: what they hold, what is wrong with them, and what is too much.

use expect_test::expect;

use super::*;

fn refused(zip: &[u8]) -> String {
    told(&read_all(zip).unwrap_err())
}

/// Changes bytes at `at` in the directory's first entry.
fn patched(zip: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut zip = zip.to_vec();
    let entry = memchr::memmem::find(&zip, b"PK\x01\x02").unwrap();
    zip[entry + at..entry + at + bytes.len()].copy_from_slice(bytes);
    zip
}

/// The rows of [`DETAIL`] in two files, with footers that tell each file's own sums.
fn two_parts() -> (String, String) {
    let lines: Vec<&str> = DETAIL.lines().collect();
    let part = |rows: &[&str], payments: &str, refunds: &str| {
        let footer = [&format!("#交易合计：{payments}元"), &format!("#退款合计：{refunds}元")];
        [&lines[..5], rows, &lines[10..11], &footer.map(String::as_str)].concat().join("\r\n")
    };
    (
        part(&lines[5..7], "1笔，商家实收共100.00元，商家优惠共0.00", "1笔，商家实收退款共-30.00"),
        part(&lines[7..10], "1笔，商家实收共45.00元，商家优惠共5.00", "2笔，商家实收退款共-35.50"),
    )
}

const OF_ALL: [(&str, &str); 2] = [
    ("#交易合计：", "#交易合计：2笔，商家实收共145.00元，商家优惠共5.00元"),
    ("#退款合计：", "#退款合计：3笔，商家实收退款共-65.50元，商家优惠退款共0.00元"),
];

/// The same part with footers that tell the sums of all parts.
fn with_footer_of_all(part: &str) -> String {
    let line = |line: &str| {
        let of_all = OF_ALL.iter().find(|(begin, _)| line.starts_with(begin));
        of_all.map_or(line, |(_, of_all)| of_all).to_owned()
    };
    part.lines().map(line).collect::<Vec<_>>().join("\r\n")
}

#[test]
fn kinds_are_told_by_content_whatever_the_names_and_the_order() {
    let files: [(&str, &[u8]); 5] = [
        ("业务明细.csv", &gbk(FUND_SUMMARY)),
        ("2", &gbk(FUND_DETAIL)),
        ("账务明细.csv", DETAIL.as_bytes()),
        ("empty/", b""),
        ("../../etc/passwd", &gbk(SUMMARY)),
    ];
    let (bill, rows) = read_all(&zipped(&files)).unwrap();
    assert_eq!((bill.rows, bill.details), (5, 1));
    assert!(rows.iter().all(|row| row.entry == 2));
}

#[test]
fn an_archive_without_a_trade_bill_says_what_it_holds() {
    let funds = zipped(&[("a", &gbk(FUND_DETAIL)), ("b", &gbk(FUND_SUMMARY))]);
    expect![[r#"
        the zip file holds no trade bill (业务明细); it holds 账务明细, 账务汇总
        the zip file holds no trade bill (业务明细); it holds no bill at all
    "#]]
    .assert_eq(&(refused(&funds) + &refused(&zipped(&[]))));
}

#[test]
fn a_file_that_is_no_bill_is_refused_by_name() {
    let told = [
        refused(&zipped(&[("b", &gbk(DETAIL)), ("说明.txt", b"hello")])),
        refused(&zipped(&[("empty", b"")])),
        refused(&zipped(&[("cut", "#支付宝".as_bytes())])),
    ];
    expect![[r#"
        `说明.txt` is not a bill: its first line is none of `#支付宝业务明细查询`, `#支付宝业务汇总查询`, `#支付宝账务明细查询`, `#支付宝账务汇总查询`
        `empty` is not a bill: its first line is none of `#支付宝业务明细查询`, `#支付宝业务汇总查询`, `#支付宝账务明细查询`, `#支付宝账务汇总查询`
        `cut` is not a bill: its first line is none of `#支付宝业务明细查询`, `#支付宝业务汇总查询`, `#支付宝账务明细查询`, `#支付宝账务汇总查询`
    "#]]
    .assert_eq(&told.concat());
}

#[test]
fn a_gbk_name_without_the_flag_is_shown_decoded() {
    let mut zip = GBK_ZIP.to_vec();
    // The last entry's checksum.
    let entry = memchr::memmem::rfind(&zip, b"PK\x01\x02").unwrap();
    zip[entry + 16] ^= 1;
    expect![[r#"
        cannot unpack `20880000000000000156_20240305_业务明细.csv`: it is damaged, fetch the bill again: Invalid checksum
    "#]]
    .assert_eq(&refused(&zip));
}

#[test]
fn what_is_no_whole_zip_is_refused_with_the_reason() {
    let bill = bill_of(DETAIL);
    let told = [
        refused(DETAIL.as_bytes()),
        refused(&GBK_ZIP[..GBK_ZIP.len() - 1]),
        // Flags, method, checksum, size.
        refused(&patched(&bill, 8, &[1])),
        refused(&patched(&bill, 10, &[12])),
        refused(&patched(&bill, 16, &[0, 0, 0, 0])),
        refused(&patched(&bill, 24, &[100, 0, 0, 0])),
    ];
    expect![[r#"
        the file is not a zip: a bill is given as it was downloaded, `…_YYYYMMDD.csv.zip`, not unpacked
        the zip file does not end with its directory: it was cut off, or something was appended; fetch the bill again
        `bill.csv` is encrypted; Alipay's bills are not
        `bill.csv` is packed by a method (Unsupported(12)) that is not read; bills are stored or deflated
        cannot unpack `bill.csv`: it is damaged, fetch the bill again: Invalid checksum
        `bill.csv` unpacks to more than the 100 bytes it declares: the zip file is damaged or made to deceive
    "#]]
    .assert_eq(&told.concat());
}

#[test]
fn damage_in_a_file_that_is_not_read_shows_too() {
    let damaged = patched(GBK_ZIP, 16, &[0, 0, 0, 0]);
    expect![[r#"
        cannot unpack `20880000000000000156_20240305_业务明细(汇总).csv`: it is damaged, fetch the bill again: Invalid checksum
    "#]]
    .assert_eq(&refused(&damaged));
}

#[test]
fn one_name_may_not_hide_another() {
    let zip = zipped(&[("a.csv", DETAIL.as_bytes()), ("b.csv", DETAIL.as_bytes())]);
    let entry = memchr::memmem::rfind(&zip, b"PK\x01\x02").unwrap();
    let mut same = zip.clone();
    same[entry + 46] = b'a';
    expect![[r#"
        two files in the zip file bear the same name: one would hide the other
    "#]]
    .assert_eq(&refused(&same));
}

#[test]
fn a_zip_cut_anywhere_is_refused() {
    for length in 0..GBK_ZIP.len() {
        assert!(read_all(&GBK_ZIP[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn a_flipped_bit_is_refused_or_changes_nothing() {
    let sound = read_all(GBK_ZIP).unwrap();
    let mut refused = 0;
    for at in 0..GBK_ZIP.len() {
        for bit in 0..8 {
            let mut zip = GBK_ZIP.to_vec();
            zip[at] ^= 1 << bit;
            match read_all(&zip) {
                Ok(read) => assert_eq!(read, sound, "byte {at}, bit {bit}"),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > GBK_ZIP.len());
}

#[test]
fn a_bomb_is_stopped_by_what_really_comes_out() {
    let row = DETAIL.lines().nth(5).unwrap();
    let bomb = bill_of(&DETAIL.replace(row, &[row; 20_000].join("\r\n")));
    let beyond = |zip, limits| told(&read_within(zip, &limits).unwrap_err());
    let told = [
        beyond(&bomb, Limits { ratio: 20, ratio_from_bytes: 100_000, ..Limits::DAILY }),
        beyond(&bomb, Limits { unpacked_bytes: 100_000, ..Limits::DAILY }),
        beyond(GBK_ZIP, Limits { entries: 1, ..Limits::DAILY }),
        beyond(GBK_ZIP, Limits { rows: 4, ..Limits::DAILY }),
    ];
    expect![[r#"
        `bill.csv` unpacks to more than 20 times its packed size: no bill does
        `bill.csv` brings the unpacked bill above the limit of 100000 bytes
        the zip file holds 2 files, more than the 1 that are read
        `20880000000000000156_20240305_业务明细.csv`, row 5 (line 10, byte 1352): is one more than the limit of rows
    "#]]
    .assert_eq(&told.concat());
}

#[test]
fn the_limit_of_unpacked_bytes_is_of_all_files_together() {
    let zip = zipped(&[("a", &gbk(SUMMARY)), ("b", &gbk(DETAIL))]);
    let bytes = u64::try_from(gbk(SUMMARY).len() + gbk(DETAIL).len()).unwrap();
    assert!(read_within(&zip, &Limits { unpacked_bytes: bytes, ..Limits::DAILY }).is_ok());
    let err =
        read_within(&zip, &Limits { unpacked_bytes: bytes - 1, ..Limits::DAILY }).unwrap_err();
    assert!(matches!(err, BillError::TooLarge { .. }), "{err}");
}

#[test]
fn a_line_has_a_limit() {
    let long =
        DETAIL.replace("商品A,2024-03-05 09:00:00,2024-03-05 09:00:12", &"长".repeat(40_000));
    expect![[r#"
        `bill.csv`, line 6 (byte 529): is longer than 65536 bytes
    "#]]
    .assert_eq(&refusal(&long));
}

#[test]
fn parts_of_one_bill_may_tell_their_own_sums_or_the_sums_of_all() {
    let (first, second) = two_parts();
    let (expected, _) = read_all(&bill_of(DETAIL)).unwrap();
    for (first, second) in [
        (first.clone(), second.clone()),
        (first.clone(), with_footer_of_all(&second)),
        (with_footer_of_all(&first), with_footer_of_all(&second)),
    ] {
        let zip = zipped(&[("1.csv", &gbk(&first)), ("2.csv", second.as_bytes())]);
        let (bill, rows) = read_all(&zip).unwrap();
        assert_eq!(bill, Bill { details: 2, ..expected.clone() });
        assert_eq!(rows.iter().map(|row| row.entry).collect::<Vec<_>>(), [0, 0, 1, 1, 1]);
        assert_eq!((rows[1].line, rows[2].line), (7, 6));
    }
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let (first, second) = two_parts();
    let refused =
        |second: &str| refused(&zipped(&[("1.csv", &gbk(&first)), ("2.csv", &gbk(second))]));
    // The first line of this footer tells the part, the second the whole: neither is proved.
    let mixed = second.replace("2笔，商家实收退款共-35.50", "3笔，商家实收退款共-65.50");
    let told = [
        refused(&second.replace("0156]", "0157]")),
        refused(&second.replace("03月06日", "03月07日")),
        refused(&second.replace("-15.50,-15.50", "-15.51,-15.51")),
        refused(&mixed),
        refused(second.split("#退款合计").next().unwrap()),
    ];
    expect![[r#"
        `1.csv` and `2.csv` differ in 账号: they are not parts of one bill
        `1.csv` and `2.csv` differ in 起始日期, 终止日期: they are not parts of one bill
        `2.csv`: the footer `#退款合计` says 商家实收 -35.50, the rows add up to -35.51
        `2.csv`: the footer `#退款合计` says 笔数 3, the rows add up to 2
        `2.csv` ends after 3 rows without its footer 退款合计: it was cut off, fetch the bill again
    "#]]
    .assert_eq(&told.concat());
}
