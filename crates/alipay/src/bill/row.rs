use chrono::{DateTime, Utc};
use payment::{BillRow, Business, Fen, IdError, OutTradeNo, RequestNo, TradeNo, parse_local};

use super::cells::Cells;
use super::columns::{Column, Columns};
use super::{CellFault, RowFault};
use crate::charset::Charset;
use crate::excerpt::excerpt;

/// Reads one row, and its 商家优惠 where the bill has that column.
pub(super) fn read(
    cells: &Cells<'_>,
    columns: &Columns,
    entry: u32,
    line: u64,
    offset: u64,
) -> Result<(BillRow, Option<Fen>), RowFault> {
    let business = business(cells.get(columns.business), columns.charset)
        .map_err(in_column(Column::Business))?;
    let amount_of = |column: Column, place| amount(cells.get(place)).map_err(in_column(column));
    let moved_of = |column: Column, place| {
        amount_of(column, place)
            .and_then(|amount| signed_as(business, amount).map_err(in_column(column)))
    };
    let request_no = match cells.get(columns.request_no) {
        b"" => None,
        cell => Some(id(cell, RequestNo::parse).map_err(in_column(Column::RequestNo))?),
    };
    let row = BillRow {
        trade_no: id(cells.get(columns.trade_no), TradeNo::parse)
            .map_err(in_column(Column::TradeNo))?,
        out_trade_no: id(cells.get(columns.out_trade_no), OutTradeNo::parse)
            .map_err(in_column(Column::OutTradeNo))?,
        business,
        request_no,
        completed_at: time(cells.get(columns.completed_at))
            .map_err(in_column(Column::CompletedAt))?,
        total: moved_of(Column::Total, columns.total)?,
        receipt: moved_of(Column::Receipt, columns.receipt)?,
        fee: amount_of(Column::Fee, columns.fee)?,
        share: match columns.share {
            Some(share) => amount_of(Column::Share, share)?,
            None => Fen::ZERO,
        },
        entry,
        line,
        offset,
    };
    let discount = columns.discount.map(|place| amount_of(Column::Discount, place)).transpose()?;
    Ok((row, discount))
}

/// Whether a cell can stand in that column, as far as its bytes tell.
pub(super) fn check(column: Column, cell: &[u8], charset: Charset) -> Result<(), CellFault> {
    match column {
        Column::TradeNo => id(cell, TradeNo::parse).map(drop),
        Column::OutTradeNo => id(cell, OutTradeNo::parse).map(drop),
        Column::RequestNo if cell.is_empty() => Ok(()),
        Column::RequestNo => id(cell, RequestNo::parse).map(drop),
        Column::Business => business(cell, charset).map(drop),
        Column::CreatedAt | Column::CompletedAt => time(cell).map(drop),
        Column::Total
        | Column::Receipt
        | Column::Discount
        | Column::Fee
        | Column::Share
        | Column::OtherAmount => amount(cell).map(drop),
        Column::Text => Ok(()),
    }
}

fn in_column(column: Column) -> impl Fn(CellFault) -> RowFault {
    move |fault| RowFault::Cell { column: column.heading(), fault }
}

/// Compared as it stands in the bill, so that rows need no decoding.
fn business(cell: &[u8], charset: Charset) -> Result<Business, CellFault> {
    let (payment, refund): (&[u8], &[u8]) = match charset {
        Charset::Utf8 => ("交易".as_bytes(), "退款".as_bytes()),
        Charset::Gb18030 => (b"\xBD\xBB\xD2\xD7", b"\xCD\xCB\xBF\xEE"),
    };
    if cell == payment {
        Ok(Business::Payment)
    } else if cell == refund {
        Ok(Business::Refund)
    } else {
        Err(CellFault::Business)
    }
}

/// The sign is what tells a payment from a refund in sums: a row of the other sign is not believed.
fn signed_as(business: Business, amount: Fen) -> Result<Fen, CellFault> {
    match business {
        Business::Payment if amount < Fen::ZERO => Err(CellFault::NegativePayment { amount }),
        Business::Refund if amount > Fen::ZERO => Err(CellFault::PositiveRefund { amount }),
        Business::Payment | Business::Refund => Ok(amount),
    }
}

fn amount(cell: &[u8]) -> Result<Fen, CellFault> {
    Fen::parse_yuan_bytes(cell).map_err(|fault| CellFault::Amount { shown: shown(cell), fault })
}

fn time(cell: &[u8]) -> Result<DateTime<Utc>, CellFault> {
    let text = std::str::from_utf8(cell).ok();
    let at = text.and_then(|text| parse_local(text).ok());
    at.ok_or_else(|| CellFault::Time { shown: shown(cell) })
}

/// Ids are ASCII: `parse` sees the length and the rest. A quote shows a cell torn apart.
fn id<T>(cell: &[u8], parse: impl Fn(&str) -> Result<T, IdError>) -> Result<T, CellFault> {
    if !cell.iter().all(|byte| byte.is_ascii() && *byte != b'"') {
        return Err(CellFault::ForeignId);
    }
    let text = std::str::from_utf8(cell).map_err(|_| CellFault::ForeignId)?;
    parse(text).map_err(CellFault::Id)
}

/// What stands in a cell of an amount or a time. Where a row is torn, a buyer's name may stand there:
/// only what is made of figures and their marks is shown.
fn shown(cell: &[u8]) -> String {
    let figure = |byte: &u8| byte.is_ascii_digit() || b"+-.,:/ eET".contains(byte);
    if cell.is_empty() {
        "the cell".to_owned()
    } else if cell.iter().all(figure) {
        format!("`{}`", excerpt(cell))
    } else {
        format!("a text of {} bytes", cell.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_for_payment_and_refund_are_right_in_gbk() {
        for charset in [Charset::Utf8, Charset::Gb18030] {
            for (word, expected) in [("交易", Business::Payment), ("退款", Business::Refund)] {
                let cell = match charset {
                    Charset::Utf8 => word.as_bytes().to_vec(),
                    Charset::Gb18030 => encoding_rs::GB18030.encode(word).0.into_owned(),
                };
                assert_eq!(business(&cell, charset), Ok(expected), "{word} {charset:?}");
            }
            assert_eq!(business(b"", charset), Err(CellFault::Business));
        }
    }

    #[test]
    fn figures_are_shown_and_other_things_are_not() {
        assert_eq!(shown(b"1e3"), "`1e3`");
        assert_eq!(shown(b"2024-03-05 9:00"), "`2024-03-05 9:00`");
        assert_eq!(shown("*甲(138****01)".as_bytes()), "a text of 15 bytes");
        assert_eq!(shown(&b"9".repeat(50)), format!("`{}…`", "9".repeat(40)));
        assert_eq!(shown(b""), "the cell");
    }
}
