mod replay;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use chrono::{DateTime, Utc};
use ledger::dead_letter::{self, DeadLetter, Filter};
use ledger::{Connection, Place};
use serde_json::{Value, json};
use service::settings::Settings;
use sha2::{Digest, Sha256};

pub(crate) use self::replay::replay;
use crate::cli::{Common, ListDeadLettersArgs, ShowDeadLetterArgs};
use crate::setup::{self, Database, Schema};

/// Lists dead letters without their bytes, the newest first.
pub(crate) fn list(common: &Common, args: &ListDeadLettersArgs) -> anyhow::Result<ExitCode> {
    let filter =
        Filter { reason: args.reason.as_deref(), app_id: args.app.as_ref(), ..Filter::default() };
    let letters =
        with_ledger(common, |_, _, conn| Ok(dead_letter::list(conn, filter, args.limit)?))?;
    if common.json {
        println!("{}", letters.iter().map(summary).collect::<Value>());
        return Ok(ExitCode::SUCCESS);
    }
    for letter in &letters {
        println!(
            "{} {} app {} {} bytes: {}: {}{}",
            payment::to_local(letter.received_at),
            letter.place(),
            letter.app_id,
            letter.body.len(),
            letter.reason,
            letter.detail,
            letter
                .replayed_to
                .as_ref()
                .map_or_else(String::new, |place| format!(" (replayed to {place})")),
        );
    }
    println!("{} listed", letters.len());
    Ok(ExitCode::SUCCESS)
}

/// Shows one dead letter. Its bytes go where they are asked for, and nowhere else: they may hold a buyer's data.
pub(crate) fn show(common: &Common, args: &ShowDeadLetterArgs) -> anyhow::Result<ExitCode> {
    let letter = with_ledger(common, |_, _, conn| find(conn, &args.place))?;
    if args.raw {
        let mut out = std::io::stdout();
        out.write_all(&letter.body).and_then(|()| out.flush()).context("cannot write the bytes")?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(file) = &args.out {
        write_privately(file, &letter.body)
            .with_context(|| format!("cannot write the bytes to `{}`", file.display()))?;
    }
    if common.json {
        println!("{}", details(&letter));
        return Ok(ExitCode::SUCCESS);
    }
    let time = |at: DateTime<Utc>| format!("{} ({})", payment::to_local(at), at.to_rfc3339());
    println!("place         {}", letter.place());
    println!("app           {}", letter.app_id);
    println!("reason        {}", letter.reason);
    println!("detail        {}", letter.detail);
    println!("received      {}", time(letter.received_at));
    println!("recorded      {}", time(letter.recorded_at));
    println!("bytes         {}", letter.body.len());
    println!("SHA-256       {:x}", Sha256::digest(&letter.body));
    println!("looks like    {}", content_type(&letter.body));
    if let (Some(place), Some(by), Some(at)) =
        (&letter.replayed_to, &letter.replayed_by, letter.replayed_at)
    {
        let times = letter.replays;
        println!("replayed      {times} times, last to {place} by {by} on {}", time(at));
    }
    if let Some(file) = &args.out {
        println!("written to    {}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens the ledger of the settings for as long as `work` takes.
fn with_ledger<T>(
    common: &Common,
    work: impl FnOnce(&Settings, &Database, &mut Connection) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let settings = setup::settings(common)?;
    service::logs::start(settings.logs.format);
    let database = Database::open(&settings, Schema::Check)?;
    let outcome = database.connect().and_then(|mut conn| work(&settings, &database, &mut conn));
    database.close()?;
    outcome
}

fn find(conn: &mut Connection, place: &Place) -> anyhow::Result<DeadLetter> {
    dead_letter::find(conn, place)?.ok_or_else(|| {
        anyhow!(
            "there is no dead letter at `{place}`; `suanpan dead-letters list` names the places"
        )
    })
}

fn summary(letter: &DeadLetter) -> Value {
    json!({
        "app_id": letter.app_id,
        "place": letter.place().to_string(),
        "received_at": letter.received_at.to_rfc3339(),
        "bytes": letter.body.len(),
        "reason": letter.reason,
        "detail": letter.detail,
        "replayed_to": letter.replayed_to,
    })
}

fn details(letter: &DeadLetter) -> Value {
    json!({
        "app_id": letter.app_id,
        "place": letter.place().to_string(),
        "topic": letter.log_topic,
        "partition": letter.log_partition,
        "offset": letter.log_offset,
        "reason": letter.reason,
        "detail": letter.detail,
        "received_at": letter.received_at.to_rfc3339(),
        "recorded_at": letter.recorded_at.to_rfc3339(),
        "bytes": letter.body.len(),
        "sha256": format!("{:x}", Sha256::digest(&letter.body)),
        "content_type": content_type(&letter.body),
        "replays": letter.replays,
        "replayed_to": letter.replayed_to,
        "replayed_by": letter.replayed_by,
        "replayed_at": letter.replayed_at.map(|at| at.to_rfc3339()),
    })
}

/// A guess, by the look of the bytes; what the sender called them is not kept.
fn content_type(body: &[u8]) -> &'static str {
    let is_text = body.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    match body.trim_ascii_start().first() {
        None => "empty",
        Some(b'{' | b'[') => "application/json",
        Some(b'<') => "text/xml",
        Some(_) if is_text && body.contains(&b'=') => "application/x-www-form-urlencoded",
        Some(_) if is_text => "text/plain",
        Some(_) => "application/octet-stream",
    }
}

/// Makes a file that only its owner may read; one that is there already is left alone.
fn write_privately(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_called_what_they_look_like() {
        for (body, name) in [
            (&b""[..], "empty"),
            (b" \n", "empty"),
            (b"a=1&b=%20", "application/x-www-form-urlencoded"),
            (b" {\"a\":1}", "application/json"),
            (b"<xml/>", "text/xml"),
            (b"hello", "text/plain"),
            (b"a=\xFF", "application/octet-stream"),
        ] {
            assert_eq!(content_type(body), name, "{body:?}");
        }
    }
}
