use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ClusterError;
use super::error::at;
use super::owner::Owner;
use super::setup::{DATABASE, USER};

/// Part of the socket's file name; no port is opened.
pub(super) const PORT: u16 = 5432;

/// What the system allows is 107 bytes on Linux, 103 on macOS.
const LONGEST_PATH: usize = 100;

/// The folder for the server's socket, made so that only its owner may enter: in `data_dir`, or in
/// `/tmp` where that path would be too long for a socket.
pub(super) fn make_folder(data_dir: &Path, owner: &Owner) -> Result<PathBuf, ClusterError> {
    let inside = data_dir.join("socket");
    let fits = file(&inside).as_os_str().len() <= LONGEST_PATH;
    let folder = if fits { inside } else { short_folder(data_dir) };
    match DirBuilder::new().mode(0o700).create(&folder) {
        Ok(()) => owner.give(&folder)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = fs::symlink_metadata(&folder).map_err(at(&folder, "look at"))?;
            // Ours, from a start that was cut short before the folder was given away.
            if owner.is_other() && metadata.is_dir() && metadata.uid() == 0 {
                owner.give(&folder)?;
            }
        }
        Err(error) => return Err(at(&folder, "create")(error)),
    }
    // In a folder that others may write to, somebody may have been there first.
    owner.check_owns(&folder)?;
    fs::set_permissions(&folder, Permissions::from_mode(0o700))
        .map_err(at(&folder, "set the permissions of"))?;
    Ok(folder)
}

/// The libpq URI of our database over the socket in `folder`.
pub(super) fn url(folder: &Path) -> String {
    let mut host = String::new();
    for byte in folder.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            host.push(char::from(*byte));
        } else {
            host.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("postgresql://{USER}@{host}:{PORT}/{DATABASE}?sslmode=disable")
}

/// How a server answers somebody who wants in.
pub(super) enum Answer {
    /// It takes queries.
    Ready,
    /// Nothing listens, or it says that it is starting or stopping.
    NotYet,
    /// It refuses, and will go on refusing.
    Refused,
}

/// Logs in and out again, as any client would: only that shows that a server is ready.
pub(super) fn knock(folder: &Path) -> Answer {
    log_in(folder).unwrap_or(Answer::NotYet)
}

fn log_in(folder: &Path) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(file(folder))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    // StartupMessage: its length, protocol 3.0, then names and values, each closed by a zero.
    let parameters = format!("user\0{USER}\0database\0{DATABASE}\0\0");
    let length = u32::try_from(parameters.len().saturating_add(8)).map_err(io::Error::other)?;
    stream
        .write_all(&[&length.to_be_bytes()[..], &[0, 3, 0, 0], parameters.as_bytes()].concat())?;
    loop {
        let mut header = [0; 5];
        stream.read_exact(&mut header)?;
        let [kind, length @ ..] = header;
        let rest = u64::from(u32::from_be_bytes(length)).saturating_sub(4);
        let mut body = Vec::new();
        (&mut stream).take(rest.min(65_536)).read_to_end(&mut body)?;
        match kind {
            b'Z' => {
                stream.write_all(&[b'X', 0, 0, 0, 4])?;
                return Ok(Answer::Ready);
            }
            // Field C is the SQLSTATE; 57P03 is "cannot connect now".
            b'E' if body.windows(7).any(|field| field == b"C57P03\0") => return Ok(Answer::NotYet),
            b'E' => return Ok(Answer::Refused),
            _ => {}
        }
    }
}

/// What the server keeps beside its socket, with its process number in it.
pub(super) fn lock_file(folder: &Path) -> PathBuf {
    folder.join(format!(".s.PGSQL.{PORT}.lock"))
}

fn file(folder: &Path) -> PathBuf {
    folder.join(format!(".s.PGSQL.{PORT}"))
}

/// The same for one `data_dir` always, and different for two (FNV-1a over the path).
fn short_folder(data_dir: &Path) -> PathBuf {
    let bytes = data_dir.as_os_str().as_bytes().iter();
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Path::new("/tmp").join(format!("suanpan-{hash:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_percent_encoded_in_the_url() {
        assert_eq!(
            url(Path::new("/srv/日 a/socket")),
            "postgresql://suanpan@%2Fsrv%2F%E6%97%A5%20a%2Fsocket:5432/suanpan?sslmode=disable"
        );
    }

    #[test]
    fn long_folders_get_short_ones_of_their_own() {
        let short = |name: &str| short_folder(Path::new(name));
        assert_eq!(short("/srv/a"), short("/srv/a"));
        assert_ne!(short("/srv/a"), short("/srv/b"));
        assert!(file(&short("/srv/a")).as_os_str().len() <= LONGEST_PATH);
    }
}
