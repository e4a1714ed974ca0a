use std::io;

use payment::{Fen, FenError, IdError};
use zip::result::ZipError;

use super::footer::Disagreement;

/// Why a bill is refused: which file, which line, which column, and what is wrong there.
///
/// Names of files are shown decoded; amounts, times and ids in excerpts of at most 40 characters;
/// what was sold, who paid and what was remarked (商品名称, 对方账户, 备注) is never shown.
#[derive(Debug, thiserror::Error)]
pub enum BillError {
    #[error("cannot read the zip file")]
    Read(#[source] io::Error),
    #[error(
        "the file is not a zip: a bill is given as it was downloaded, `…_YYYYMMDD.csv.zip`, not unpacked"
    )]
    NotAZip,
    #[error(
        "the zip file does not end with its directory: it was cut off, or something was appended; fetch the bill again"
    )]
    CutOff,
    #[error("cannot read the zip file's directory: it is damaged, fetch the bill again")]
    Directory(#[source] ZipError),
    #[error(
        "the zip file is of the zip64 form, made for more than 4 GiB or 65534 files; no bill is that large"
    )]
    Zip64,
    #[error("the zip file holds {entries} files, more than the {limit} that are read")]
    TooManyEntries { entries: usize, limit: usize },
    #[error("two files in the zip file bear the same name: one would hide the other")]
    RepeatedEntry,
    #[error("`{entry}` is encrypted; Alipay's bills are not")]
    Encrypted { entry: String },
    #[error(
        "`{entry}` is packed by a method ({method}) that is not read; bills are stored or deflated"
    )]
    Method { entry: String, method: String },
    #[error("cannot unpack `{entry}`: it is damaged, fetch the bill again")]
    Unpack {
        entry: String,
        #[source]
        err: io::Error,
    },
    #[error(
        "`{entry}` unpacks to more than the {declared_bytes} bytes it declares: the zip file is damaged or made to deceive"
    )]
    LongerThanDeclared { entry: String, declared_bytes: u64 },
    #[error("`{entry}` brings the unpacked bill above the limit of {limit_bytes} bytes")]
    TooLarge { entry: String, limit_bytes: u64 },
    #[error("`{entry}` unpacks to more than {limit} times its packed size: no bill does")]
    TooDense { entry: String, limit: u64 },
    #[error(
        "`{entry}` is not a bill: its first line is none of `#支付宝业务明细查询`, `#支付宝业务汇总查询`, `#支付宝账务明细查询`, `#支付宝账务汇总查询`"
    )]
    UnknownEntry { entry: String },
    #[error("the zip file holds no trade bill (业务明细); it holds {}", kinds_held(held))]
    NoDetails { held: Vec<&'static str> },
    /// A line that is not a row: a comment or the headings.
    #[error("`{entry}`, line {line} (byte {offset}): {fault}")]
    Line { entry: String, line: u64, offset: u64, fault: LineFault },
    /// The `row`-th row of the file, counted from 1.
    #[error("`{entry}`, row {row} (line {line}, byte {offset}): {fault}")]
    Row { entry: String, row: u64, line: u64, offset: u64, fault: RowFault },
    #[error("`{entry}` has no period: its line `#起始日期：[…]   终止日期：[…]` is missing")]
    NoPeriod { entry: String },
    #[error(
        "`{entry}` ends after {rows} rows without {missing}: it was cut off, fetch the bill again"
    )]
    Incomplete { entry: String, rows: u64, missing: &'static str },
    #[error("`{entry}`: {disagreement}")]
    Footer { entry: String, disagreement: Disagreement },
    #[error("`{entry}`: the sums are larger than this system can hold")]
    TooMuchMoney { entry: String },
    #[error("`{first}` and `{second}` differ in {what}: they are not parts of one bill")]
    Differs { first: String, second: String, what: &'static str },
    #[error(
        "file {entry} of the zip has no line that begins at byte {offset}: is it the bill this row was read from?"
    )]
    NoSuchRow { entry: u32, offset: u64 },
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    #[error("is longer than {limit_bytes} bytes")]
    TooLong { limit_bytes: usize },
    #[error("is not text in {charset}, the charset of the first line")]
    NotText { charset: &'static str },
    #[error("is not the account; it looks like `#账号：[20880000000000000156]`")]
    Account,
    #[error(
        "is not the period; it looks like `#起始日期：[2024年03月05日 00:00:00]   终止日期：[2024年03月06日 00:00:00]`"
    )]
    Period,
    #[error(
        "is not a footer; it looks like `#交易合计：2笔，商家实收共145.00元，商家优惠共5.00元`"
    )]
    Footer,
    #[error("says {what} a second time")]
    Repeated { what: &'static str },
    #[error("the headings lack {}", list(columns))]
    MissingHeadings { columns: Vec<&'static str> },
    #[error("the headings have {column} twice")]
    RepeatedHeading { column: &'static str },
    #[error("there are {headings} headings, more than the {limit} that are read")]
    TooManyHeadings { headings: usize, limit: usize },
    #[error("is a row behind the end of the list (业务明细列表结束)")]
    RowAfterEnd,
}

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowFault {
    #[error("has {cells} cells, fewer than the {headings} headings")]
    TooFewCells { cells: usize, headings: usize },
    #[error(
        "has {cells} cells for {headings} headings, and wherever its texts have commas, an amount, a time or an id is not in its column"
    )]
    NoReading { cells: usize, headings: usize },
    #[error(
        "has {cells} cells for {headings} headings, and it is not certain to which of its texts the commas belong"
    )]
    SeveralReadings { cells: usize, headings: usize },
    #[error("column `{column}`: {fault}")]
    Cell { column: &'static str, fault: CellFault },
    #[error("is one more than the limit of rows")]
    TooManyRows,
    #[error("makes the sums larger than this system can hold")]
    TooMuchMoney,
}

/// What is wrong with a cell. `shown` is what stands in it, where that may be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CellFault {
    #[error("{shown} {fault}")]
    Amount { shown: String, fault: FenError },
    #[error("`{amount}` is negative, and the row is a payment (交易)")]
    NegativePayment { amount: Fen },
    #[error("`{amount}` is positive, and the row is a refund (退款)")]
    PositiveRefund { amount: Fen },
    #[error("{shown} is not a time; it looks like `2024-03-05 09:00:12`")]
    Time { shown: String },
    #[error("the cell is neither 交易 nor 退款")]
    Business,
    #[error("the id {0}")]
    Id(IdError),
    #[error("the id has characters that no id has")]
    ForeignId,
}

fn kinds_held(kinds: &[&'static str]) -> String {
    if kinds.is_empty() { "no bill at all".to_owned() } else { list(kinds) }
}

fn list(names: &[&'static str]) -> String {
    names.join(", ")
}
