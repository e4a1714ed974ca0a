use std::io::BufRead;

use payment::{BillDay, BillRow};

use super::cells::Splitter;
use super::columns::Columns;
use super::comment::Comment;
use super::footer::{Footer, FooterLine};
use super::lines::Lines;
use super::tally::Tally;
use super::{BillError, LineFault, ReadError, RowFault, row};
use crate::charset::Charset;

/// One 业务明细 file, read to its end: what it says of itself and what its rows add up to.
pub(super) struct Detail {
    pub(super) entry: String,
    pub(super) account: Option<String>,
    pub(super) from: BillDay,
    pub(super) to: BillDay,
    pub(super) footer: Footer,
    pub(super) tally: Tally,
}

/// Reads what follows the first line: comments, headings, rows, the end of the list, the footer.
pub(super) fn read<E>(
    lines: &mut Lines<impl BufRead>,
    charset: Charset,
    rows_left: u64,
    each: &mut impl FnMut(BillRow) -> Result<(), E>,
) -> Result<Detail, ReadError<E>> {
    let mut said = Said::default();
    let columns = headings(lines, charset, &mut said)?;
    let tally = rows(lines, &columns, rows_left, &mut said, each)?;
    rest(lines, charset, &mut said)?;
    Ok(said.finish(lines.entry(), tally)?)
}

/// Reads up to the first line that is no comment: the headings.
fn headings(
    lines: &mut Lines<impl BufRead>,
    charset: Charset,
    said: &mut Said,
) -> Result<Columns, BillError> {
    while let Some(line) = lines.next_line()? {
        if line.is_blank() {
            continue;
        }
        let comment = line.is_comment();
        let text = charset.decode(line.bytes).ok_or(not_text(charset));
        let found = match text {
            Ok(text) if comment => said.take(&text).map(|()| None),
            Ok(text) => Columns::read(&text, charset).map(Some),
            Err(fault) => Err(fault),
        };
        match found {
            Ok(Some(columns)) => return Ok(columns),
            Ok(None) => {}
            Err(fault) => return Err(lines.fault(fault)),
        }
    }
    Err(incomplete(lines.entry(), 0, "its headings"))
}

/// Reads up to the end of the list.
fn rows<E>(
    lines: &mut Lines<impl BufRead>,
    columns: &Columns,
    rows_left: u64,
    said: &mut Said,
    each: &mut impl FnMut(BillRow) -> Result<(), E>,
) -> Result<Tally, ReadError<E>> {
    let mut tally = Tally::default();
    let mut splitter = Splitter::default();
    let index = lines.index();
    while !said.end_of_list {
        let Some(line) = lines.next_line()? else {
            let missing = "the end of the list (业务明细列表结束)";
            return Err(incomplete(lines.entry(), tally.rows(), missing).into());
        };
        if line.is_comment() {
            let text = columns.charset.decode(line.bytes).ok_or(not_text(columns.charset));
            let taken = text.and_then(|text| said.take(&text));
            taken.map_err(|fault| lines.fault(fault))?;
            continue;
        }
        if line.is_blank() {
            continue;
        }
        let (number, offset) = (line.number, line.offset);
        let read = splitter
            .split(line.bytes, columns)
            .and_then(|cells| row::read(&cells, columns, index, number, offset))
            .and_then(|(row, discount)| {
                if tally.rows() >= rows_left {
                    return Err(RowFault::TooManyRows);
                }
                tally.count(&row, discount).ok_or(RowFault::TooMuchMoney)?;
                Ok(row)
            });
        match read {
            Ok(row) => each(row).map_err(ReadError::Sink)?,
            Err(fault) => {
                let row = tally.rows().saturating_add(1);
                return Err(lines.row_fault(row, fault).into());
            }
        }
    }
    Ok(tally)
}

/// Reads what stands behind the end of the list: comments only.
fn rest(
    lines: &mut Lines<impl BufRead>,
    charset: Charset,
    said: &mut Said,
) -> Result<(), BillError> {
    while let Some(line) = lines.next_line()? {
        let taken = if line.is_comment() {
            charset.decode(line.bytes).ok_or(not_text(charset)).and_then(|text| said.take(&text))
        } else if line.is_blank() {
            Ok(())
        } else {
            Err(LineFault::RowAfterEnd)
        };
        taken.map_err(|fault| lines.fault(fault))?;
    }
    Ok(())
}

/// What the comment lines have said so far.
#[derive(Default)]
struct Said {
    account: Option<String>,
    period: Option<(BillDay, BillDay)>,
    end_of_list: bool,
    payments: Option<FooterLine>,
    refunds: Option<FooterLine>,
}

impl Said {
    fn take(&mut self, text: &str) -> Result<(), LineFault> {
        let (earlier, what) = match Comment::read(text)? {
            Comment::Account(account) => (self.account.replace(account).is_some(), "账号"),
            Comment::Period { from, to } => (self.period.replace((from, to)).is_some(), "起始日期"),
            Comment::EndOfList => {
                (std::mem::replace(&mut self.end_of_list, true), "业务明细列表结束")
            }
            Comment::Payments(line) => (self.payments.replace(line).is_some(), "交易合计"),
            Comment::Refunds(line) => (self.refunds.replace(line).is_some(), "退款合计"),
            Comment::Other => (false, ""),
        };
        if earlier { Err(LineFault::Repeated { what }) } else { Ok(()) }
    }

    fn finish(self, entry: &str, tally: Tally) -> Result<Detail, BillError> {
        let lacks = |missing| incomplete(entry, tally.rows(), missing);
        let (from, to) =
            self.period.ok_or_else(|| BillError::NoPeriod { entry: entry.to_owned() })?;
        let payments = self.payments.ok_or_else(|| lacks("its footer 交易合计"))?;
        let refunds = self.refunds.ok_or_else(|| lacks("its footer 退款合计"))?;
        let footer = Footer { payments, refunds };
        Ok(Detail { entry: entry.to_owned(), account: self.account, from, to, footer, tally })
    }
}

fn not_text(charset: Charset) -> LineFault {
    LineFault::NotText { charset: charset.as_str() }
}

fn incomplete(entry: &str, rows: u64, missing: &'static str) -> BillError {
    BillError::Incomplete { entry: entry.to_owned(), rows, missing }
}
