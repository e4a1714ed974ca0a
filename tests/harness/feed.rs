//! Messages handed to the ledger directly, as if they had been read from one partition of the log.

use chrono::DateTime;
use ledger::position::Advance;
use ledger::{Applied, ApplyError, Batch, Connection, Content, Message};
use payment::{AppId, Fact, Source};

use super::alipay::APP_ID;

/// The topic, by the name that the log gives it. Its partition 0 is fed.
pub(crate) const LOG_TOPIC: &str = "notifications";

/// How far a partition has been read, by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Feed {
    pub(crate) epoch: i64,
    pub(crate) next_offset: i64,
}

impl Feed {
    /// Takes the partition over, and reads on from where the ledger is.
    pub(crate) fn claim(conn: &mut Connection) -> Feed {
        let claimed = ledger::position::claim(conn, &[(LOG_TOPIC, 0)]).unwrap()[0];
        Feed { epoch: claimed.epoch, next_offset: claimed.next_offset }
    }

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
        let step = Advance {
            log_topic: LOG_TOPIC.into(),
            partition: 0,
            epoch: self.epoch,
            from: self.next_offset,
            to,
        };
        Batch { messages, steps: vec![step] }
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
        log_topic: LOG_TOPIC.into(),
        partition: 0,
        offset,
        source: Source::Notification,
        received_at: DateTime::UNIX_EPOCH,
        content,
        body: format!("body {offset}").into_bytes(),
    }
}
