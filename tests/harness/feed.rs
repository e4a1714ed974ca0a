//! Messages handed to the ledger directly, as if they had been read from one partition of the log.

use chrono::DateTime;
use ledger::position::Advance;
use ledger::{Applied, ApplyError, Batch, Connection, Content, Message};
use payment::{AppId, Fact, Source, Topic};

use super::alipay::APP_ID;

/// How far a partition has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Feed {
    pub(crate) next_offset: i64,
}

impl Feed {
    /// Applies them as the next messages of the partition. Where that fails, the next ones take their places.
    pub(crate) fn apply(
        &mut self,
        conn: &mut Connection,
        contents: Vec<Content>,
    ) -> Result<Applied, ApplyError> {
        let batch = self.batch(contents);
        let applied = ledger::apply(conn, &batch, DateTime::UNIX_EPOCH)?;
        self.next_offset = batch.steps[0].to;
        Ok(applied)
    }

    /// The batch that reads on from here.
    pub(crate) fn batch(self, contents: Vec<Content>) -> Batch {
        let messages: Vec<Message> = (self.next_offset..)
            .zip(contents)
            .map(|(offset, content)| message(offset, content))
            .collect();
        let to = messages.last().map_or(self.next_offset, |last| last.offset + 1);
        let (topic, partition, from) = (Topic::Notifications, 0, self.next_offset);
        Batch { messages, steps: vec![Advance { topic, partition, from, to }] }
    }
}

/// A genuine message that tells these facts of one trade.
pub(crate) fn genuine(notify_id: &str, facts: Vec<Fact>) -> Content {
    Content::Genuine {
        notify_id: notify_id.to_owned(),
        kind: "trade_status_sync".to_owned(),
        trade_no: facts.first().map(|fact| fact.trade_no.to_string()),
        out_trade_no: facts.first().map(|fact| fact.out_trade_no.to_string()),
        facts,
    }
}

fn message(offset: i64, content: Content) -> Message {
    Message {
        app_id: AppId::parse(APP_ID).unwrap(),
        topic: Topic::Notifications,
        partition: 0,
        offset,
        source: Source::Notification,
        received_at: DateTime::UNIX_EPOCH,
        content,
        body: format!("body {offset}").into_bytes(),
    }
}
