use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::ClusterError;
use super::binaries::Binaries;
use super::error::at;
use super::owner::Owner;

/// The superuser and the database inside the cluster.
pub(super) const USER: &str = "suanpan";
pub(super) const DATABASE: &str = "suanpan";

/// Makes the cluster `pgdata` in `data_dir`. It is made beside and renamed when it is whole: whatever
/// interrupts this, a `pgdata` that exists is complete.
pub(super) fn make(
    data_dir: &Path,
    pgdata: &Path,
    binaries: &Binaries,
    owner: &Owner,
) -> Result<(), ClusterError> {
    remove_leftovers(data_dir)?;
    // An initdb that outlived its killed parent writes to another folder than ours.
    let new = data_dir.join(format!("{LEFTOVER}{}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&new).map_err(at(&new, "create"))?;
    owner.give(&new)?;

    let mut initdb = owner.command(binaries.program("initdb"), data_dir);
    initdb.arg("-D").arg(&new).args(["-U", USER, "--encoding=UTF8", "--locale=C"]);
    initdb.args(["--auth-local=trust", "--auth-host=reject", "--no-instructions"]);
    let output = initdb.output().map_err(at(&binaries.program("initdb"), "run"))?;
    if !output.status.success() {
        return Err(failed("initdb", &output));
    }

    let mut single = owner.command(binaries.program("postgres"), data_dir);
    single.arg("--single").arg("-D").arg(&new).arg("template1");
    let output = run_with_input(&mut single, &format!("CREATE DATABASE {DATABASE}\n"))
        .map_err(at(&binaries.program("postgres"), "run"))?;
    // A single-user server goes on after an error and ends well.
    let printed = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || ["ERROR:", "FATAL:"].iter().any(|word| printed.contains(word)) {
        return Err(failed("postgres --single", &output));
    }

    fs::rename(&new, pgdata).map_err(at(&new, "rename"))?;
    File::open(data_dir).and_then(|folder| folder.sync_all()).map_err(at(data_dir, "sync"))
}

const LEFTOVER: &str = "postgres.new-";

fn remove_leftovers(data_dir: &Path) -> Result<(), ClusterError> {
    for entry in fs::read_dir(data_dir).map_err(at(data_dir, "list"))? {
        let entry = entry.map_err(at(data_dir, "list"))?;
        if entry.file_name().as_encoded_bytes().starts_with(LEFTOVER.as_bytes()) {
            // An initdb that outlived its parent may still be writing there; then the next time.
            if let Err(error) = fs::remove_dir_all(entry.path()) {
                tracing::warn!(%error, "cannot remove `{}`", entry.path().display());
            }
        }
    }
    Ok(())
}

fn run_with_input(command: &mut Command, input: &str) -> std::io::Result<Output> {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // Dropped at the end of the statement, which ends the input.
    child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()))?;
    child.wait_with_output()
}

fn failed(program: &str, output: &Output) -> ClusterError {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("\n");
    ClusterError::Program { program: program.to_owned(), output: last }
}
