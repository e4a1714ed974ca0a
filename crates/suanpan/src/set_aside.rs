use std::process::ExitCode;

use ledger::quarantine::{self, SetAside};
use serde_json::{Value, json};

use crate::cli::{Common, SetAsideCommand};
use crate::setup::{self, Database, Schema};

/// Lists the quarantine. Bodies stay in the database: they hold buyers' data.
pub(crate) fn run(common: &Common, command: SetAsideCommand) -> anyhow::Result<ExitCode> {
    let settings = setup::settings(common)?;
    service::logs::start(settings.logs.format);
    let SetAsideCommand::List { limit } = command;
    let database = Database::open(&settings, Schema::Check)?;
    let mut conn = database.connect()?;
    let messages = quarantine::list(&mut conn, limit)?;
    drop(conn);
    database.close()?;
    if common.json {
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| {
                json!({
                    "app_id": message.app_id,
                    "place": place(message),
                    "received_at": message.received_at.to_rfc3339(),
                    "bytes": message.body.len(),
                    "reason": message.reason,
                })
            })
            .collect();
        println!("{}", Value::from(messages));
        return Ok(ExitCode::SUCCESS);
    }
    for message in &messages {
        println!(
            "{} {} app {} {} bytes: {}",
            payment::to_local(message.received_at),
            place(message),
            message.app_id,
            message.body.len(),
            message.reason
        );
    }
    println!("{} listed", messages.len());
    Ok(ExitCode::SUCCESS)
}

fn place(message: &SetAside) -> String {
    format!("{}/{}/{}", message.log_topic, message.log_partition, message.log_offset)
}
