//! The files inside the zip, as text; lines end in CRLF, and some cells in a TAB, as in Alipay's.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use payment::{BillDay, Business, to_local};

use super::Row;
use crate::notice::yuan;
use crate::trade::Store;

/// What stands above and below the lists of one bill.
pub(super) struct Page<'a> {
    /// PID + `0156`
    pub(super) account: &'a str,
    pub(super) day: BillDay,
    pub(super) exported_at: DateTime<Utc>,
}

/// 业务明细
pub(super) fn details(page: &Page<'_>, rows: &[Row]) -> String {
    let mut text = Text::default();
    text.line("#支付宝业务明细查询");
    page.head(&mut text);
    text.line(&format!("#{}业务明细列表{}", "-".repeat(41), "-".repeat(40)));
    text.line(&DETAIL_HEADINGS.join(","));
    for row in rows {
        text.line(&detail(row));
    }
    text.line(&format!("#{}业务明细列表结束{}", "-".repeat(41), "-".repeat(36)));
    let payments = Sums::of(rows.iter().filter(|row| row.business == Business::Payment));
    text.line(&format!(
        "#交易合计：{}笔，商家实收共{}元，商家优惠共{}元",
        payments.count,
        yuan(payments.receipt_fen),
        yuan(payments.merchant_discount_fen)
    ));
    let refunds = Sums::of(rows.iter().filter(|row| row.business == Business::Refund));
    text.line(&format!(
        "#退款合计：{}笔，商家实收退款共{}元，商家优惠退款共{}元",
        refunds.count,
        yuan(refunds.receipt_fen),
        yuan(refunds.merchant_discount_fen)
    ));
    page.foot(&mut text);
    text.0
}

/// 业务明细(汇总): one row per store, and their sum.
pub(super) fn summary(page: &Page<'_>, rows: &[Row]) -> String {
    let mut text = Text::default();
    text.line("#支付宝业务汇总查询");
    page.head(&mut text);
    text.line(&format!("#{}业务汇总列表{}", "-".repeat(41), "-".repeat(40)));
    text.line(&SUMMARY_HEADINGS.join(","));
    let mut stores: BTreeMap<Option<Store>, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        stores.entry(row.store).or_default().push(row);
    }
    for (store, rows) in stores {
        let (number, name) = store.map_or(("", ""), |store| (store.number, store.name));
        text.line(&format!("{number}\t,{name}\t,{}", totals(&rows)));
    }
    text.line(&format!("合计,,{}", totals(&rows.iter().collect::<Vec<_>>())));
    text.line(&format!("#{}业务汇总列表结束{}", "-".repeat(40), "-".repeat(37)));
    page.foot(&mut text);
    text.0
}

const DETAIL_HEADINGS: [&str; 25] = [
    "支付宝交易号",
    "商户订单号",
    "业务类型",
    "商品名称",
    "创建时间",
    "完成时间",
    "门店编号",
    "门店名称",
    "操作员",
    "终端号",
    "对方账户",
    "订单金额（元）",
    "商家实收（元）",
    "支付宝红包（元）",
    "集分宝（元）",
    "支付宝优惠（元）",
    "商家优惠（元）",
    "券核销金额（元）",
    "券名称",
    "商家红包消费金额（元）",
    "卡消费金额（元）",
    "退款批次号/请求号",
    "服务费（元）",
    "分润（元）",
    "备注",
];

const SUMMARY_HEADINGS: [&str; 12] = [
    "门店编号",
    "门店名称",
    "交易订单总笔数",
    "退款订单总笔数",
    "订单金额（元）",
    "商家实收（元）",
    "支付宝优惠（元）",
    "商家优惠（元）",
    "卡消费金额（元）",
    "服务费（元）",
    "分润（元）",
    "实收净额（元）",
];

/// Columns 0, 1, 2, 6 to 10, 19 and 21 end in a TAB, also where they are empty.
fn detail(row: &Row) -> String {
    let business = match row.business {
        Business::Payment => "交易",
        Business::Refund => "退款",
    };
    let (store, name, operator, terminal) =
        row.store.map_or(("", "", "", ""), |at| (at.number, at.name, at.operator, at.terminal));
    let request_no = row.request_no.as_ref().map_or("", |request_no| request_no.as_str());
    let voucher_fen = row.merchant_discount_fen;
    let voucher = if voucher_fen == 0 { "" } else { "满减券" };
    [
        format!("{}\t", row.trade_no),
        format!("{}\t", row.out_trade_no),
        format!("{business}\t"),
        row.subject.to_owned(),
        to_local(row.created_at),
        to_local(row.completed_at),
        format!("{store}\t"),
        format!("{name}\t"),
        format!("{operator}\t"),
        format!("{terminal}\t"),
        format!("{}\t", row.account),
        yuan(row.total_fen),
        yuan(row.receipt_fen),
        yuan(row.alipay_discount_fen),
        yuan(0),
        yuan(0),
        yuan(row.merchant_discount_fen),
        yuan(voucher_fen),
        voucher.to_owned(),
        format!("{}\t", yuan(0)),
        yuan(0),
        format!("{request_no}\t"),
        yuan(row.fee_fen),
        yuan(0),
        String::new(),
    ]
    .join(",")
}

/// The ten figures of a summary row. 支付宝优惠 does not count 支付宝红包, and nothing is shared out (分润).
fn totals(rows: &[&Row]) -> String {
    let count = |business| rows.iter().filter(|row| row.business == business).count().to_string();
    let sums = Sums::of(rows.iter().copied());
    [
        count(Business::Payment),
        count(Business::Refund),
        yuan(sums.total_fen),
        yuan(sums.receipt_fen),
        yuan(0),
        yuan(sums.merchant_discount_fen),
        yuan(0),
        yuan(sums.fee_fen),
        yuan(0),
        yuan(sums.receipt_fen + sums.fee_fen),
    ]
    .join(",")
}

#[derive(Default)]
struct Sums {
    count: u64,
    total_fen: i64,
    receipt_fen: i64,
    merchant_discount_fen: i64,
    fee_fen: i64,
}

impl Sums {
    fn of<'a>(rows: impl Iterator<Item = &'a Row>) -> Self {
        rows.fold(Sums::default(), |sums, row| Sums {
            count: sums.count + 1,
            total_fen: sums.total_fen + row.total_fen,
            receipt_fen: sums.receipt_fen + row.receipt_fen,
            merchant_discount_fen: sums.merchant_discount_fen + row.merchant_discount_fen,
            fee_fen: sums.fee_fen + row.fee_fen,
        })
    }
}

impl Page<'_> {
    fn head(&self, text: &mut Text) {
        let from = in_chinese(self.day.start());
        let to = in_chinese(self.day.end());
        text.line(&format!("#账号：[{}]", self.account));
        text.line(&format!("#起始日期：[{from}]   终止日期：[{to}]"));
    }

    fn foot(&self, text: &mut Text) {
        text.line(&format!("#导出时间：[{}]", in_chinese(self.exported_at)));
    }
}

/// `2024年03月05日 00:00:00`, in Beijing.
fn in_chinese(at: DateTime<Utc>) -> String {
    let local = to_local(at);
    let (date, time) = local.split_once(' ').unwrap_or((&local, ""));
    let date = date.replacen('-', "年", 1).replacen('-', "月", 1);
    format!("{date}日 {time}")
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push_str("\r\n");
    }
}
