use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use alipay::{BILL_DOWNLOAD_URL, Gateway, GatewayError};
use chrono::{DateTime, Utc};
use payment::{AppId, BillDay};
use sha2::{Digest, Sha256};

use crate::metrics::Metrics;

/// Where a day's bill comes from.
#[derive(Debug)]
pub enum Source<'s> {
    Gateway(&'s Gateway),
    File(&'s Path),
}

/// Whose bill it is and where originals are kept.
#[derive(Debug)]
pub struct Client {
    pub app_id: AppId,
    pub seller_id: payment::SellerId,
    pub terms: crate::matching::Terms,
    pub data_dir: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot read the bill file `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("cannot keep the bill in `{path}`")]
    Keep {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("cannot get the bill of {day} from the gateway")]
    Gateway {
        day: BillDay,
        #[source]
        err: GatewayError,
    },
    #[error(
        "the gateway has no bill of {day} yet: it is normally ready by 09:00 the next morning; try again later"
    )]
    NotYet { day: BillDay },
}

/// A bill as it was fetched.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// The original, kept under `data_dir`.
    Archive { path: PathBuf, relative: String, sha256: [u8; 32] },
    /// The gateway says that the day has no bill, at a time when it would have one.
    NoBill,
}

/// The largest archive taken from anywhere.
const ARCHIVE_LIMIT_BYTES: u64 = 2 << 30;
/// From this hour of the next morning on, an empty bill is empty. Until then it may not be there yet.
const READY_HOUR: i64 = 9;
/// From this hour of the next day on, `bill_not_exist` means no business and not "later".
const SETTLED_HOUR: i64 = 12;

/// Fetches a bill and keeps the original under its hash: a re-issued one stands beside the first.
pub(crate) fn fetch(
    source: &Source<'_>,
    client: &Client,
    day: BillDay,
    now: DateTime<Utc>,
    metrics: &Metrics,
) -> Result<Fetched, SourceError> {
    match source {
        Source::File(path) => {
            let read = |err| SourceError::Read { path: path.to_path_buf(), err };
            let mut file = File::open(path).map_err(read)?;
            keep(client, day, |kept| copy(&mut file, kept, path))
        }
        Source::Gateway(gateway) => fetch_from_gateway(gateway, client, day, now, metrics),
    }
}

fn fetch_from_gateway(
    gateway: &Gateway,
    client: &Client,
    day: BillDay,
    now: DateTime<Utc>,
    metrics: &Metrics,
) -> Result<Fetched, SourceError> {
    let asked = gateway.bill_download_url("trade", day, now);
    metrics
        .gateway_request(BILL_DOWNLOAD_URL, asked.as_ref().map(|_| ()).map_err(GatewayError::code));
    let hours = |hours| day.end() + chrono::Duration::hours(hours);
    let address = match asked {
        Ok(address) => address,
        Err(GatewayError::BillNotExist { .. }) if now < hours(SETTLED_HOUR) => {
            return Err(SourceError::NotYet { day });
        }
        Err(GatewayError::BillNotExist { .. }) => return Ok(Fetched::NoBill),
        Err(err) => return Err(SourceError::Gateway { day, err }),
    };
    if address.empty && now < hours(READY_HOUR) {
        return Err(SourceError::NotYet { day });
    }
    if address.empty && address.url.is_none() {
        return Ok(Fetched::NoBill);
    }
    // At once: the link lives for 30 seconds.
    keep(client, day, |kept| {
        let fetched = gateway.download(&address, kept, ARCHIVE_LIMIT_BYTES);
        metrics
            .gateway_request("download", fetched.as_ref().map(|_| ()).map_err(GatewayError::code));
        fetched.map(|_| ()).map_err(|err| SourceError::Gateway { day, err })
    })
}

/// Writes a bill to a temporary file, hashing it on the way, and moves it to its place when it is durable.
fn keep(
    client: &Client,
    day: BillDay,
    fill: impl FnOnce(&mut Hashing) -> Result<(), SourceError>,
) -> Result<Fetched, SourceError> {
    let folder = format!("bills/{}/{day}", client.app_id);
    let absolute = client.data_dir.join(&folder);
    let failed = |err| SourceError::Keep { path: absolute.clone(), err };
    fs::create_dir_all(&absolute).map_err(failed)?;
    let partial = absolute.join(format!("{}.partial", std::process::id()));
    let file = File::create(&partial).map_err(failed)?;
    let mut hashing = Hashing { file, hash: Sha256::new() };
    if let Err(error) = fill(&mut hashing) {
        // The error that matters is the first one.
        drop(fs::remove_file(&partial));
        return Err(error);
    }
    hashing.file.sync_all().map_err(failed)?;
    let sha256: [u8; 32] = hashing.hash.finalize().into();
    let hex: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let relative = format!("{folder}/{hex}.csv.zip");
    let path = client.data_dir.join(&relative);
    fs::rename(&partial, &path).map_err(failed)?;
    File::open(&absolute).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(Fetched::Archive { path, relative, sha256 })
}

fn copy(from: &mut File, kept: &mut Hashing, path: &Path) -> Result<(), SourceError> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from
            .read(&mut buffer)
            .map_err(|err| SourceError::Read { path: path.to_path_buf(), err })?;
        let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else {
            return Ok(());
        };
        kept.write_all(chunk).map_err(|err| SourceError::Keep { path: path.to_path_buf(), err })?;
    }
}

struct Hashing {
    file: File,
    hash: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
