use std::io::{self, BufReader, Read, Seek, SeekFrom};

use zip::ZipArchive;
use zip::read::ZipFile;
use zip::result::ZipError;

use super::lines::Lines;
use super::{BillError, Limits};
use crate::charset::Charset;
use crate::excerpt::shorten;

/// The zip file. Names in it are shown to people and used for nothing else.
pub(super) struct Archive<'l, R> {
    zip: ZipArchive<R>,
    limits: &'l Limits,
    /// By all entries so far.
    unpacked_bytes: u64,
}

/// One file of the archive, read line by line.
pub(super) type Entry<'a, R> = Lines<BufReader<Unpacking<'a, ZipFile<'a, R>>>>;

impl<'l, R: Read + Seek> Archive<'l, R> {
    pub(super) fn open(mut file: R, limits: &'l Limits) -> Result<Self, BillError> {
        let end = End::read(&mut file)?;
        if end.entries > limits.entries {
            return Err(BillError::TooManyEntries { entries: end.entries, limit: limits.entries });
        }
        let zip = ZipArchive::new(file).map_err(|err| {
            if let ZipError::Io(err) = err {
                BillError::Read(err)
            } else {
                BillError::Directory(err)
            }
        })?;
        if zip.offset() != 0 || zip.central_directory_start() != end.directory_start {
            // Two directories, and the library believes another one than stands at the end.
            let err = ZipError::InvalidArchive("it has more than one directory".into());
            return Err(BillError::Directory(err));
        }
        if zip.len() != end.entries {
            return Err(BillError::RepeatedEntry);
        }
        Ok(Archive { zip, limits, unpacked_bytes: 0 })
    }

    /// Files and directories.
    pub(super) fn len(&self) -> usize {
        self.zip.len()
    }

    /// The file at `index`; `None` for a directory.
    pub(super) fn entry(&mut self, index: usize) -> Result<Option<Entry<'_, R>>, BillError> {
        let raw = self.zip.by_index_raw(index).map_err(BillError::Directory)?;
        let entry = shown_name(raw.name_raw());
        let method = raw.compression();
        if raw.is_dir() {
            return Ok(None);
        }
        if raw.encrypted() {
            return Err(BillError::Encrypted { entry });
        }
        drop(raw);
        let file = self.zip.by_index(index).map_err(|err| {
            let entry = entry.clone();
            if let ZipError::Io(err) = err {
                BillError::Unpack { entry, err }
            } else if let ZipError::UnsupportedArchive(_) = err {
                BillError::Method { entry, method: method.to_string() }
            } else {
                BillError::Directory(err)
            }
        })?;
        let bounds = Bounds {
            declared_bytes: file.size(),
            dense_bytes: file
                .compressed_size()
                .saturating_mul(self.limits.ratio)
                .max(self.limits.ratio_from_bytes),
            limit_bytes: self.limits.unpacked_bytes,
            limit_ratio: self.limits.ratio,
        };
        let unpacking =
            Unpacking { file, bounds, read_bytes: 0, all_bytes: &mut self.unpacked_bytes };
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let input = BufReader::with_capacity(64 << 10, unpacking);
        Ok(Some(Lines::new(input, entry, index, self.limits.line_bytes)))
    }
}

/// A file as it comes out of the archive. Counts what really comes, and stops before it is too much.
pub(super) struct Unpacking<'a, F> {
    file: F,
    bounds: Bounds,
    read_bytes: u64,
    all_bytes: &'a mut u64,
}

#[derive(Clone, Copy)]
struct Bounds {
    declared_bytes: u64,
    /// What the file may unpack to by its packed size.
    dense_bytes: u64,
    /// What all files may unpack to.
    limit_bytes: u64,
    limit_ratio: u64,
}

impl<F: Read> Read for Unpacking<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        let bytes = u64::try_from(count).unwrap_or(u64::MAX);
        self.read_bytes = self.read_bytes.saturating_add(bytes);
        *self.all_bytes = self.all_bytes.saturating_add(bytes);
        let Bounds { declared_bytes, dense_bytes, limit_bytes, limit_ratio } = self.bounds;
        if *self.all_bytes > limit_bytes {
            return Err(io::Error::other(Exceeded::Limit { limit_bytes }));
        }
        if self.read_bytes > dense_bytes {
            return Err(io::Error::other(Exceeded::Ratio { limit: limit_ratio }));
        }
        if self.read_bytes > declared_bytes {
            return Err(io::Error::other(Exceeded::Declared { declared_bytes }));
        }
        Ok(count)
    }
}

/// Travels through `io::Error`, as `Read` knows no other.
#[derive(Debug, thiserror::Error)]
#[error("unpacks to more than it may")]
enum Exceeded {
    Declared { declared_bytes: u64 },
    Limit { limit_bytes: u64 },
    Ratio { limit: u64 },
}

/// What a failed read of an entry means.
pub(super) fn unpack_error(err: io::Error, entry: &str) -> BillError {
    let entry = entry.to_owned();
    match err.downcast::<Exceeded>() {
        Ok(Exceeded::Declared { declared_bytes }) => {
            BillError::LongerThanDeclared { entry, declared_bytes }
        }
        Ok(Exceeded::Limit { limit_bytes }) => BillError::TooLarge { entry, limit_bytes },
        Ok(Exceeded::Ratio { limit }) => BillError::TooDense { entry, limit },
        Err(err) => BillError::Unpack { entry, err },
    }
}

/// What the last record of a zip file tells, read before the directory itself is loaded: loading
/// takes memory for every entry.
struct End {
    entries: usize,
    directory_start: u64,
}

impl End {
    /// Without its comment.
    const BYTES: usize = 22;

    fn read(file: &mut (impl Read + Seek)) -> Result<End, BillError> {
        let mut head = Vec::new();
        file.rewind().map_err(BillError::Read)?;
        file.by_ref().take(4).read_to_end(&mut head).map_err(BillError::Read)?;
        if head != b"PK\x03\x04" && head != b"PK\x05\x06" {
            return Err(BillError::NotAZip);
        }
        let length = file.seek(SeekFrom::End(0)).map_err(BillError::Read)?;
        // A comment of at most 65535 bytes may follow the record.
        let start = length.saturating_sub(22 + 65_535);
        file.seek(SeekFrom::Start(start)).map_err(BillError::Read)?;
        let mut tail = Vec::new();
        file.by_ref().take(length - start).read_to_end(&mut tail).map_err(BillError::Read)?;

        let record = memchr::memmem::rfind_iter(&tail, b"PK\x05\x06")
            .filter_map(|at| tail.get(at..))
            .find(|record| {
                let comment = u16_at(record, 20).map(usize::from);
                comment.is_some_and(|comment| record.len() == End::BYTES + comment)
            })
            .ok_or(BillError::CutOff)?;
        let entries = u16_at(record, 10).ok_or(BillError::CutOff)?;
        let directory_start = u32_at(record, 16).ok_or(BillError::CutOff)?;
        if entries == u16::MAX || directory_start == u32::MAX {
            return Err(BillError::Zip64);
        }
        Ok(End { entries: entries.into(), directory_start: directory_start.into() })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// Alipay writes names in GBK without saying so; other tools write UTF-8, with or without saying so.
fn shown_name(raw: &[u8]) -> String {
    let name = Charset::Utf8.decode(raw).or_else(|| Charset::Gb18030.decode(raw));
    match name {
        Some(name) => shorten(&name, 120),
        None => shorten(&String::from_utf8_lossy(raw), 120),
    }
}
