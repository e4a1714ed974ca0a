//! Trade bills written by the book, as Alipay's: a zip with GBK names, GBK inside. Shares no code with the
//! simulator or with the reader.

use payment::{BillDay, Business, Fen};

use super::alipay::SELLER_ID;
use super::form::gbk;

/// The columns of today's bills, in their order.
pub(crate) const HEADINGS: [&str; 25] = [
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

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) trade_no: String,
    pub(crate) out_trade_no: String,
    pub(crate) business: Business,
    /// Empty on payments, and on refunds that nobody numbered.
    pub(crate) request_no: String,
    /// 完成时间
    pub(crate) at: String,
    /// 订单金额, negative on refunds.
    pub(crate) total_fen: i64,
    /// 商家实收
    pub(crate) receipt_fen: i64,
    /// 服务费, negative.
    pub(crate) fee_fen: i64,
    /// 商品名称
    pub(crate) subject: String,
}

/// One day's bill, before it is written down.
#[derive(Clone, Debug)]
pub(crate) struct Bill {
    pub(crate) day: BillDay,
    pub(crate) account: String,
    pub(crate) headings: Vec<&'static str>,
    pub(crate) footer: Footer,
    /// The rows of each 业务明细.
    pub(crate) parts: Vec<Vec<Row>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Footer {
    /// 商家实收, 商家优惠
    Receipts,
    /// The older wording: 交易金额, 优惠金额
    Totals,
}

/// A file of the archive: its name and its text.
pub(crate) type File = (String, String);

impl Bill {
    pub(crate) fn of(day: &str, rows: Vec<Row>) -> Bill {
        Bill {
            day: BillDay::parse(day).unwrap(),
            account: format!("{SELLER_ID}0156"),
            headings: HEADINGS.to_vec(),
            footer: Footer::Receipts,
            parts: vec![rows],
        }
    }

    pub(crate) fn zip(&self) -> Vec<u8> {
        zip(&self.files())
    }

    /// The 业务明细 and behind them the summary, which has nothing to say here.
    pub(crate) fn files(&self) -> Vec<File> {
        let start = format!("{}_{}", self.account, self.day.to_string().replace('-', ""));
        let mut files: Vec<File> = (1..)
            .zip(&self.parts)
            .map(|(number, rows)| (format!("{start}_业务明细_{number}.csv"), self.detail(rows)))
            .collect();
        let summary = format!("#支付宝业务汇总查询\r\n{}合计,,0\r\n", self.period());
        files.push((format!("{start}_业务明细(汇总).csv"), summary));
        files
    }

    fn detail(&self, rows: &[Row]) -> String {
        let lines = rows.iter().map(|row| {
            let cells = self.headings.iter().map(|heading| row.cell(heading));
            format!("{}\r\n", cells.collect::<Vec<_>>().join(","))
        });
        format!(
            "#支付宝业务明细查询\r\n{}#-----------业务明细列表----------\r\n{}\r\n{}\
             #-----------业务明细列表结束------\r\n{}#导出时间：[2024年03月06日 06:27:10]\r\n",
            self.period(),
            self.headings.join(","),
            lines.collect::<String>(),
            self.footer_of(rows),
        )
    }

    fn period(&self) -> String {
        let midnight = |day: BillDay| {
            let text = day.to_string();
            let mut parts = text.split('-');
            let mut next = || parts.next().unwrap();
            format!("[{}年{}月{}日 00:00:00]", next(), next(), next())
        };
        format!(
            "#账号：[{}]\r\n#起始日期：{}   终止日期：{}\r\n",
            self.account,
            midnight(self.day),
            midnight(self.day.next())
        )
    }

    fn footer_of(&self, rows: &[Row]) -> String {
        let line = |business: Business| {
            let own = || rows.iter().filter(|row| row.business == business);
            let count = own().count();
            let receipt = yuan(own().map(|row| row.receipt_fen).sum());
            let total = yuan(own().map(|row| row.total_fen).sum());
            let discount = yuan(own().map(|row| row.total_fen - row.receipt_fen).sum());
            match (business, self.footer) {
                (Business::Payment, Footer::Receipts) => {
                    format!(
                        "#交易合计：{count}笔，商家实收共{receipt}元，商家优惠共{discount}元\r\n"
                    )
                }
                (Business::Refund, Footer::Receipts) => format!(
                    "#退款合计：{count}笔，商家实收退款共{receipt}元，商家优惠退款共{discount}元\r\n"
                ),
                (Business::Payment, Footer::Totals) => {
                    format!("#交易合计：{count}笔，交易金额共{total}元，优惠金额共0.00元\r\n")
                }
                (Business::Refund, Footer::Totals) => format!(
                    "#退款合计：{count}笔，交易退款金额共{total}元，优惠退款金额共0.00元\r\n"
                ),
            }
        };
        line(Business::Payment) + &line(Business::Refund)
    }
}

impl Row {
    fn cell(&self, heading: &str) -> String {
        match heading {
            "支付宝交易号" => format!("{}\t", self.trade_no),
            "商户订单号" => format!("{}\t", self.out_trade_no),
            "业务类型" => match self.business {
                Business::Payment => "交易\t".to_owned(),
                Business::Refund => "退款\t".to_owned(),
            },
            "商品名称" => self.subject.clone(),
            "创建时间" | "完成时间" => self.at.clone(),
            "对方账户" => "*甲(138****01)\t".to_owned(),
            "订单金额（元）" => yuan(self.total_fen),
            "商家实收（元）" => yuan(self.receipt_fen),
            "商家优惠（元）" => yuan(self.total_fen - self.receipt_fen),
            "退款批次号/请求号" => format!("{}\t", self.request_no),
            "服务费（元）" => yuan(self.fee_fen),
            other if other.ends_with("（元）") => "0.00".to_owned(),
            _ => String::new(),
        }
    }
}

fn yuan(fen: i64) -> String {
    Fen::new(fen).to_string()
}

/// Packs the files without compressing them: local headers, the directory, its end.
pub(crate) fn zip(files: &[File]) -> Vec<u8> {
    let short = |number: usize| u16::try_from(number).unwrap().to_le_bytes();
    let long = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, text) in files {
        let (name, text) = (gbk(name), gbk(text));
        // Version 2.0, no flags, stored, at 06:27:10 on 2024-03-06; then checksum, sizes, name, no extra field.
        let mut header = vec![20, 0, 0, 0, 0, 0, 0x65, 0x33, 0x66, 0x58];
        header.extend(crc32(&text).to_le_bytes());
        header.extend([long(text.len()), long(text.len())].concat());
        header.extend([short(name.len()), short(0)].concat());
        let start = bytes.len();
        bytes.extend([b"PK\x03\x04", header.as_slice(), &name, &text].concat());
        // No comment, disk 0, no attributes; then where the local header stands.
        let rest = [&[0; 10], long(start).as_slice()].concat();
        directory.extend([b"PK\x01\x02\x14\x00", header.as_slice(), &rest, &name].concat());
    }
    let (start, length) = (bytes.len(), directory.len());
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([short(files.len()), short(files.len())].concat());
    bytes.extend([long(length), long(start)].concat());
    bytes.extend(short(0));
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 }
        })
    })
}
