//! A disk so small that a test can fill it.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A tmpfs of its own. Unmounted when dropped, and with the test process, also when that is killed.
pub(crate) struct SmallDisk {
    folder: TempDir,
    guard: Child,
}

impl SmallDisk {
    /// `None`, and loudly, where this process may not mount: it takes root, and in a container `CAP_SYS_ADMIN`. With
    /// `SUANPAN_TEST_MOUNT=required` that is a failure.
    pub(crate) fn mount(megabytes: u32) -> Option<SmallDisk> {
        let folder = tempfile::Builder::new()
            .prefix("suanpan-disk-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m,mode=0755"), "suanpan-test"]);
        let refused = match mount.arg(folder.path()).output() {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(refused) = refused {
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            let words = format!(
                "NOT RUN: {test} fills a small disk and may not mount one ({refused}); run it as root: \
                 sudo -E tests/run --package tests --test it death::disk"
            );
            let is_required =
                std::env::var("SUANPAN_TEST_MOUNT").is_ok_and(|value| value == "required");
            assert!(!is_required, "{words}");
            // Past the test's own output, which is not shown of a test that passes.
            writeln!(io::stderr(), "\n{words}").unwrap();
            return None;
        }
        // Its input ends when this process does, however that comes; nobody else holds the other end.
        let guard = Command::new("sh")
            .args(["-c", "read -r _; umount -l \"$0\" && rmdir \"$0\""])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(SmallDisk { folder, guard })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves no room for a single byte.
    pub(crate) fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        for size in [1 << 20, 4096, 1] {
            let bytes = vec![0; size];
            let full = loop {
                if let Err(full) = ballast.write_all(&bytes) {
                    break full;
                }
            };
            assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        }
    }

    /// Makes room again.
    pub(crate) fn clear(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still looks into it keeps it until it ends.
        let unmounted = Command::new("umount").arg("-l").arg(self.folder.path()).status();
        drop(unmounted);
        drop(self.guard.kill());
        drop(self.guard.wait());
    }
}
