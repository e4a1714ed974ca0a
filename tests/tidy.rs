//! The rules of the house that a compiler does not know. Pure: needs nothing installed.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Which of our crates may use which others. Everything else is a new arrow: think again before drawing it.
    const MAY_USE: &[(&str, &[&str])] = &[
        ("payment", &[]),
        ("service", &[]),
        ("alipay", &["payment"]),
        ("stream", &["payment"]),
        ("ledger", &["payment"]),
        ("ingress", &["payment", "alipay", "stream", "service"]),
        ("consumer", &["payment", "alipay", "stream", "ledger", "service"]),
        ("reconciliation", &["payment", "alipay", "ledger", "service"]),
        ("simulator", &["payment", "alipay", "service"]),
        (
            "suanpan",
            &[
                "payment",
                "alipay",
                "stream",
                "ledger",
                "ingress",
                "consumer",
                "reconciliation",
                "simulator",
                "service",
            ],
        ),
    ];

    /// The metrics that others rely on by name, for the rooms that are built.
    const METRICS: &[&str] = &[
        "suanpan_ingress_notifications_total",
        "suanpan_ingress_signature_failures_total",
        "suanpan_ingress_request_duration_seconds",
        "suanpan_ingress_append_duration_seconds",
        "suanpan_ingress_last_accepted_timestamp_seconds",
        "suanpan_consumer_applied_total",
        "suanpan_consumer_oldest_unapplied_age_seconds",
        "suanpan_consumer_lag_messages",
        "suanpan_quarantine_messages",
        "suanpan_dead_letters_total",
        "suanpan_reconciliation_runs_total",
        "suanpan_reconciliation_differences",
        "suanpan_reconciliation_difference_amount_fen",
        "suanpan_reconciliation_last_closed_day_timestamp_seconds",
        "suanpan_reconciliation_bill_rows_per_second",
        "suanpan_gateway_requests_total",
    ];

    #[test]
    fn crates_use_only_what_they_may() {
        let crates = crate_names();
        let listed: BTreeSet<String> = MAY_USE.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(crates, listed, "tests/tidy.rs must list every crate of crates/");
        for (name, allowed) in MAY_USE {
            for other in used_by(name).intersection(&crates) {
                assert!(
                    allowed.contains(&other.as_str()),
                    "`{name}` must not depend on `{other}`: the allowed arrows are in tests/tidy.rs"
                );
            }
        }
    }

    #[test]
    fn every_crate_keeps_the_workspace_lints_and_a_readme() {
        for name in crate_names() {
            let folder = root().join("crates").join(&name);
            let manifest = read(&folder.join("Cargo.toml"));
            assert!(
                manifest.contains("[lints]\nworkspace = true"),
                "{name} leaves the workspace's lints"
            );
            assert!(
                manifest.contains(&format!("name = \"{name}\"")),
                "{name} is not its folder's name"
            );
            let readme = read(&folder.join("README.md"));
            assert!(readme.lines().count() >= 5, "{name}/README.md says nothing");
            let map = read(&root().join("crates/README.md"));
            assert!(map.contains(&format!("`{name}`")), "crates/README.md does not know `{name}`");
        }
    }

    #[test]
    fn tables_are_named_in_the_ledger_alone() {
        for file in sources("crates") {
            let in_ledger = file.starts_with(root().join("crates/ledger"));
            let names_a_table = read(&file).contains("table!");
            assert!(in_ledger || !names_a_table, "{} names a table", file.display());
        }
    }

    #[test]
    fn every_promised_metric_is_registered() {
        let code: String = sources("crates").iter().map(|file| read(file)).collect();
        for metric in METRICS {
            assert!(code.contains(&format!("\"{metric}\"")), "no code registers `{metric}`");
        }
    }

    #[test]
    fn every_migration_goes_up_and_down() {
        let mut migrations = 0;
        for entry in fs::read_dir(root().join("migrations")).unwrap() {
            let folder = entry.unwrap().path();
            if folder.is_dir() {
                migrations += 1;
                for file in ["up.sql", "down.sql"] {
                    let text = read(&folder.join(file));
                    assert!(!text.trim().is_empty(), "{}/{file} is empty", folder.display());
                }
            }
        }
        assert!(migrations > 0);
    }

    #[test]
    fn files_hold_one_noun_each() {
        const LINES: usize = 450;
        for file in sources("crates") {
            let lines = read(&file).lines().count();
            assert!(
                lines <= LINES,
                "{} has {lines} lines: which noun is hiding in it?",
                file.display()
            );
        }
    }

    #[test]
    fn the_root_holds_what_it_is_meant_to() {
        let allowed = [
            "Cargo.lock",
            "Cargo.toml",
            "LICENSE",
            "README.md",
            "crates",
            "dashboards",
            "deploy",
            "migrations",
            "tests",
        ];
        // Folders that running the program or its tests leaves behind, and that git ignores.
        let left_behind = ["target", "suanpan-data", "suanpan-demo"];
        for entry in fs::read_dir(root()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let known = name.starts_with('.')
                || allowed.contains(&name.as_str())
                || left_behind.contains(&name.as_str());
            assert!(known, "`{name}` does not belong into the root");
        }
    }

    #[test]
    fn what_the_containers_are_made_of_exists() {
        let compose = read(&root().join("deploy/compose.yaml"));
        // Made by deploy/make-secrets, or put there by whoever runs it.
        let made_later = ["./secrets/", "./keys"];
        let mut mentioned = 0;
        for word in compose.split(|c: char| c.is_whitespace() || matches!(c, ':' | '[' | ']' | ','))
        {
            if !word.starts_with("./") && !word.starts_with("../") {
                continue;
            }
            mentioned += 1;
            let known = made_later.iter().any(|later| word.starts_with(later))
                || root().join("deploy").join(word).exists();
            assert!(known, "deploy/compose.yaml mentions `{word}`, which is not there");
        }
        assert!(mentioned >= 8, "the words are not found any more");
        // Relative to the context, which is the root.
        assert!(compose.contains("context: ..\n"));
        for dockerfile in after(&compose, "dockerfile: ") {
            assert!(root().join(dockerfile).is_file(), "`{dockerfile}` is not there");
        }
        for path in after(&read(&root().join(".dockerignore")), "!") {
            assert!(
                root().join(path).exists(),
                ".dockerignore lets `{path}` in, which is not there"
            );
        }
    }

    #[test]
    fn the_containers_run_commands_that_exist() {
        let compose = read(&root().join("deploy/compose.yaml"));
        let cli = read(&root().join("crates/suanpan/src/cli.rs"));
        let (_, cli) = cli.split_once("enum Command {").unwrap();
        let (cli, _) = cli.split_once("\n}").unwrap();
        // Prometheus has one, too, of options alone.
        let commands: BTreeSet<&str> = after(&compose, "command: [")
            .filter_map(|list| list.strip_suffix(']').filter(|list| !list.starts_with('-')))
            .collect();
        assert_eq!(commands.len(), compose.matches("<<: *role").count(), "{commands:?}");
        assert!(!commands.is_empty());
        for command in commands {
            let variant = format!("    {}{},\n", command[..1].to_uppercase(), &command[1..]);
            assert!(cli.contains(&variant), "there is no command `suanpan {command}`");
        }
    }

    #[test]
    fn dashboards_ask_for_metrics_that_exist() {
        let mut asked = 0;
        for entry in fs::read_dir(root().join("dashboards")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let text = read(&path);
            let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(dashboard["uid"].is_string(), "{} has no uid", path.display());
            for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                let name = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|part| word.strip_suffix(part))
                    .unwrap_or(word);
                if name.starts_with("suanpan_") {
                    asked += 1;
                    assert!(METRICS.contains(&name), "{} asks for `{name}`", path.display());
                }
            }
        }
        assert!(asked > 0);
    }

    /// What follows the prefix on the lines that begin with it.
    fn after<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        text.lines().filter_map(move |line| line.trim_start().strip_prefix(prefix))
    }

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn crate_names() -> BTreeSet<String> {
        fs::read_dir(root().join("crates"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }

    /// Everything a crate's manifest names under a heading of dependencies, for tests too.
    fn used_by(name: &str) -> BTreeSet<String> {
        let manifest = read(&root().join("crates").join(name).join("Cargo.toml"));
        let manifest: toml::Table = manifest.parse().unwrap();
        ["dependencies", "dev-dependencies", "build-dependencies"]
            .iter()
            .filter_map(|heading| manifest.get(*heading)?.as_table())
            .flat_map(|table| table.keys().cloned())
            .collect()
    }

    /// All Rust files under a folder of the root.
    fn sources(folder: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![root().join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    found.push(path);
                }
            }
        }
        assert!(!found.is_empty());
        found
    }
}
