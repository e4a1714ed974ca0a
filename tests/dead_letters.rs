//! What could not be applied is listed, shown and, after a repair, replayed: by the commands, beside a running house.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use ::alipay::SigningKey;
use payment::Topic;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::harness::alipay::APP_ID;
use crate::harness::binary::Ended;
use crate::harness::form::{Form, Rule};
use crate::harness::home::{Home, pem, settings};
use crate::harness::log::{self, Log, envelope};
use crate::harness::sql;

/// A house into whose log somebody writes who holds a key that is not in the settings.
struct Forged {
    home: Home,
    stranger: SigningKey,
}

impl Forged {
    fn new() -> Forged {
        let (stranger, _) = SigningKey::generate().unwrap();
        Forged { home: Home::new(), stranger }
    }

    /// Written past the door, signed with the stranger's key.
    fn write(&self, form: &Form) -> Vec<u8> {
        let body = form.clone().signed(&self.stranger, Rule::V1).body();
        self.write_body(body.clone());
        body
    }

    fn write_body(&self, body: Vec<u8>) {
        let log = Log::open(self.home.database.as_ref().unwrap());
        log.append(envelope("O1", body)).unwrap();
    }

    /// The stranger turns out to be Alipay.
    fn trust(&self) {
        self.home.write("stranger.pem", pem(&self.stranger.public_key_base64()));
        self.home.write("suanpan.toml", settings("file:alipay.pem\", \"file:stranger.pem"));
    }

    /// Lets a consumer apply everything that is in the log.
    fn apply(&self) {
        let up = self.home.up();
        self.home.wait_until_applied();
        assert!(up.stop().success(), "{}", self.home.stderr());
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.home.run(&[&["dead-letters"], arguments].concat())
    }

    #[track_caller]
    fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let ended = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(ended.code, Some(code), "{ended:?}");
        ended.json()
    }

    /// Rows of what a replay may change, and of what it may not.
    fn counts(&self) -> Vec<(&'static str, i64)> {
        let mut conn = self.home.connect();
        let tables = ["dead_letter_replay", "dead_letter", "inbox", "quarantine", "fact"];
        let books = ["trade", "journal_entry", "journal_line"];
        let rows =
            tables.into_iter().chain(books).map(|table| (table, sql::count(&mut conn, table)));
        let in_log = log::count(self.home.database.as_ref().unwrap());
        rows.chain([("log", in_log)]).collect()
    }
}

#[test]
fn a_dead_letter_is_listed_and_shown_with_its_bytes_only_where_they_are_asked_for() {
    let forged = Forged::new();
    assert_eq!(forged.home.run(&["migrate"]).code, Some(0));
    let body = forged.write(&Form::paid("T1").with("buyer_logon_id", "139****77"));
    forged.write_body(b"a=1&b=2".to_vec());
    forged.apply();

    let all = forged.json(0, &["list"]);
    assert_eq!(all.as_array().unwrap().len(), 2);
    let listed = forged.json(0, &["list", "--reason", "wrong_signature", "--app", APP_ID]);
    let [letter] = listed.as_array().unwrap().as_slice() else { panic!("{listed}") };
    let place = letter["place"].as_str().unwrap();
    let topic = forged.home.log().topic_name(Topic::Notifications).to_owned();
    assert!(place.starts_with(&format!("{topic}/")), "{place}");
    assert_eq!(letter["replayed_to"], Value::Null);
    for none in [["--reason", "no_such_reason"], ["--app", "2021000000000009"]] {
        assert_eq!(forged.json(0, &[&["list"][..], &none].concat()), json!([]));
    }

    let shown = forged.json(0, &["show", place]);
    assert_eq!(shown["reason"], "wrong_signature");
    assert_eq!(shown["app_id"], APP_ID);
    assert_eq!(shown["place"], place);
    let parts =
        format!("{}/{}/{}", shown["topic"].as_str().unwrap(), shown["partition"], shown["offset"]);
    assert_eq!(parts, place);
    assert_eq!(shown["bytes"], body.len());
    assert_eq!(shown["sha256"], format!("{:x}", Sha256::digest(&body)));
    assert_eq!(shown["content_type"], "application/x-www-form-urlencoded");
    assert_eq!(shown["received_at"], "1970-01-01T00:00:00+00:00");

    let raw = forged.run(&["show", place, "--raw"]);
    assert_eq!((raw.code, raw.stdout.as_bytes()), (Some(0), &*body));
    let file = forged.home.path("letter");
    let to_file = ["show", place, "--out", file.to_str().unwrap()];
    let written = forged.run(&to_file);
    assert_eq!(written.code, Some(0), "{written:?}");
    assert_eq!(fs::read(&file).unwrap(), body);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    forged.run(&to_file).assert_refused(&["letter"]);
    for quiet in [forged.run(&["list"]), forged.run(&["show", place]), written] {
        assert_eq!(quiet.code, Some(0));
        assert!(!quiet.stdout.contains("139****77"), "buyer data: {quiet:?}");
    }

    forged.run(&["show", "notifications/0/999"]).assert_refused(&["notifications/0/999"]);
    forged.run(&["show", "notifications"]).assert_refused(&["topic/partition/offset"]);
    forged.run(&["replay"]).assert_refused(&["PLACE"]);
    forged.run(&["replay", "--all", place]).assert_refused(&["--all"]);
    forged.run(&["replay", place, "notifications/0/999"]).assert_refused(&["notifications/0/999"]);
}

