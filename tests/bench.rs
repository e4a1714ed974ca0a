//! `suanpan bench`, with numbers too small to say anything about speed: that it runs to its end, counts what it
//! must, and prints one sound document.

use std::path::Path;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::binary::{Ended, suanpan};
use crate::harness::{Broker, wait};

/// Runs a bench that leaves its temporary files in `folder`.
fn bench(folder: &Path, arguments: &[&str]) -> Ended {
    let tiny = ["--notifications", "40", "--connections", "3"];
    let ended = Ended::of(suanpan(&["bench"]).args(arguments).args(tiny).env("TMPDIR", folder));
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    ended
}

/// As root, the database's user must be able to pass through.
fn folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let all_pass = std::fs::Permissions::from_mode(0o711);
    tempfile::Builder::new().prefix("suanpan-t").permissions(all_pass).tempdir().unwrap()
}

#[test]
fn every_scenario_accepts_and_applies_all_and_leaves_nothing_behind() {
    let folder = folder();
    let document = bench(folder.path(), &["--json", "--rounds", "2"]).json();
    assert_eq!(document["wrong"], Value::Array(vec![]));
    assert_eq!(document["notifications"], 40);
    assert!(document["machine"]["cores"].as_u64().unwrap() > 0);
    for (scenario, figure) in [
        ("ingress", "accepted_per_second"),
        ("ingress", "latency_max_us"),
        ("ingress", "bare_verification_ns"),
        ("consumer", "applied_per_second"),
        ("consumer", "bare_inserts_per_second"),
        ("end_to_end", "done_per_second"),
        ("end_to_end", "age_max_us"),
    ] {
        let figure = &document["results"][scenario][figure];
        let [min, median, max] =
            ["min", "median", "max"].map(|name| figure[name].as_u64().unwrap());
        assert!(0 < min && min <= median && median <= max, "{scenario}: {figure}");
    }
    let of_ingress = &document["results"]["ingress"];
    assert!(
        of_ingress["latency_p50_us"]["min"].as_u64()
            <= of_ingress["latency_max_us"]["max"].as_u64()
    );
    assert_eq!(of_ingress["ingress_cpu_in_hundredths_of_a_verification"]["budget_at_most"], 250);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn over_kafka_it_measures_on_topics_of_its_own_and_removes_them() {
    let broker = Broker::own();
    let folder = folder();
    let document =
        bench(folder.path(), &["--json", "--rounds", "1", "--kafka", &broker.address()]).json();
    assert_eq!((&document["log"], &document["wrong"]), (&"kafka".into(), &Value::Array(vec![])));
    for (scenario, figure) in [
        ("ingress", "accepted_per_second"),
        ("consumer", "applied_per_second"),
        ("end_to_end", "done_per_second"),
    ] {
        assert!(document["results"][scenario][figure]["min"].as_u64().unwrap() > 0, "{scenario}");
    }
    let consumer: BaseConsumer = broker.client().create().unwrap();
    wait::until("the topics are gone", || {
        let metadata = consumer.fetch_metadata(None, Duration::from_secs(10)).unwrap();
        metadata.topics().iter().all(|topic| !topic.name().starts_with("suanpan-bench"))
    });
}

#[test]
fn the_table_has_the_budgets_beside_the_figures() {
    let folder = folder();
    let table = bench(folder.path(), &["consumer", "--rounds", "1"]).stdout;
    let line = |start: &str| {
        let line = table.lines().find(|line| line.trim_start().starts_with(start));
        line.unwrap_or_else(|| panic!("no line `{start}` in:\n{table}"))
    };
    assert!(line("applied  ").ends_with(">= 20 000/s"));
    assert!(line("applied as a share").ends_with(">= 50 %"));
    assert!(line("command").contains("bench consumer --rounds 1 --notifications 40"));
    assert!(!table.contains("accepted"), "only the consumer was asked for");
}
