use std::sync::Arc;

use ledger::Message;
use ledger::position::{self, Advance};
use stream::{Assignment, Log, Partition, Reader, Sharing};

use crate::StepError;

/// The partitions that are ours, and how far each has been applied.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// The assignment's.
    pub(crate) generation: u64,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
struct Part {
    partition: Partition,
    /// The topic's name in this log.
    log_topic: Arc<str>,
    /// Under which we may write.
    epoch: i64,
    next: i64,
}

impl Held {
    /// Takes what was assigned: from now on nobody who had it before can write. `None` where the log says that it is
    /// not ours any more.
    pub(crate) fn take(
        assignment: Assignment,
        log: &Log,
        reader: &mut Reader,
        ledger: &mut ledger::Connection,
    ) -> Result<Option<Held>, StepError> {
        let Assignment { generation, partitions, sharing } = assignment;
        let names: Vec<Arc<str>> =
            partitions.iter().map(|partition| log.topic_name(partition.topic).into()).collect();
        let asked: Vec<(&str, i32)> = names
            .iter()
            .zip(&partitions)
            .map(|(name, partition)| (&**name, partition.number))
            .collect();
        let claimed = match sharing {
            Sharing::Shared => position::share(ledger, &asked).map_err(StepError::Positions)?,
            Sharing::Exclusive => {
                let known = position::read(ledger, &asked).map_err(StepError::Positions)?;
                let known: Vec<(Partition, i64)> = partitions.iter().copied().zip(known).collect();
                // A process that slept may believe what has long been given to another.
                if !known.is_empty() && !reader.confirm(&known)? {
                    return Ok(None);
                }
                position::claim(ledger, &asked).map_err(StepError::Positions)?
            }
        };
        let parts = partitions.into_iter().zip(names).zip(claimed);
        let part = |((partition, log_topic), claimed): ((_, _), position::Claimed)| Part {
            partition,
            log_topic,
            epoch: claimed.epoch,
            next: claimed.next_offset,
        };
        Ok(Some(Held { generation, parts: parts.map(part).collect() }))
    }

    /// The next offset of each partition.
    pub(crate) fn positions(&self) -> Vec<(Partition, i64)> {
        self.parts.iter().map(|part| (part.partition, part.next)).collect()
    }

    /// What [`positions`](Self::positions) will be once these messages are applied.
    pub(crate) fn positions_after(&self, messages: &[Message]) -> Vec<(Partition, i64)> {
        self.parts
            .iter()
            .map(|part| (part.partition, part.last_of(messages).map_or(part.next, |last| last + 1)))
            .collect()
    }

    /// The steps that these messages make.
    pub(crate) fn steps(&self, messages: &[Message]) -> Vec<Advance> {
        self.parts
            .iter()
            .filter_map(|part| {
                let last = part.last_of(messages)?;
                Some(Advance {
                    log_topic: Arc::clone(&part.log_topic),
                    partition: part.partition.number,
                    epoch: part.epoch,
                    from: part.next,
                    to: last + 1,
                })
            })
            .collect()
    }

    /// The steps were made.
    pub(crate) fn moved(&mut self, steps: &[Advance]) {
        for part in &mut self.parts {
            let step = steps.iter().find(|step| {
                step.log_topic == part.log_topic && step.partition == part.partition.number
            });
            part.next = step.map_or(part.next, |step| step.to);
        }
    }

    /// The name of the partition's topic in this log.
    pub(crate) fn log_topic(&self, partition: Partition) -> Arc<str> {
        let part = self.parts.iter().find(|part| part.partition == partition);
        part.map_or_else(|| partition.topic.as_str().into(), |part| Arc::clone(&part.log_topic))
    }
}

impl Part {
    /// The offset of the last of these messages that is of this partition.
    fn last_of(&self, messages: &[Message]) -> Option<i64> {
        let last = messages.iter().rfind(|message| {
            message.partition == self.partition.number && message.log_topic == self.log_topic
        })?;
        Some(last.offset)
    }
}
