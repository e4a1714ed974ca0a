use std::ops::Range;

use csv::{ByteRecord, ReaderBuilder};
use memchr::memchr2_iter;
use payment::Fen;

use super::columns::{Column, Columns};
use super::{RowFault, row};

/// The cells of one row, as many as there are headings. Bytes: only what is needed is decoded.
pub(super) struct Cells<'a> {
    bytes: &'a [u8],
    ranges: &'a [Range<usize>],
}

impl<'a> Cells<'a> {
    /// Without the TABs and blanks around it: Alipay puts a TAB behind ids, so that spreadsheets
    /// leave their digits alone.
    pub(super) fn get(&self, column: usize) -> &'a [u8] {
        let cell = self.ranges.get(column).and_then(|range| self.bytes.get(range.clone()));
        cell.unwrap_or_default().trim_ascii()
    }
}

/// Splits rows into cells; keeps its buffers from row to row.
#[derive(Default)]
pub(super) struct Splitter {
    ranges: Vec<Range<usize>>,
    unquoted: ByteRecord,
}

/// A line read as CSV, quotes and all.
enum Quoted {
    /// Every cell holds what its column wants.
    Fits,
    /// As many cells as headings, and this one is wrong.
    Misfit(RowFault),
    /// Not as many cells as headings: the quotes are no CSV quotes.
    Torn,
}

impl Splitter {
    /// Splits at the commas. That is all an ordinary row needs, also undecoded: no second byte of a
    /// GBK character is a comma, a quote, a TAB or a line end.
    ///
    /// No bill seen says how Alipay writes a comma inside a text. Both ways are read: the cell in
    /// quotes, and the bare comma where one reading alone puts every amount, time and id into its
    /// column. A quote is never searched for beyond the line.
    pub(super) fn split<'a>(
        &'a mut self,
        line: &'a [u8],
        columns: &Columns,
    ) -> Result<Cells<'a>, RowFault> {
        let has_quotes = self.split_at_commas(line);
        let (cells, headings) = (self.ranges.len(), columns.order.len());
        let quoted = if has_quotes { self.unquote(line, columns) } else { Quoted::Torn };
        match quoted {
            Quoted::Torn if cells == headings => {}
            Quoted::Torn if cells < headings => {
                return Err(RowFault::TooFewCells { cells, headings });
            }
            Quoted::Torn => self.ranges = rejoin(line, &self.ranges, columns)?,
            Quoted::Misfit(fault) if cells != headings => {
                self.ranges = rejoin(line, &self.ranges, columns).map_err(|_| fault)?;
            }
            Quoted::Fits | Quoted::Misfit(_) => {
                self.ranges.clear();
                let ranges = (0..headings).filter_map(|cell| self.unquoted.range(cell));
                self.ranges.extend(ranges);
                return Ok(Cells { bytes: self.unquoted.as_slice(), ranges: &self.ranges });
            }
        }
        Ok(Cells { bytes: line, ranges: &self.ranges })
    }

    /// Says whether there is a quote in the line.
    fn split_at_commas(&mut self, line: &[u8]) -> bool {
        self.ranges.clear();
        let (mut start, mut has_quotes) = (0, false);
        for at in memchr2_iter(b',', b'"', line) {
            if line.get(at) == Some(&b',') {
                self.ranges.push(start..at);
                start = at + 1;
            } else {
                has_quotes = true;
            }
        }
        self.ranges.push(start..line.len());
        has_quotes
    }

    fn unquote(&mut self, line: &[u8], columns: &Columns) -> Quoted {
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(4096)
            .from_reader(line);
        let read = reader.read_byte_record(&mut self.unquoted).unwrap_or(false);
        if !read || self.unquoted.len() != columns.order.len() {
            return Quoted::Torn;
        }
        let misfit = self.unquoted.iter().zip(&columns.order).find_map(|(cell, column)| {
            let fault = row::check(*column, cell.trim_ascii(), columns.charset).err()?;
            Some(RowFault::Cell { column: column.heading(), fault })
        });
        misfit.map_or(Quoted::Fits, Quoted::Misfit)
    }
}

