use std::fs::Permissions;

use super::socket::{Answer, knock};
use super::*;

/// A data folder that the server's user may enter; the cluster in it is stopped by its own drop.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
    folder
}

fn answers(cluster: &Cluster) -> bool {
    matches!(knock(cluster.server.socket_folder()), Answer::Ready)
}

fn pid(data_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(data_dir.join("postgres/postmaster.pid")).ok()?;
    text.lines().next().map(str::to_owned)
}

#[test]
fn the_last_user_stops_the_server_and_the_next_one_finds_it_again() {
    let folder = folder();
    let data_dir = folder.path().join("data");
    // What a start that was killed in the middle leaves behind.
    fs::create_dir_all(data_dir.join("postgres.new-1/base")).unwrap();
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(&data_dir, Permissions::from_mode(0o711)).unwrap();
    }

    let first = Cluster::open(&data_dir).unwrap();
    assert!(!data_dir.join("postgres.new-1").exists());
    let second = Cluster::open(&data_dir).unwrap();
    assert_eq!(first.url(), second.url());
    let started = pid(&data_dir).unwrap();
    first.close().unwrap();
    assert!(answers(&second), "somebody still uses it");
    second.close().unwrap();
    assert_eq!(pid(&data_dir), None);

    let third = Cluster::open(&data_dir).unwrap();
    assert!(answers(&third));
    assert_ne!(pid(&data_dir).unwrap(), started);
    drop(third);
    assert_eq!(pid(&data_dir), None);
}

#[test]
fn a_server_left_behind_is_taken_over_and_a_killed_one_is_started_again() {
    let folder = folder();
    // Too long a path for a socket.
    let data_dir = folder.path().join("d".repeat(100));
    let mut killed = Cluster::open(&data_dir).unwrap();
    assert!(killed.server.socket_folder().starts_with("/tmp"), "{}", killed.url());
    // As after a kill -9: the locks go, the server stays.
    killed.closed = true;
    drop(killed);
    let left = pid(&data_dir).unwrap();

    let heir = Cluster::open(&data_dir).unwrap();
    assert_eq!(pid(&data_dir).unwrap(), left);
    assert!(answers(&heir));

    let process = rustix::process::Pid::from_raw(left.parse().unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    // Its number goes to a process of the same user that has nothing to do with it.
    let owner = Owner::of_this_process().unwrap();
    let mut stranger = owner.command("sleep", &data_dir).arg("1000").spawn().unwrap();
    for file in
        [data_dir.join("postgres/postmaster.pid"), socket::lock_file(heir.server.socket_folder())]
    {
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replacen(&left, &stranger.id().to_string(), 1)).unwrap();
    }

    let after_crash = Cluster::open(&data_dir).unwrap();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_ne!(pid(&data_dir).unwrap(), left);
    assert!(answers(&after_crash));
    let socket_folder = after_crash.server.socket_folder().to_owned();
    after_crash.close().unwrap();
    assert!(answers(&heir), "the heir still uses it");
    heir.close().unwrap();
    assert_eq!(pid(&data_dir), None);
    fs::remove_dir_all(socket_folder).unwrap();
}

#[test]
fn data_of_a_version_that_is_not_installed_is_refused_by_number() {
    let folder = folder();
    let pgdata = folder.path().join("postgres");
    fs::create_dir(&pgdata).unwrap();
    fs::write(pgdata.join("PG_VERSION"), "9\n").unwrap();
    let error = Cluster::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("made by Postgres 9"), "{error}");
}
