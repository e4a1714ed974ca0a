use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A folder for one run, where the database's user can enter: removed at the end unless it is kept.
pub(crate) struct Home {
    path: PathBuf,
    kept: bool,
}

impl Home {
    /// `suanpan-{name}-{process}` among the system's temporary files.
    pub(crate) fn make(name: &str) -> anyhow::Result<Home> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("suanpan-{name}-{}", std::process::id()));
        remove(&path)?;
        fs::DirBuilder::new()
            .mode(0o711)
            .create(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Home { path, kept: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it there, and says where.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.kept = true;
        self.path.clone()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = remove(&self.path)
        {
            eprintln!("suanpan: {}", service::chain(&*error));
        }
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
