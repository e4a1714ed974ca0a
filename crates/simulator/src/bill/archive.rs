//! The zip around a bill: entry names in GBK, and no flag that says so.

use std::io::{Cursor, Write};

use chrono::{DateTime, Utc};
use payment::to_local;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::BillError;
use crate::trade::Charset;

/// Packs texts under their names, both turned into GBK.
///
/// The `zip` crate writes names that are not ASCII as UTF-8 and says so in bit 11 of an entry's
/// flags. Alipay does neither, so the names go in as ASCII of the same length and are overwritten
/// afterwards.
pub(super) fn pack(
    entries: &[(String, String)],
    packed_at: DateTime<Utc>,
) -> Result<Vec<u8>, BillError> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .last_modified_time(dos_time(packed_at));
    let mut names = Vec::new();
    for (index, (name, text)) in entries.iter().enumerate() {
        let name = Charset::Gbk.encode(name);
        let stand_in = format!("{index:0>width$}", width = name.len());
        zip.start_file(stand_in, options).map_err(BillError::Zip)?;
        zip.write_all(&Charset::Gbk.encode(text)).map_err(BillError::Io)?;
        names.push(name);
    }
    let mut bytes = zip.finish().map_err(BillError::Zip)?.into_inner();
    rename(&mut bytes, &names)?;
    Ok(bytes)
}

/// Sizes of the fixed parts that stand before an entry's name, and of the end record (without a
/// comment).
const LOCAL_HEADER: usize = 30;
const CENTRAL_HEADER: usize = 46;
const END_RECORD: usize = 22;

/// Walks the central directory and writes each name over its stand-in, there and in the local
/// header.
fn rename(zip: &mut [u8], names: &[Vec<u8>]) -> Result<(), BillError> {
    let end = zip.len().checked_sub(END_RECORD).ok_or(layout("no end record"))?;
    let mut at = number(zip, end + 16, 4)?;
    for name in names {
        let after_name = number(zip, at + 30, 2)? + number(zip, at + 32, 2)?;
        let local = number(zip, at + 42, 4)?;
        for (header, offset) in [(at, CENTRAL_HEADER), (local, LOCAL_HEADER)] {
            let from = header + offset;
            zip.get_mut(from..from + name.len())
                .ok_or(layout("a name beyond the end"))?
                .copy_from_slice(name);
        }
        at += CENTRAL_HEADER + name.len() + after_name;
    }
    if at == end { Ok(()) } else { Err(layout("a central directory that ends elsewhere")) }
}

/// A little-endian number of `width` bytes.
fn number(zip: &[u8], at: usize, width: usize) -> Result<usize, BillError> {
    let bytes = zip.get(at..at + width).ok_or(layout("a header beyond the end"))?;
    Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

fn layout(what: &'static str) -> BillError {
    BillError::Layout { what }
}

/// Zip keeps local time in steps of two seconds, from 1980 on; its epoch where it cannot say.
fn dos_time(at: DateTime<Utc>) -> zip::DateTime {
    let numbers: Vec<u16> = to_local(at)
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect();
    let small = |index: usize| numbers.get(index).and_then(|number| u8::try_from(*number).ok());
    let time = || {
        let year = numbers.first().copied()?;
        zip::DateTime::from_date_and_time(
            year,
            small(1)?,
            small(2)?,
            small(3)?,
            small(4)?,
            small(5)?,
        )
        .ok()
    };
    time().unwrap_or_default()
}
