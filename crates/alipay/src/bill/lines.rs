use std::io::{self, BufRead};

use memchr::memchr;

use super::archive::unpack_error;
use super::{BillError, LineFault, RowFault};

/// One file, line by line, in one buffer. Knows where it is, so that errors can say it.
pub(super) struct Lines<R> {
    input: R,
    /// The file's name, as shown to people.
    entry: String,
    /// Which file of the archive it is, counted from 0.
    index: u32,
    limit_bytes: usize,
    buffer: Vec<u8>,
    /// Of the line in the buffer, counted from 1; 0 before the first.
    line: u64,
    offset: u64,
    next_offset: u64,
}

/// A line without its line end (LF, CR LF).
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) bytes: &'a [u8],
    /// Counted from 1.
    pub(super) number: u64,
    /// Where it begins in the unpacked file.
    pub(super) offset: u64,
}

impl Line<'_> {
    /// No row begins with `#`.
    pub(super) fn is_comment(&self) -> bool {
        self.bytes.first() == Some(&b'#')
    }

    pub(super) fn is_blank(&self) -> bool {
        self.bytes.trim_ascii().is_empty()
    }
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R, entry: String, index: u32, limit_bytes: usize) -> Self {
        let buffer = Vec::new();
        Lines { input, entry, index, limit_bytes, buffer, line: 0, offset: 0, next_offset: 0 }
    }

    /// The next line; `None` at the end of the file, whose checksum is right then.
    pub(super) fn next_line(&mut self) -> Result<Option<Line<'_>>, BillError> {
        self.buffer.clear();
        self.offset = self.next_offset;
        self.line = self.line.saturating_add(1);
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(unpack_error(err, &self.entry)),
            };
            let end = memchr(b'\n', chunk);
            let (text, used) = match end {
                Some(end) => (chunk.get(..end).unwrap_or_default(), end + 1),
                None => (chunk, chunk.len()),
            };
            self.buffer.extend_from_slice(text);
            self.input.consume(used);
            self.next_offset =
                self.next_offset.saturating_add(u64::try_from(used).unwrap_or(u64::MAX));
            if self.buffer.len() > self.limit_bytes {
                return Err(self.fault(LineFault::TooLong { limit_bytes: self.limit_bytes }));
            }
            if end.is_some() {
                break;
            }
            if used == 0 {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                break;
            }
        }
        let bytes = self.buffer.strip_suffix(b"\r").unwrap_or(&self.buffer);
        Ok(Some(Line { bytes, number: self.line, offset: self.offset }))
    }

    /// Reads to the end and looks at nothing, so that limits and checksum are kept.
    pub(super) fn drain(&mut self) -> Result<(), BillError> {
        loop {
            let used = match self.input.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(chunk) => chunk.len(),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => 0,
                Err(err) => return Err(unpack_error(err, &self.entry)),
            };
            self.input.consume(used);
        }
    }

    pub(super) fn entry(&self) -> &str {
        &self.entry
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// The error of the line read last.
    pub(super) fn fault(&self, fault: LineFault) -> BillError {
        let entry = self.entry.clone();
        BillError::Line { entry, line: self.line, offset: self.offset, fault }
    }

    /// The same, where that line is the `row`-th row.
    pub(super) fn row_fault(&self, row: u64, fault: RowFault) -> BillError {
        let entry = self.entry.clone();
        BillError::Row { entry, row, line: self.line, offset: self.offset, fault }
    }
}