#[test]
fn a_replay_judges_by_todays_keys_and_has_its_effect_once() {
    let forged = Forged::new();
    assert_eq!(forged.home.run(&["migrate"]).code, Some(0));
    forged.write(&Form::paid("T1"));
    forged.apply();
    let place = forged.json(0, &["list"])[0]["place"].as_str().unwrap().to_owned();

    // The key is still unknown: nothing can be done, and nothing is.
    let before = forged.counts();
    for arguments in
        [&["replay", "--all", "--dry-run"][..], &["replay", "--all"], &["replay", &place]]
    {
        let told = forged.json(1, arguments);
        assert_eq!(told["letters"][0]["becomes"], "dead", "{told}");
        assert!(told["letters"][0]["detail"].as_str().unwrap().starts_with("wrong_signature: "));
        assert_eq!((&told["replayed"], &told["dead"]), (&json!(0), &json!(1)));
        assert_eq!(forged.counts(), before);
    }

    forged.trust();
    for _ in 0..2 {
        let told = forged.json(0, &["replay", "--all", "--dry-run"]);
        assert_eq!(told["letters"][0]["becomes"], "applied", "{told}");
        assert_eq!(told["letters"][0]["replayed_to"], Value::Null);
        assert_eq!(forged.counts(), before, "a dry run changes nothing");
    }

    let told = forged.json(0, &["replay", "--reason", "wrong_signature", "--by", "li.lei"]);
    assert_eq!((&told["replayed"], &told["dead"]), (&json!(1), &json!(0)));
    let again = told["letters"][0]["replayed_to"].as_str().unwrap();
    forged.apply();
    let mut conn = forged.home.connect();
    assert_eq!(sql::texts(&mut conn, "SELECT outcome AS text FROM inbox"), ["applied"]);
    let received = "SELECT received_at::text AS text FROM inbox";
    assert!(sql::texts(&mut conn, received)[0].starts_with("1970-01-01 "), "received when it was");
    assert_eq!(sql::count(&mut conn, "trade"), 1);
    let shown = forged.json(0, &["show", &place]);
    assert_eq!(shown["replayed_to"], again);
    assert_eq!((&shown["replayed_by"], &shown["replays"]), (&json!("li.lei"), &json!(1)));

    // Everything that is open has been replayed.
    let applied = forged.counts();
    assert_eq!(forged.json(0, &["replay", "--all"])["letters"], json!([]));
    assert_eq!(forged.counts(), applied);

    // By its place it is taken once more, and nothing comes of it but a duplicate.
    let told = forged.json(0, &["replay", &place]);
    assert_eq!(told["letters"][0]["becomes"], "duplicate", "{told}");
    forged.apply();
    let outcomes = "SELECT outcome AS text FROM inbox ORDER BY outcome";
    assert_eq!(sql::texts(&mut conn, outcomes), ["applied", "duplicate"]);
    let changed = ["log", "dead_letter_replay", "inbox"];
    let one_more =
        |(table, rows): (&'static str, i64)| (table, rows + i64::from(changed.contains(&table)));
    let expected: Vec<_> = applied.into_iter().map(one_more).collect();
    assert_eq!(forged.counts(), expected);
}

#[test]
fn of_many_letters_only_those_that_verify_are_replayed() {
    let forged = Forged::new();
    assert_eq!(forged.home.run(&["migrate"]).code, Some(0));
    forged.write(&Form::paid("T1"));
    forged.write(&Form::paid("T1"));
    forged.write(&Form::paid("T2").with("seller_id", "2088000000000009"));
    forged.write_body(b"a=1&b=2".to_vec());
    forged.apply();
    forged.trust();

    let told = forged.json(1, &["replay", "--all"]);
    let mut fates: Vec<&str> = told["letters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|letter| letter["becomes"].as_str().unwrap())
        .collect();
    fates.sort_unstable();
    assert_eq!(fates, ["applied", "dead", "duplicate", "quarantined"]);
    assert_eq!((&told["replayed"], &told["dead"]), (&json!(3), &json!(1)));
    forged.apply();
    let mut conn = forged.home.connect();
    for (table, rows) in [("trade", 1), ("quarantine", 1), ("inbox", 2), ("dead_letter", 4)] {
        assert_eq!(sql::count(&mut conn, table), rows, "{table}");
    }
    let reason = sql::texts(&mut conn, "SELECT reason AS text FROM quarantine");
    assert!(reason[0].starts_with("other_seller: "), "{reason:?}");
    let left = forged.json(1, &["replay", "--all", "--dry-run"]);
    assert_eq!(left["letters"].as_array().unwrap().len(), 1, "the others are settled");
}
