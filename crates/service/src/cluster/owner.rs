use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::ClusterError;
use super::error::at;

/// The user that runs Postgres and owns its files: us, or `postgres` if we are root.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    name: String,
    uid: u32,
    gid: u32,
    other: bool,
}

impl Owner {
    pub(super) fn of_this_process() -> Result<Self, ClusterError> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        if !uid.is_root() {
            let (uid, gid) = (uid.as_raw(), gid.as_raw());
            return Ok(Owner { name: format!("user id {uid}"), uid, gid, other: false });
        }
        let path = Path::new("/etc/passwd");
        let passwd = fs::read(path).map_err(at(path, "read"))?;
        let (uid, gid) = user_ids(&String::from_utf8_lossy(&passwd), "postgres")
            .ok_or(ClusterError::NoPostgresUser)?;
        Ok(Owner { name: "postgres".to_owned(), uid, gid, other: true })
    }

    /// Whether Postgres runs as somebody else than we do.
    pub(super) fn is_other(&self) -> bool {
        self.other
    }

    /// A command that runs as this user in `folder`, in a process group of its own, so that a Ctrl-C at our
    /// terminal does not reach it before us; with none of the caller's Postgres settings.
    pub(super) fn command(&self, program: impl AsRef<OsStr>, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder).process_group(0).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name_bytes = name.as_encoded_bytes();
            if name_bytes.starts_with(b"PG") || name_bytes.starts_with(b"LC_") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C");
        if self.other {
            command.gid(self.gid).uid(self.uid);
        }
        command
    }

    /// Makes this user the owner of `path`.
    pub(super) fn give(&self, path: &Path) -> Result<(), ClusterError> {
        if self.other {
            chown(path, Some(self.uid), Some(self.gid)).map_err(at(path, "change the owner of"))?;
        }
        Ok(())
    }

    /// Refuses a folder that this user cannot reach, naming the one on the way that is closed.
    pub(super) fn check_can_enter(&self, folder: &Path) -> Result<(), ClusterError> {
        if !self.other {
            return Ok(());
        }
        let mut way: Vec<&Path> = folder.ancestors().collect();
        way.reverse();
        for folder in way {
            let metadata = fs::metadata(folder).map_err(at(folder, "look at"))?;
            if !self.may_enter(&metadata) {
                let (user, folder) = (self.name.clone(), folder.to_owned());
                return Err(ClusterError::CannotEnter { user, folder });
            }
        }
        Ok(())
    }

    /// Refuses what is not this user's.
    pub(super) fn check_owns(&self, path: &Path) -> Result<(), ClusterError> {
        let found = fs::symlink_metadata(path).map_err(at(path, "look at"))?.uid();
        if found == self.uid {
            return Ok(());
        }
        Err(ClusterError::OtherOwner { path: path.to_owned(), found, user: self.name.clone() })
    }

    fn may_enter(&self, metadata: &Metadata) -> bool {
        let bit = if metadata.uid() == self.uid {
            0o100
        } else if metadata.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        metadata.mode() & bit != 0
    }
}

fn user_ids(passwd: &str, name: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let mut ids = fields.skip(1);
        Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_closed_folder_on_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let closed = folder.path().join("closed");
        let data_dir = closed.join("data");
        fs::create_dir_all(&data_dir).unwrap();
        let set =
            |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        set(folder.path(), 0o711);
        set(&closed, 0o700);
        set(&data_dir, 0o711);
        let stranger = Owner {
            name: "postgres".to_owned(),
            uid: u32::MAX - 7,
            gid: u32::MAX - 7,
            other: true,
        };
        let error = stranger.check_can_enter(&data_dir).unwrap_err().to_string();
        assert!(error.contains(&format!("`chmod o+x {}`", closed.display())), "{error}");
        set(&closed, 0o711);
        stranger.check_can_enter(&data_dir).unwrap();
        assert!(matches!(stranger.check_owns(&data_dir), Err(ClusterError::OtherOwner { .. })));
    }

    #[test]
    fn the_ids_of_a_user_are_read_from_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104:PostgreSQL,,,:/var/lib:/bin/sh\nodd\n";
        assert_eq!(user_ids(passwd, "postgres"), Some((101, 104)));
        assert_eq!(user_ids(passwd, "odd"), None);
        assert_eq!(user_ids(passwd, "post"), None);
    }
}
