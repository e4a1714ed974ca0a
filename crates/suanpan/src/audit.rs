use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use consumer::parity::{self, FINDINGS_MAX, Parity, PartitionParity};
use payment::{AppId, Fen};
use serde_json::{Value, json};
use service::settings::Settings;

use crate::cli::{Common, ParityArgs};
use crate::setup::{self, Database, Schema};

/// Holds the log against the ledger, the ledger's facts against its books, and what senders were answered `success`
/// for against the inbox. Changes nothing, and nothing need stop for it.
pub(crate) fn parity(common: &Common, args: &ParityArgs) -> anyhow::Result<ExitCode> {
    let settings = setup::settings(common)?;
    service::logs::start(settings.logs.format);
    let mut answered = Answered::open(args, &settings)?;
    let database = Database::open(&settings, Schema::Check)?;
    let compared = compare(&settings, &database, &mut answered);
    database.close()?;
    let parity = compared?;
    if let Some(error) = answered.error {
        return Err(error);
    }
    if common.json {
        println!("{}", document(&parity));
    } else {
        print!("{}", text(&parity));
    }
    Ok(if parity.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn compare(
    settings: &Settings,
    database: &Database,
    answered: &mut Answered<'_>,
) -> anyhow::Result<Parity> {
    let log = setup::open_log(settings, Some(database), Schema::Check)?;
    let mut conn = database.connect()?;
    Ok(parity::check(&log, &mut conn, answered)?)
}

/// A file of notifications, one a line: `notify_id`, or `app_id notify_id`. Ends at the first line that is neither,
/// with an error.
struct Answered<'s> {
    file: String,
    lines: Option<std::io::Lines<BufReader<File>>>,
    line: u64,
    settings: &'s Settings,
    error: Option<anyhow::Error>,
}

impl<'s> Answered<'s> {
    fn open(args: &ParityArgs, settings: &'s Settings) -> anyhow::Result<Answered<'s>> {
        let (mut file, mut lines) = (String::new(), None);
        if let Some(path) = &args.answered {
            file = path.display().to_string();
            let open = File::open(path).with_context(|| format!("cannot read `{file}`"))?;
            lines = Some(BufReader::new(open).lines());
        }
        Ok(Answered { file, lines, line: 0, settings, error: None })
    }

    /// `None` for an empty line.
    fn read(&self, line: &str) -> anyhow::Result<Option<(AppId, String)>> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), self.settings.apps.as_slice()) {
            ([], _) => Ok(None),
            ([notify_id], [app]) => Ok(Some((AppId::parse(&app.id)?, (*notify_id).to_owned()))),
            ([_], _) => Err(anyhow!("names no app, and the settings have several")),
            ([app_id, notify_id], _) => {
                let app_id = AppId::parse(app_id)?;
                setup::app_settings(self.settings, &app_id)?;
                Ok(Some((app_id, (*notify_id).to_owned())))
            }
            (_, _) => Err(anyhow!("has more than two words")),
        }
    }
}

impl Iterator for Answered<'_> {
    type Item = (AppId, String);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = self.lines.as_mut()?.next()?;
            self.line = self.line.saturating_add(1);
            match line.map_err(anyhow::Error::from).and_then(|line| self.read(&line)) {
                Ok(Some(notification)) => return Some(notification),
                Ok(None) => {}
                Err(error) => {
                    let at = format!(
                        "{}, line {}: must be `notify_id` or `app_id notify_id`",
                        self.file, self.line
                    );
                    self.error = Some(error.context(at));
                    self.lines = None;
                    return None;
                }
            }
        }
    }
}

fn unapplied(partition: &PartitionParity) -> i64 {
    partition.end.saturating_sub(partition.position).max(0)
}

/// `1000 or more` where only so many are kept.
fn many(found: usize) -> String {
    if found < FINDINGS_MAX { found.to_string() } else { format!("{found} or more") }
}

