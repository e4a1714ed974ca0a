use std::io::{Cursor, Read};

use expect_test::expect;
use payment::{AppId, SellerId, parse_local};

use super::*;

fn row(trade: u32, business: Business, receipt_fen: i64) -> Row {
    let refund = business == Business::Refund;
    Row {
        trade_no: TradeNo::parse(&format!("20240305220010000000000000{trade:02}")).unwrap(),
        out_trade_no: OutTradeNo::parse(&format!("ORD202403050000000{trade}")).unwrap(),
        business,
        request_no: refund.then(|| RequestNo::parse("RF202403050000000101").unwrap()),
        subject: "测试商品 A+B & \"C\" 100%",
        created_at: parse_local("2024-03-05 09:00:00").unwrap(),
        completed_at: parse_local("2024-03-05 09:00:12").unwrap(),
        store: (trade == 2).then_some(Store {
            number: "S001",
            name: "一号店",
            operator: "op1",
            terminal: "T9",
        }),
        account: "*甲(138****01)".to_owned(),
        total_fen: if trade == 2 { receipt_fen + 500 } else { receipt_fen },
        receipt_fen,
        alipay_discount_fen: if trade == 2 { 200 } else { 0 },
        merchant_discount_fen: if trade == 2 { 500 } else { 0 },
        fee_fen: if refund { 0 } else { -60 },
    }
}

fn plan() -> Plan {
    Plan {
        seed: 1,
        first_day: BillDay::parse("2024-03-05").unwrap(),
        days: 1,
        trades: 0,
        app_id: AppId::parse("2021000000000001").unwrap(),
        seller_id: SellerId::parse("2088000000000001").unwrap(),
        fee_rate_ppm: 6_000,
    }
}

fn page(exported_at: &str) -> text::Page<'static> {
    text::Page {
        account: "20880000000000010156",
        day: BillDay::parse("2024-03-05").unwrap(),
        exported_at: parse_local(exported_at).unwrap(),
    }
}

/// TABs as `→`, so that they can be seen; every line must end in CRLF.
fn visible(text: &str) -> String {
    assert!(text.ends_with("\r\n"));
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    text.replace("\r\n", "\n").replace('\t', "→")
}