/// Finds the text cells that hold the surplus commas. A comma in a text moves everything behind
/// it by one cell, so the commas are in the right texts if all other columns hold what they must
/// and the amounts agree. Neighbouring texts count as one: which of them holds the comma changes
/// nothing that is read.
fn rejoin(
    line: &[u8],
    ranges: &[Range<usize>],
    columns: &Columns,
) -> Result<Vec<Range<usize>>, RowFault> {
    let (cells, headings) = (ranges.len(), columns.order.len());
    let mut search = Search {
        all: Cells { bytes: line, ranges },
        columns,
        surplus: cells.saturating_sub(headings),
        steps_left: Search::STEPS,
        laid: Vec::with_capacity(headings),
        readings: Vec::new(),
    };
    search.lay(None, 0);
    if search.steps_left == 0 {
        return Err(RowFault::SeveralReadings { cells, headings });
    }
    let reading = search.readings.pop().ok_or(RowFault::NoReading { cells, headings })?;
    if search.readings.is_empty() {
        Ok(reading)
    } else {
        Err(RowFault::SeveralReadings { cells, headings })
    }
}

/// Lays the cells under the headings, from left to right, in every way in which they fit.
struct Search<'a> {
    all: Cells<'a>,
    columns: &'a Columns,
    surplus: usize,
    /// So that no line, however it is made, takes long.
    steps_left: usize,
    /// The cells under the headings so far.
    laid: Vec<Range<usize>>,
    /// At most two: a second one is one too many.
    readings: Vec<Vec<Range<usize>>>,
}

impl Search<'_> {
    const STEPS: usize = 20_000;

    /// Goes on behind the column `previous`, where `met` of the surplus commas have been met.
    fn lay(&mut self, previous: Option<Column>, met: usize) {
        self.steps_left = self.steps_left.saturating_sub(1);
        if self.steps_left == 0 || self.readings.len() > 1 {
            return;
        }
        let place = self.laid.len();
        let Some(column) = self.columns.order.get(place).copied() else {
            if met == self.surplus && self.amounts_agree() {
                self.readings.push(self.laid.clone());
            }
            return;
        };
        let most = if column == Column::Text && previous != Some(Column::Text) {
            self.surplus
        } else if self.fits(column, place + met) {
            met
        } else {
            return;
        };
        for met in met..=most {
            self.laid.push(self.all.ranges.get(place + met).cloned().unwrap_or_default());
            self.lay(Some(column), met);
            self.laid.pop();
        }
    }

    /// Stricter than in a row that is whole: `000.00` may be the end of `1,000.00`, and `1` its
    /// beginning. Alipay writes two places always.
    fn fits(&self, column: Column, cell: usize) -> bool {
        let cell = self.all.get(cell);
        row::check(column, cell, self.columns.charset).is_ok()
            && (!column.is_amount() || has_two_places(cell))
    }

    /// 商家实收 is 订单金额 less 商家优惠. Not demanded of whole rows: it is not documented, only so
    /// in all bills seen.
    fn amounts_agree(&self) -> bool {
        let cells = Cells { bytes: self.all.bytes, ranges: &self.laid };
        let amount = |place| Fen::parse_yuan_bytes(cells.get(place)).ok();
        let discount = self.columns.discount.map_or(Some(Fen::ZERO), amount);
        let total = amount(self.columns.total);
        let receipt = total.zip(discount).and_then(|(total, discount)| total.checked_sub(discount));
        receipt.is_some() && receipt == amount(self.columns.receipt)
    }
}

/// `0.00`, `-12.34`; not `5`, `00.10`, `1.2`.
fn has_two_places(amount: &[u8]) -> bool {
    let amount = amount.strip_prefix(b"-").unwrap_or(amount);
    match amount {
        [b'0', b'.', _, _] => true,
        [b'0', ..] => false,
        [.., b'.', _, _] => true,
        _ => false,
    }
}
