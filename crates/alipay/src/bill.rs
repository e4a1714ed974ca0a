//! The trade bill (业务明细): the zip as Alipay gives it, rows as the ledger wants them.
//!
//! A bill is believed only if it proves itself: its end marker stands, its footer's counts and sums
//! are those of its rows, and every row was read to the last fen. Files are known by their first
//! line, columns by their heading.
//!
//! Memory is flat in the bill's size: the archive is unpacked into one line buffer, a row lives
//! until the caller has taken it, and what is kept is a few sums per file.

use std::io::{Read, Seek};

use encoding_rs::GB18030;
use payment::{BillDay, BillRow, Business, Fen};

use crate::charset::Charset;

mod archive;
mod cells;
mod columns;
mod comment;
mod detail;
mod error;
mod footer;
mod kind;
mod lines;
mod row;
mod tally;
#[cfg(test)]
mod tests;

use archive::Archive;
use detail::Detail;
pub use error::{BillError, CellFault, LineFault, RowFault};
pub use footer::Disagreement;
use kind::Kind;
use tally::Tally;

/// Reads a trade bill from its zip file and hands every row to `each`, in the order of the bill.
///
/// Whether the bill is sound is known only at its end: until `Ok` is returned, the rows handed out
/// are a claim. A caller that stores them does so in a transaction and rolls back on an error.
///
/// Several 业务明细 in one archive are parts of one bill. Other kinds of bill in the archive are
/// recognised and unpacked (so that damage shows), not read.
///
/// # Errors
/// [`ReadError::Bill`] where the bill is refused, [`ReadError::Sink`] with whatever `each` returned.
pub fn read<E>(
    archive: impl Read + Seek,
    limits: &Limits,
    mut each: impl FnMut(BillRow) -> Result<(), E>,
) -> Result<Bill, ReadError<E>> {
    let mut archive = Archive::open(archive, limits)?;
    let mut details: Vec<Detail> = Vec::new();
    let mut others = Vec::new();
    for index in 0..archive.len() {
        let Some(mut entry) = archive.entry(index)? else { continue };
        let (kind, charset) = kind::recognise(&mut entry)?;
        match kind {
            Kind::TradeDetail => {
                let rows_before = details.iter().map(|detail| detail.tally.rows()).sum();
                let rows_left = limits.rows.saturating_sub(rows_before);
                details.push(detail::read(&mut entry, charset, rows_left, &mut each)?);
            }
            Kind::TradeSummary | Kind::FundDetail | Kind::FundSummary => {
                entry.drain()?;
                others.push(kind.as_str());
            }
        }
    }
    Ok(settle(&details, others)?)
}

/// Reads one row's text back from the kept original: the whole line, decoded.
///
/// `entry` and `offset` are those of the [`BillRow`]. The text holds buyer data: it is for the
/// person who works on a difference, never for a log. Bytes that are no text in the bill's charset
/// show as U+FFFD.
///
/// # Errors
/// [`BillError::NoSuchRow`] where no line begins there, and whatever unpacking may meet.
pub fn row_text(archive: impl Read + Seek, entry: u32, offset: u64) -> Result<String, BillError> {
    let no_such_row = || BillError::NoSuchRow { entry, offset };
    let mut archive = Archive::open(archive, &Limits::DAILY)?;
    let index = usize::try_from(entry).ok().filter(|index| *index < archive.len());
    let mut content = archive.entry(index.ok_or_else(no_such_row)?)?.ok_or_else(no_such_row)?;
    let (_, charset) = kind::recognise(&mut content)?;
    while let Some(line) = content.next_line()? {
        if line.offset == offset {
            return Ok(lossy(charset, line.bytes));
        }
        if line.offset > offset {
            break;
        }
    }
    Err(no_such_row())
}

