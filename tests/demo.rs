//! `suanpan demo`: every planted difference is found exactly once, and nothing else, whatever the seed.

use std::path::Path;

use crate::harness::binary::{Ended, suanpan};

const FOUND_ALL: &str = "Every planted difference was found exactly once, and nothing else.";

/// Runs the demo and gives the reports it names.
fn demo(out: &Path, arguments: &[&str]) -> Vec<String> {
    let ended = Ended::of(suanpan(&["demo"]).args(arguments).arg("--out").arg(out));
    assert_eq!(ended.code, Some(0), "{arguments:?}: {}\n{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains(FOUND_ALL), "{}", ended.stdout);
    assert!(
        !ended.stdout.contains("0 planted"),
        "nothing to find proves nothing: {}",
        ended.stdout
    );
    let reports: Vec<String> = ended
        .stdout
        .lines()
        .filter_map(|line| Some(line.strip_prefix("report of ")?.split_once(": ")?.1.to_owned()))
        .collect();
    for report in &reports {
        let html = std::fs::read_to_string(report).unwrap();
        assert!(html.ends_with("</html>"), "{report}");
    }
    reports
}

#[test]
fn three_worlds_are_reconciled_each_twice_into_one_folder() {
    let out = tempfile::tempdir().unwrap();
    let [first, second, third] =
        ["2", "5", "20261121"].map(|seed| demo(out.path(), &["--seed", seed, "--trades", "500"]));
    assert_eq!(first.len(), 2);
    assert_eq!(first, second, "the reports of the same days take each other's place");
    assert_eq!(second, third);
}

#[test]
fn a_world_of_three_days_is_reconciled() {
    let out = tempfile::tempdir().unwrap();
    let reports = demo(out.path(), &["--days", "3", "--trades", "300"]);
    assert_eq!(reports.len(), 3);
}
