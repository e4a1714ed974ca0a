//! The processes of a merchant who has servers: front door and consumers, each by itself, over somebody's Postgres.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::{fs, thread};

use serde_json::{Value, json};
use stream::Log;

use super::crowd::{Crowd, Told};
use super::{events, records};
use crate::harness::alipay::APP_ID;
use crate::harness::binary::Up;
use crate::harness::home::Home;
use crate::harness::{books, log, port, sql, wait};

pub(crate) struct Stage {
    home: Home,
    database_url: String,
    log: Log,
    /// The same after every restart, as Alipay knows it.
    listen: String,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for role in ["up", "ingress", "consumer"] {
            // What every post was refused for is said once per post.
            let said = self.said(role);
            let lines: Vec<&str> = said
                .lines()
                .filter(|line| !line.contains("cannot append a notification"))
                .collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            if !tail.is_empty() {
                eprintln!("the last words of {role}:\n{}", tail.join("\n"));
            }
        }
    }
}

impl Stage {
    /// With schema and topics, and nobody running yet.
    pub(crate) fn new(database_url: &str, log: &Log) -> Stage {
        let listen = format!("127.0.0.1:{}", port::free());
        let home = Home::bare()
            .variable("SUANPAN__INGRESS__LISTEN", &listen)
            .variable("SUANPAN__DATABASE__URL", "env:SUANPAN_TEST_DATABASE")
            .variable("SUANPAN_TEST_DATABASE", database_url);
        let home = match log {
            Log::Postgres { .. } => home,
            Log::Kafka(kafka) => home.over(kafka),
        };
        let migrated = home.run(&["migrate"]);
        assert_eq!(migrated.code, Some(0), "{migrated:?}");
        Stage { home, database_url: database_url.to_owned(), log: log.clone(), listen }
    }

    /// The whole house in one process, with a Postgres that it starts by itself in its data folder.
    pub(crate) fn embedded(home: Home) -> Stage {
        let listen = format!("127.0.0.1:{}", port::free());
        let home = home.variable("SUANPAN__INGRESS__LISTEN", &listen);
        let cluster = home.open_cluster();
        let database_url = cluster.url().to_owned();
        cluster.close().unwrap();
        let log = Log::Postgres { database_url: database_url.clone(), partitions: 4 };
        Stage { home, database_url, log, listen }
    }

    /// Starts one role and waits until its doors are open.
    pub(crate) fn start(&self, role: &str) -> Up {
        Up::start_role(role, self.home.command(&[]), &self.log_file(role))
    }

    /// The same, as a supervisor does it: again, where it ended because what it needs was not there yet.
    pub(crate) fn keep_starting(&self, role: &str) -> Up {
        let mut up = None;
        wait::until("a role starts", || {
            up = Up::try_start_role(role, self.home.command(&[]), &self.log_file(role));
            up.is_some()
        });
        up.unwrap()
    }

    /// What one role, in all its lives, has written to its standard error.
    pub(crate) fn said(&self, role: &str) -> String {
        fs::read_to_string(self.log_file(role)).unwrap_or_default()
    }

    pub(crate) fn crowd(&self, seed: u64) -> Crowd<'_> {
        let url = format!("http://{}/notify/alipay/{APP_ID}", self.listen);
        Crowd::new(&self.home.key, url, seed)
    }

    pub(crate) fn database_url(&self) -> &str {
        &self.database_url
    }

    fn log_file(&self, role: &str) -> PathBuf {
        self.home.path(&format!("{role}.log"))
    }

    /// Everything that was sent, and by now answered `success`, is in the log, in the ledger and in the events, once
    /// and to the fen. Needs a consumer that runs.
    pub(crate) fn assert_kept(&self, crowd: &Crowd<'_>) {
        log::wait_until_applied(&self.log, &self.database_url);
        let mut conn = ledger::connect(&self.database_url).unwrap();
        let told = crowd.told();
        self.assert_parity(crowd, &told);

        // Our own arithmetic, which shares nothing with the program's.
        let applied = "SELECT notify_id AS text FROM inbox WHERE outcome = 'applied'";
        let answered: BTreeSet<String> = crowd.answered().into_keys().collect();
        assert_eq!(records::notify_ids(&self.log), answered, "what was answered is in the log");
        let mut inbox = sql::texts(&mut conn, applied);
        inbox.sort_unstable();
        let answered: Vec<String> = answered.into_iter().collect();
        assert_eq!(inbox, answered, "each notification applied once");
        for table in ["dead_letter", "quarantine", "conflict", "trade WHERE doubt IS NOT NULL"] {
            assert_eq!(sql::count(&mut conn, table), 0, "{table}");
        }
        let trades =
            "SELECT format('%s %s %s %s', trade_no, total_fen, receipt_fen, refunded_fen) AS text
                        FROM trade WHERE paid_at IS NOT NULL";
        let mut trades = sql::texts(&mut conn, trades);
        trades.sort_unstable();
        let mut paid: Vec<String> = told
            .iter()
            .filter(|(_, told)| told.is_paid)
            .map(|(trade_no, told)| {
                let Told { total_fen, receipt_fen, .. } = told;
                format!("{trade_no} {total_fen} {receipt_fen} {}", told.refunded_fen())
            })
            .collect();
        paid.sort_unstable();
        assert_eq!(trades, paid);
        books::assert_sound(&mut conn);
        let sales = "SELECT coalesce(-sum(amount_fen), 0)::bigint AS number FROM journal_line WHERE account = 'sales'";
        let (paid_fen, refunded_fen) = (crowd.paid_fen(), crowd.refunded_fen());
        assert_eq!(sql::number(&mut conn, sales), paid_fen - refunded_fen, "sales, to the fen");

        wait::until("all events have left", || sql::count(&mut conn, "outbox") == 0);
        events::assert_told(&events::read(&self.log), &told);
    }

    /// The program's own comparison says so, and counts what we counted.
    fn assert_parity(&self, crowd: &Crowd<'_>, told: &BTreeMap<String, Told>) {
        let answered: Vec<String> = crowd.answered().into_keys().collect();
        let file = self.home.write("answered", answered.join("\n"));
        let arguments = ["audit", "parity", "--json", "--answered", file.to_str().unwrap()];
        let ended = self.home.run(&arguments);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let parity = ended.json();
        assert_eq!(parity["answered"], json!({ "given": answered.len(), "missing": [] }));
        let sum = |name: &str| -> i64 {
            let of = |partition: &Value| partition[name].as_i64().unwrap();
            parity["partitions"].as_array().unwrap().iter().map(of).sum()
        };
        assert_eq!(sum("unapplied"), 0);
        assert_eq!(sum("kept"), sum("records"));
        assert!(sum("records") >= i64::try_from(answered.len()).unwrap());
        let books = &parity["books"];
        assert_eq!(books["trades"], told.len());
        assert_eq!(
            books["refunds"],
            told.values().map(|told| told.refunds_fen.len()).sum::<usize>()
        );
        for (name, expected) in [
            ("paid_fen", crowd.paid_fen()),
            ("refunded_fen", crowd.refunded_fen()),
            ("receipt_fen", told.values().map(|told| told.receipt_fen).sum()),
        ] {
            assert_eq!(books[name], expected, "{name}");
        }
    }
}