/// What a sound bill adds up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill {
    /// 账号, the merchant's PID followed by `0156`; `None` where the bill does not tell it.
    pub account: Option<String>,
    /// The first day covered (起始日期).
    pub from: BillDay,
    /// The first day no longer covered (终止日期).
    pub to: BillDay,
    /// All rows, payments and refunds.
    pub rows: u64,
    /// The rows of 业务类型 交易.
    pub payments: Totals,
    /// The rows of 业务类型 退款; their sums are negative.
    pub refunds: Totals,
    /// Sum of 服务费 over all rows, with the bill's sign: a fee paid is negative.
    pub fee: Fen,
    /// Sum of 分润 over all rows, with the bill's sign.
    pub share: Fen,
    /// How many files of the archive were read as 业务明细.
    pub details: usize,
}

/// Count and sums of one 业务类型, with the bill's signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub count: u64,
    /// Sum of 订单金额.
    pub total: Fen,
    /// Sum of 商家实收.
    pub receipt: Fen,
}

/// How much of an archive is read before it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files in the archive, directories included.
    pub entries: usize,
    /// Bytes of all files together, as unpacked, not as declared.
    pub unpacked_bytes: u64,
    /// How many times its packed size a file may unpack to, once it is past `ratio_from_bytes`.
    pub ratio: u64,
    /// Below this size a file's ratio is not looked at: small repetitive bills pack very well.
    pub ratio_from_bytes: u64,
    /// One line, its CR included.
    pub line_bytes: usize,
    /// Rows of all 业务明细 together.
    pub rows: u64,
}

impl Limits {
    /// For one merchant's day: some 15 million rows, far beyond the largest bill heard of.
    pub const DAILY: Limits = Limits {
        entries: 100,
        unpacked_bytes: 4 << 30,
        ratio: 200,
        ratio_from_bytes: 64 << 20,
        line_bytes: 64 << 10,
        rows: 20_000_000,
    };
}

/// Why [`read`] stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// The bill is refused.
    #[error(transparent)]
    Bill(#[from] BillError),
    /// The caller refused a row.
    #[error(transparent)]
    Sink(E),
}

/// Puts the parts together, once every part has been read to its end.
fn settle(details: &[Detail], others: Vec<&'static str>) -> Result<Bill, BillError> {
    let Some(first) = details.first() else {
        return Err(BillError::NoDetails { held: others });
    };
    let mut whole = Tally::default();
    for detail in details {
        let differs = |what| BillError::Differs {
            first: first.entry.clone(),
            second: detail.entry.clone(),
            what,
        };
        if detail.account != first.account {
            return Err(differs("账号"));
        }
        if (detail.from, detail.to) != (first.from, first.to) {
            return Err(differs("起始日期, 终止日期"));
        }
        whole = whole
            .checked_add(&detail.tally)
            .ok_or_else(|| BillError::TooMuchMoney { entry: detail.entry.clone() })?;
    }
    for detail in details {
        // A part's footer may speak of the part or of the whole; either way every row is covered,
        // as every part must have a footer. One footer speaks of one thing, in both its lines.
        let of_the_part = detail.footer.disagreement(&detail.tally);
        let of_the_whole = detail.footer.disagreement(&whole);
        if let (Some(disagreement), Some(_)) = (of_the_part, of_the_whole) {
            return Err(BillError::Footer { entry: detail.entry.clone(), disagreement });
        }
    }
    let totals = |business| {
        let sums = whole.sums(business);
        Totals { count: sums.count, total: sums.total, receipt: sums.receipt }
    };
    Ok(Bill {
        account: first.account.clone(),
        from: first.from,
        to: first.to,
        rows: whole.rows(),
        payments: totals(Business::Payment),
        refunds: totals(Business::Refund),
        fee: whole.fee,
        share: whole.share,
        details: details.len(),
    })
}

fn lossy(charset: Charset, bytes: &[u8]) -> String {
    match charset {
        Charset::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
        Charset::Gb18030 => GB18030.decode_without_bom_handling(bytes).0.into_owned(),
    }
}