#[test]
fn the_details_look_as_alipay_writes_them() {
    let rows = [
        row(1, Business::Payment, 10_000),
        row(1, Business::Refund, -3_000),
        row(2, Business::Payment, 4_500),
    ];
    expect![[r##"
        #支付宝业务明细查询
        #账号：[20880000000000010156]
        #起始日期：[2024年03月05日 00:00:00]   终止日期：[2024年03月06日 00:00:00]
        #-----------------------------------------业务明细列表----------------------------------------
        支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,门店编号,门店名称,操作员,终端号,对方账户,订单金额（元）,商家实收（元）,支付宝红包（元）,集分宝（元）,支付宝优惠（元）,商家优惠（元）,券核销金额（元）,券名称,商家红包消费金额（元）,卡消费金额（元）,退款批次号/请求号,服务费（元）,分润（元）,备注
        2024030522001000000000000001→,ORD2024030500000001→,交易→,测试商品 A+B & "C" 100%,2024-03-05 09:00:00,2024-03-05 09:00:12,→,→,→,→,*甲(138****01)→,100.00,100.00,0.00,0.00,0.00,0.00,0.00,,0.00→,0.00,→,-0.60,0.00,
        2024030522001000000000000001→,ORD2024030500000001→,退款→,测试商品 A+B & "C" 100%,2024-03-05 09:00:00,2024-03-05 09:00:12,→,→,→,→,*甲(138****01)→,-30.00,-30.00,0.00,0.00,0.00,0.00,0.00,,0.00→,0.00,RF202403050000000101→,0.00,0.00,
        2024030522001000000000000002→,ORD2024030500000002→,交易→,测试商品 A+B & "C" 100%,2024-03-05 09:00:00,2024-03-05 09:00:12,S001→,一号店→,op1→,T9→,*甲(138****01)→,50.00,45.00,2.00,0.00,0.00,5.00,5.00,满减券,0.00→,0.00,→,-0.60,0.00,
        #-----------------------------------------业务明细列表结束------------------------------------
        #交易合计：2笔，商家实收共145.00元，商家优惠共5.00元
        #退款合计：1笔，商家实收退款共-30.00元，商家优惠退款共0.00元
        #导出时间：[2024年03月06日 06:27:10]
    "##]].assert_eq(&visible(&text::details(&page("2024-03-06 06:27:10"), &rows)));
}

#[test]
fn the_summary_has_a_row_per_store_and_their_sum() {
    let rows = [
        row(1, Business::Payment, 10_000),
        row(1, Business::Refund, -3_000),
        row(2, Business::Payment, 4_500),
    ];
    expect![[r#"
        #支付宝业务汇总查询
        #账号：[20880000000000010156]
        #起始日期：[2024年03月05日 00:00:00]   终止日期：[2024年03月06日 00:00:00]
        #-----------------------------------------业务汇总列表----------------------------------------
        门店编号,门店名称,交易订单总笔数,退款订单总笔数,订单金额（元）,商家实收（元）,支付宝优惠（元）,商家优惠（元）,卡消费金额（元）,服务费（元）,分润（元）,实收净额（元）
        →,→,1,1,70.00,70.00,0.00,0.00,0.00,-0.60,0.00,69.40
        S001→,一号店→,1,0,50.00,45.00,0.00,5.00,0.00,-0.60,0.00,44.40
        合计,,2,1,120.00,115.00,0.00,5.00,0.00,-1.20,0.00,113.80
        #----------------------------------------业务汇总列表结束-------------------------------------
        #导出时间：[2024年03月06日 06:27:10]
    "#]].assert_eq(&visible(&text::summary(&page("2024-03-06 06:27:10"), &rows)));
}

#[test]
fn an_empty_day_has_headings_and_zeros() {
    expect![[r#"
        #支付宝业务明细查询
        #账号：[20880000000000010156]
        #起始日期：[2024年03月05日 00:00:00]   终止日期：[2024年03月06日 00:00:00]
        #-----------------------------------------业务明细列表----------------------------------------
        支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,门店编号,门店名称,操作员,终端号,对方账户,订单金额（元）,商家实收（元）,支付宝红包（元）,集分宝（元）,支付宝优惠（元）,商家优惠（元）,券核销金额（元）,券名称,商家红包消费金额（元）,卡消费金额（元）,退款批次号/请求号,服务费（元）,分润（元）,备注
        #-----------------------------------------业务明细列表结束------------------------------------
        #交易合计：0笔，商家实收共0.00元，商家优惠共0.00元
        #退款合计：0笔，商家实收退款共0.00元，商家优惠退款共0.00元
        #导出时间：[2024年03月06日 06:27:10]
    "#]].assert_eq(&visible(&text::details(&page("2024-03-06 06:27:10"), &[])));
}

#[test]
fn names_in_the_zip_are_gbk_and_nothing_says_so() {
    let sheet = Sheet {
        day: BillDay::parse("2024-03-05").unwrap(),
        rows: vec![row(1, Business::Payment, 10_000), row(2, Business::Payment, 4_500)],
    };
    let mut splits = 0;
    for seed in 0..20 {
        let bill = write(&sheet, &plan(), &mut Dice::seeded(seed)).unwrap();
        assert_eq!(bill.file_name, "20880000000000010156_20240305.csv.zip");
        let mut zip = zip::ZipArchive::new(Cursor::new(&bill.zip)).unwrap();
        let mut names = Vec::new();
        for index in 0..zip.len() {
            let mut entry = zip.by_index(index).unwrap();
            let (name, _, broken) = encoding_rs::GBK.decode(entry.name_raw());
            assert!(!broken);
            let header = usize::try_from(entry.header_start()).unwrap();
            let central = usize::try_from(entry.central_header_start()).unwrap();
            // General purpose flags: bit 11 would say UTF-8.
            assert_eq!(bill.zip[header + 7] & 0b1000, 0);
            assert_eq!(bill.zip[central + 9] & 0b1000, 0);
            // The local header's name is the central directory's.
            assert_eq!(&bill.zip[header + 30..][..entry.name_raw().len()], entry.name_raw());
            names.push(name.into_owned());
            let mut text = Vec::new();
            entry.read_to_end(&mut text).unwrap();
            let text = encoding_rs::GBK.decode_without_bom_handling_and_without_replacement(&text);
            assert!(text.unwrap().starts_with("#支付宝业务"));
        }
        names.sort();
        let stem = "20880000000000010156_20240305_业务明细";
        if names.len() == 2 {
            assert_eq!(names, [format!("{stem}(汇总).csv"), format!("{stem}.csv")]);
        } else {
            let parts =
                [format!("{stem}(汇总).csv"), format!("{stem}_1.csv"), format!("{stem}_2.csv")];
            assert_eq!(names, parts);
            splits += 1;
        }
    }
    assert!((1..20).contains(&splits));
}

#[test]
fn all_that_is_sold_can_be_written_in_gbk() {
    let mut dice = Dice::seeded(1);
    for _ in 0..500 {
        let goods = crate::shop::goods(&mut dice);
        for text in [Some(goods.subject), goods.body, goods.passback_params].into_iter().flatten() {
            assert!(!encoding_rs::GBK.encode(text).2, "{text}");
            assert!(!text.contains(','), "{text}");
        }
    }
}