fn text(parity: &Parity) -> String {
    const SHOWN: usize = 10;
    let mut lines = Vec::new();
    for partition in &parity.partitions {
        let PartitionParity { log_topic, partition: number, first, end, position, .. } = partition;
        lines.push(format!(
            "{log_topic}/{number}: log {first}..{end}, applied up to {position}, {} not applied yet; \
             {} compared, {} in the ledger once",
            unapplied(partition),
            partition.records,
            partition.kept,
        ));
        for (fault, offsets) in [
            ("in the ledger nowhere", &partition.missing),
            ("in the ledger more than once", &partition.repeated),
            ("in the ledger with other bytes", &partition.altered),
        ] {
            if !offsets.is_empty() {
                let shown: Vec<String> =
                    offsets.iter().take(SHOWN).map(ToString::to_string).collect();
                let (found, shown) = (many(offsets.len()), shown.join(", "));
                lines.push(format!("  {found} {fault}: offsets {shown}"));
            }
        }
        if partition.made_up > 0 {
            lines.push(format!(
                "  {} in the ledger that the log never had, after its end",
                partition.made_up
            ));
        }
        if position > end {
            lines.push(format!(
                "  the ledger is {} ahead of the log",
                position.saturating_sub(*end)
            ));
        }
    }
    let books = &parity.books;
    let yuan = |fen: i64| Fen::new(fen).to_string();
    lines.push(format!(
        "books: {} trades, {} refunds, {} facts, {} journal entries",
        books.trades, books.refunds, books.facts, books.entries
    ));
    lines.push(format!(
        "  paid {} (receipts {}), refunded {} (receipts {}), clearing account {}",
        yuan(books.paid_fen),
        yuan(books.receipt_fen),
        yuan(books.refunded_fen),
        yuan(books.refunded_receipt_fen),
        yuan(books.clearing_fen),
    ));
    for finding in parity.findings.iter().take(SHOWN) {
        lines.push(format!(
            "  app {} trade {}: {} is `{}` and must be `{}`",
            finding.app_id, finding.trade_no, finding.what, finding.found, finding.expected
        ));
    }
    if books.findings > 0 {
        lines.push(format!("  {} things are wrong in the books", books.findings));
    }
    if parity.answered > 0 {
        let (given, missing) = (parity.answered, parity.unkept.len());
        lines.push(format!("answered `success`: {given} given, {missing} not in the inbox"));
        for (app_id, notify_id) in parity.unkept.iter().take(SHOWN) {
            lines.push(format!("  app {app_id}: {notify_id}"));
        }
    }
    lines.push(if parity.holds() { "parity" } else { "NO PARITY" }.to_owned());
    lines.join("\n") + "\n"
}

fn document(parity: &Parity) -> Value {
    let partitions: Vec<Value> = parity
        .partitions
        .iter()
        .map(|partition| {
            json!({
                "topic": partition.log_topic,
                "partition": partition.partition,
                "first": partition.first,
                "end": partition.end,
                "position": partition.position,
                "unapplied": unapplied(partition),
                "records": partition.records,
                "kept": partition.kept,
                "missing": partition.missing,
                "repeated": partition.repeated,
                "altered": partition.altered,
                "made_up": partition.made_up,
            })
        })
        .collect();
    let findings: Vec<Value> = parity
        .findings
        .iter()
        .map(|finding| {
            json!({
                "app_id": finding.app_id,
                "trade_no": finding.trade_no,
                "what": finding.what,
                "expected": finding.expected,
                "found": finding.found,
            })
        })
        .collect();
    let missing: Vec<Value> = parity
        .unkept
        .iter()
        .map(|(app_id, notify_id)| json!({ "app_id": app_id.as_str(), "notify_id": notify_id }))
        .collect();
    let books = &parity.books;
    json!({
        "parity": parity.holds(),
        "partitions": partitions,
        "books": {
            "trades": books.trades,
            "refunds": books.refunds,
            "facts": books.facts,
            "entries": books.entries,
            "paid_fen": books.paid_fen,
            "receipt_fen": books.receipt_fen,
            "refunded_fen": books.refunded_fen,
            "refunded_receipt_fen": books.refunded_receipt_fen,
            "clearing_fen": books.clearing_fen,
            "findings": books.findings,
        },
        "findings": findings,
        "answered": { "given": parity.answered, "missing": missing },
    })
}
