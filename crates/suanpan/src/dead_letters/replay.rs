use std::collections::{HashMap, HashSet};
use std::process::ExitCode;
use std::sync::Arc;

use alipay::{App, Trust, Verdict};
use anyhow::Context;
use ledger::dead_letter::{self, DeadLetter, Filter, Replay};
use ledger::{Connection, Content, Place};
use payment::{AppId, Envelope, Kind, Provider, Source, Topic};
use serde_json::{Value, json};
use service::settings::Settings;
use service::{Clock, SystemClock};
use stream::{AppendSettings, Appender};
use uuid::Uuid;

use super::{find, with_ledger};
use crate::cli::{Common, ReplayDeadLettersArgs};
use crate::setup::{self, Database, Schema};

/// Judges dead letters by today's keys and appends those that are genuine to the log again, where they take the way of
/// every notification: what was applied by then is recognised as a duplicate. The others stay as they are.
pub(crate) fn replay(common: &Common, args: &ReplayDeadLettersArgs) -> anyhow::Result<ExitCode> {
    let outcome = with_ledger(common, |settings, database, conn| {
        let letters = chosen(conn, args)?;
        let mut judged = judge_all(conn, settings, letters)?;
        let failure = if args.dry_run {
            None
        } else {
            append_all(conn, settings, database, &actor(args), &mut judged).err()
        };
        Ok((judged, failure))
    });
    let (judged, failure) = outcome?;
    // What was done is told, whatever came after it.
    print(common, args, &judged);
    match failure {
        Some(error) => Err(error),
        None if judged.iter().any(|judged| judged.again.is_none()) => Ok(ExitCode::FAILURE),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// A dead letter, and what would become of it now.
struct Judged {
    letter: DeadLetter,
    fate: Fate,
    /// What is appended again; `None` where it stays dead.
    again: Option<Envelope>,
    /// Where it stands in the log again.
    place: Option<Place>,
}

/// What the consumer would make of a letter.
enum Fate {
    /// Its facts would enter the ledger.
    Applied,
    /// Kept in the inbox; it moves no money.
    Kept,
    /// Its `notify_id` is in the inbox, or in a letter before it.
    Duplicate,
    /// Genuine, but a check fails.
    Quarantined { reason: String },
    /// A dead letter again.
    Dead { reason: &'static str, detail: String },
}

/// The letters that are asked for: places in the order given, else the open ones, the oldest first.
fn chosen(conn: &mut Connection, args: &ReplayDeadLettersArgs) -> anyhow::Result<Vec<DeadLetter>> {
    if !args.which.places.is_empty() {
        // All are found before anything is done.
        return args.which.places.iter().map(|place| find(conn, place)).collect();
    }
    let filter = Filter {
        reason: args.which.reason.as_deref(),
        app_id: args.app.as_ref(),
        replay: Replay::Open,
    };
    let mut letters = dead_letter::list(conn, filter, args.limit)?;
    letters.reverse();
    Ok(letters)
}

fn judge_all(
    conn: &mut Connection,
    settings: &Settings,
    letters: Vec<DeadLetter>,
) -> anyhow::Result<Vec<Judged>> {
    let apps: HashMap<AppId, Arc<App>> =
        setup::apps(settings)?.into_iter().map(|app| (app.app_id.clone(), app)).collect();
    let mut seen = HashSet::new();
    letters.into_iter().map(|letter| judge(conn, &apps, &mut seen, letter)).collect()
}

/// `seen` holds the notifications of the letters before.
fn judge(
    conn: &mut Connection,
    apps: &HashMap<AppId, Arc<App>>,
    seen: &mut HashSet<(AppId, String)>,
    letter: DeadLetter,
) -> anyhow::Result<Judged> {
    let dead = |letter, reason, detail| Judged {
        letter,
        fate: Fate::Dead { reason, detail },
        again: None,
        place: None,
    };
    let app = AppId::parse(&letter.app_id).ok().and_then(|app_id| apps.get(&app_id));
    let Some(app) = app else {
        let detail = format!("app `{}` is not in the settings", letter.app_id);
        return Ok(dead(letter, "unknown_app", detail));
    };
    let verdict = alipay::receive(app, &letter.body, Trust::ActiveAndRetired);
    let key = match &verdict {
        Verdict::Genuine { notification, .. } => notification.key.clone(),
        Verdict::SetAside { key, .. } => key.clone(),
        Verdict::Refused(_) => String::new(),
    };
    let content = consumer::content(app, verdict, Topic::Notifications, None, &letter.body);
    let fate = match content {
        Content::Genuine { notify_id, facts, .. } => {
            let asked = [notify_id.as_str()];
            let is_new = !ledger::audit::notify_ids(conn, &app.app_id, &asked)?.is_empty();
            match (is_new && seen.insert((app.app_id.clone(), notify_id)), facts.is_empty()) {
                (false, _) => Fate::Duplicate,
                (true, true) => Fate::Kept,
                (true, false) => Fate::Applied,
            }
        }
        Content::Quarantined { reason } => Fate::Quarantined { reason },
        Content::Dead { reason, detail } => return Ok(dead(letter, reason, detail)),
    };
    let again = Some(envelope(app, &key, &letter));
    Ok(Judged { letter, fate, again, place: None })
}

/// The letter as it was received, under a new id.
fn envelope(app: &App, key: &str, letter: &DeadLetter) -> Envelope {
    Envelope {
        id: Uuid::new_v4().to_string(),
        topic: Topic::Notifications,
        kind: Kind::NotificationReceived,
        provider: Provider::Alipay,
        app_id: app.app_id.clone(),
        // The log's text holds no zero byte.
        key: key.replace('\0', "\u{FFFD}"),
        source: Source::Notification,
        sequence: None,
        received_at: letter.received_at,
        reason: None,
        body: letter.body.clone(),
    }
}

/// Appends what is genuine and notes it in the ledger, a handful at a time. A letter that was appended and not noted
/// is still open: replayed once more, it is a duplicate.
fn append_all(
    conn: &mut Connection,
    settings: &Settings,
    database: &Database,
    actor: &str,
    judged: &mut [Judged],
) -> anyhow::Result<()> {
    const AT_ONCE: usize = 256;
    if judged.iter().all(|judged| judged.again.is_none()) {
        return Ok(());
    }
    let log = setup::open_log(settings, Some(database), Schema::Check)?;
    let appender =
        Appender::start(&log, AppendSettings::default()).context("cannot open the log")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot append to the log")?;
    let mut genuine: Vec<&mut Judged> =
        judged.iter_mut().filter(|judged| judged.again.is_some()).collect();
    let outcome = genuine.chunks_mut(AT_ONCE).try_for_each(|letters| {
        let envelopes = letters.iter().filter_map(|judged| judged.again.clone()).collect();
        let appended = runtime.block_on(append(&appender, envelopes));
        for (judged, appended) in letters.iter_mut().zip(appended) {
            let from = judged.letter.place();
            let (partition, offset) =
                appended.with_context(|| format!("cannot append `{from}` to the log again"))?;
            let log_topic = log.topic_name(partition.topic).to_owned();
            let place = Place { log_topic, partition: partition.number, offset };
            dead_letter::replayed(conn, &from, &place, actor, SystemClock.now()).with_context(
                || format!("`{from}` is in the log again, and that cannot be noted"),
            )?;
            judged.place = Some(place);
        }
        Ok(())
    });
    appender.close();
    outcome
}

/// Each envelope's place, in their order.
async fn append(
    appender: &Appender,
    envelopes: Vec<Envelope>,
) -> Vec<anyhow::Result<(stream::Partition, i64)>> {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let running: Vec<_> = envelopes
                .into_iter()
                .map(|envelope| {
                    let appender = appender.clone();
                    tokio::task::spawn_local(async move { appender.append(envelope).await })
                })
                .collect();
            let mut places = Vec::new();
            for task in running {
                places.push(match task.await {
                    Ok(appended) => appended.map_err(anyhow::Error::from),
                    Err(error) => Err(error.into()),
                });
            }
            places
        })
        .await
}

/// Who is noted as the one who did it.
fn actor(args: &ReplayDeadLettersArgs) -> String {
    let login = || ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    args.by.clone().or_else(login).unwrap_or_else(|| "unknown".to_owned())
}

fn print(common: &Common, args: &ReplayDeadLettersArgs, judged: &[Judged]) {
    let replayed = judged.iter().filter(|judged| judged.place.is_some()).count();
    let dead = judged.iter().filter(|judged| judged.again.is_none()).count();
    if common.json {
        let document = json!({
            "dry_run": args.dry_run,
            "letters": judged.iter().map(Judged::json).collect::<Vec<_>>(),
            "replayed": replayed,
            "dead": dead,
        });
        println!("{document}");
        return;
    }
    for judged in judged {
        let place = judged.letter.place();
        match (&judged.place, &judged.again, args.dry_run) {
            (Some(new), _, _) => println!("{place} is {new} now: {}", judged.fate.words()),
            (None, Some(_), false) => println!("{place} was not replayed: {}", judged.fate.words()),
            (None, Some(_), true) => println!("{place} would be replayed: {}", judged.fate.words()),
            (None, None, _) => println!("{place} stays dead: {}", judged.fate.words()),
        }
    }
    println!("{} looked at, {replayed} replayed, {dead} dead as before", judged.len());
}

impl Judged {
    fn json(&self) -> Value {
        json!({
            "place": self.letter.place().to_string(),
            "app_id": self.letter.app_id,
            "reason": self.letter.reason,
            "becomes": self.fate.as_str(),
            "detail": self.fate.detail(),
            "replayed_to": self.place.as_ref().map(Place::to_string),
        })
    }
}

impl Fate {
    fn as_str(&self) -> &'static str {
        match self {
            Fate::Applied => "applied",
            Fate::Kept => "kept",
            Fate::Duplicate => "duplicate",
            Fate::Quarantined { .. } => "quarantined",
            Fate::Dead { .. } => "dead",
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Fate::Applied | Fate::Kept | Fate::Duplicate => None,
            Fate::Quarantined { reason } => Some(reason.clone()),
            Fate::Dead { reason, detail } => Some(format!("{reason}: {detail}")),
        }
    }

    fn words(&self) -> String {
        match self {
            Fate::Applied => "genuine, to be applied".to_owned(),
            Fate::Kept => "genuine, to be kept; it moves no money".to_owned(),
            Fate::Duplicate => "genuine, and in the ledger already: a duplicate".to_owned(),
            Fate::Quarantined { reason } => format!("genuine, to be quarantined: {reason}"),
            Fate::Dead { reason, detail } => format!("{reason}: {detail}"),
        }
    }
}
