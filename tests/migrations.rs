//! The schema, up and down.

use std::sync::Barrier;
use std::thread;

use alipay::RefundFee;
use ledger::{Connection, Content, MigrateError};

use crate::harness::{Alipay, Database, Feed, Log, Notice, books, feed, log, sql};

#[test]
fn an_empty_database_goes_up_down_and_up_again() {
    let database = Database::empty();
    let mut conn = database.connect();
    let up = ledger::migrate(&mut conn).unwrap();
    assert_eq!(up.len(), ledger::migrate::count().unwrap());
    let schema = objects(&mut conn);
    for _ in 0..2 {
        let mut down = ledger::migrate::revert(&mut conn).unwrap();
        down.reverse();
        assert_eq!(down, up);
        assert_eq!(objects(&mut conn), Vec::<String>::new(), "left behind by down.sql");
        assert_eq!(ledger::migrate(&mut conn).unwrap(), up);
        assert_eq!(objects(&mut conn), schema);
    }
    ledger::check_schema(&mut conn).unwrap();
}

#[test]
fn a_filled_database_goes_down_and_is_as_good_as_new() {
    let database = Database::with_postgres_log();
    let mut conn = database.connect();
    for _ in 0..2 {
        fill(&database, &mut conn);
        ledger::migrate::revert(&mut conn).unwrap();
        assert_eq!(objects(&mut conn), Vec::<String>::new(), "left behind by down.sql");
        ledger::migrate(&mut conn).unwrap();
        stream::set_up(&database.log).unwrap();
        assert_eq!(sql::count(&mut conn, "trade"), 0);
    }
    fill(&database, &mut conn);
    books::assert_sound(&mut conn);
}

#[test]
fn migrating_again_does_nothing() {
    let database = Database::with_postgres_log();
    let mut conn = database.connect();
    fill(&database, &mut conn);
    let (schema, book) = (objects(&mut conn), books::of_trades(&mut conn, "%"));
    for _ in 0..2 {
        assert_eq!(ledger::migrate(&mut conn).unwrap(), Vec::<String>::new());
    }
    assert_eq!((objects(&mut conn), books::of_trades(&mut conn, "%")), (schema, book));
}

#[test]
fn a_database_without_the_schema_is_refused_by_the_migration_it_lacks() {
    let database = Database::empty();
    let mut conn = database.connect();
    for _ in 0..2 {
        let error = ledger::check_schema(&mut conn).unwrap_err();
        assert!(matches!(error, MigrateError::Behind { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("2026-11-21-000001_log") && text.contains("suanpan migrate"),
            "{text}"
        );
    }
    ledger::migrate(&mut conn).unwrap();
    ledger::check_schema(&mut conn).unwrap();
}

#[test]
fn of_several_that_migrate_at_once_one_does_and_the_others_wait() {
    const AT_ONCE: usize = 4;
    for _ in 0..2 {
        let database = Database::empty();
        let start = Barrier::new(AT_ONCE);
        let mut ran = thread::scope(|scope| {
            let migrating = [(); AT_ONCE].map(|()| {
                scope.spawn(|| {
                    let mut conn = database.connect();
                    start.wait();
                    let ran = ledger::migrate(&mut conn).unwrap().len();
                    ledger::check_schema(&mut conn).unwrap();
                    ran
                })
            });
            migrating.map(|thread| thread.join().unwrap())
        });
        ran.sort_unstable();
        assert_eq!(ran, [0, 0, 0, ledger::migrate::count().unwrap()]);
    }
}

#[test]
fn a_ledger_of_the_version_before_goes_up_without_telling_what_is_old() {
    let database = Database::new();
    let mut conn = database.connect();
    fill(&database, &mut conn);
    for new in ["T2", "T3"] {
        let book = books::of_trades(&mut conn, "%");
        // As the version before left it: a position without an epoch, and nothing that was told.
        let down = include_str!("../migrations/2026-11-22-000004_scale_out/down.sql");
        sql::run(&mut conn, down);
        sql::run(
            &mut conn,
            "DELETE FROM __diesel_schema_migrations WHERE version = '20261122000004'",
        );
        // Statements that this connection remembers are of another schema.
        let mut conn = database.connect();
        assert_eq!(ledger::migrate(&mut conn).unwrap(), ["20261122000004"]);
        assert_eq!(sql::count(&mut conn, "outbox"), 0);
        assert_eq!(books::of_trades(&mut conn, "%"), book);
        // It goes on where it was, and what changes from here on is told.
        let alipay = Alipay::new();
        let mut feed = Feed::claim(&mut conn);
        assert!(feed.next_offset > 0);
        let told = [Notice::paid("T1"), Notice::paid(new)]
            .map(|notice| feed::genuine(new, alipay.read(&notice).facts(FEE)));
        feed.apply(&mut conn, told.to_vec()).unwrap();
        let events = sql::texts(&mut conn, "SELECT event_id AS text FROM outbox");
        assert_eq!(events, [format!("{new}/paid")]);
        books::assert_sound(&mut conn);
    }
}

const FEE: RefundFee = RefundFee::Cumulative;

/// Something in the log, and in every table of the ledger.
fn fill(database: &Database, conn: &mut Connection) {
    Log::open(database).append(log::envelope("O-T1", b"a=1".to_vec())).unwrap();
    let alipay = Alipay::new();
    let other_total = Notice::paid("T1").with("total_amount", "101.00");
    let mut contents: Vec<Content> = Notice::seven("T1")
        .iter()
        .chain([&other_total])
        .map(|notice| feed::genuine("N", alipay.read(notice).facts(RefundFee::Cumulative)))
        .collect();
    contents.push(Content::Quarantined { reason: "other_seller".to_owned() });
    contents.push(Content::Dead { reason: "wrong_signature", detail: "none".to_owned() });
    Feed::claim(conn).apply(conn, contents).unwrap();
    for table in [
        "log_record",
        "log_position",
        "inbox",
        "quarantine",
        "dead_letter",
        "fact",
        "trade",
        "refund",
        "conflict",
        "journal_entry",
        "journal_line",
        "outbox",
    ] {
        assert!(sql::count(conn, table) > 0, "{table} is empty");
    }
    sql::run(
        conn,
        "INSERT INTO bill (app_id, day, sha256, file, account, rows, net_fen, fee_fen, loaded_at)
         VALUES ('2021000000000001', '2024-03-05', decode(repeat('00', 32), 'hex'), 'a.zip',
                 '2088000000000001', 0, 0, 0, now())",
    );
}

/// Tables, views, indexes, sequences, functions, triggers and constraints of ours, by name.
fn objects(conn: &mut Connection) -> Vec<String> {
    sql::texts(
        conn,
        "SELECT text FROM (
             SELECT relkind::text || ' ' || relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
             UNION ALL
             SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
             UNION ALL
             SELECT 'trigger ' || tgname FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
              WHERE relnamespace = 'public'::regnamespace AND NOT tgisinternal
             UNION ALL
             SELECT 'constraint ' || conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace
         ) AS object (text)
         WHERE text NOT LIKE '%__diesel_schema_migrations%' ORDER BY text",
    )
}
