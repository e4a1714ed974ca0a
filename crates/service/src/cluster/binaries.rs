use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ClusterError;

/// What this program's SQL needs.
const OLDEST: u32 = 14;

/// A folder that holds `initdb` and `postgres` of one version.
#[derive(Clone, Debug)]
pub(super) struct Binaries(PathBuf);

impl Binaries {
    /// Those that can run the cluster in `pgdata`: of its version if it is made already, else the
    /// first found in `PATH` or the usual places, newest first.
    pub(super) fn find(pgdata: &Path) -> Result<Self, ClusterError> {
        let made_by = fs::read_to_string(pgdata.join("PG_VERSION"))
            .ok()
            .and_then(|text| text.trim().parse::<u32>().ok());
        let fits = |folder: &PathBuf| match (version(folder), made_by) {
            (Some(version), Some(made_by)) => version == made_by,
            (Some(version), None) => version >= OLDEST,
            (None, _) => false,
        };
        match (folders().into_iter().find(fits), made_by) {
            (Some(folder), _) => Ok(Binaries(folder)),
            (None, Some(version)) => {
                Err(ClusterError::OtherVersion { path: pgdata.to_owned(), version })
            }
            (None, None) => Err(ClusterError::NotInstalled),
        }
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(below("/usr/lib/postgresql", "", "bin"));
    folders.extend(below("/usr", "pgsql-", "bin"));
    folders.extend(below("/opt/homebrew/opt", "postgresql", "bin"));
    folders.extend(below("/usr/local/opt", "postgresql", "bin"));
    folders.into_iter().filter_map(|folder| complete(&folder)).collect()
}

/// `parent/{prefix}*/{child}`, the highest version number first.
fn below(parent: &str, prefix: &str, child: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(prefix)?.trim_start_matches('@').parse().unwrap_or(0);
            Some((version, entry.path().join(child)))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// The folder where `initdb` and `postgres` really lie: Postgres finds its other files beside them,
/// and what stands in `PATH` may be a link.
fn complete(folder: &Path) -> Option<PathBuf> {
    let real = folder.join("initdb").canonicalize().ok()?;
    let real = real.parent()?;
    real.join("postgres").is_file().then(|| real.to_owned())
}

/// The major version: `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` is 15.
fn version(folder: &Path) -> Option<u32> {
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (_, version) = text.split_once("(PostgreSQL) ")?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
