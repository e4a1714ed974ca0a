//! Notifications as a busy merchant gets them, already judged.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use ledger::{Content, Message};
use payment::{AppId, Fact, Fen, OutTradeNo, Reported, RequestNo, Source, Told, TradeNo};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

pub(crate) const LOG_TOPIC: &str = "suanpan.notifications";
pub(crate) const PARTITIONS: i32 = 4;
const BODY_BYTES: usize = 1_000;

/// Of twenty notifications ten tell new payments, three open a trade, three pay such a one, two refund an earlier
/// payment, and two were told before.
pub(crate) struct Messages {
    dice: ChaCha8Rng,
    log_topic: Arc<str>,
    app_id: AppId,
    made: u64,
    next_offset: [i64; 4],
    now: DateTime<Utc>,
    /// Trades opened and not paid yet.
    open: Vec<u64>,
    /// Trades paid and not refunded yet.
    paid: Vec<u64>,
    /// Something to repeat.
    earlier: Vec<Content>,
}

impl Messages {
    pub(crate) fn new() -> Messages {
        Messages {
            dice: ChaCha8Rng::seed_from_u64(20_240_305),
            log_topic: LOG_TOPIC.into(),
            app_id: AppId::try_from("2021000000000001".to_owned()).unwrap_or_else(unreachable),
            made: 0,
            next_offset: [0; 4],
            now: DateTime::UNIX_EPOCH + TimeDelta::days(19_787),
            open: Vec::new(),
            paid: Vec::new(),
            earlier: Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.now
    }

    fn content(&mut self) -> Content {
        let made = self.made;
        let total = Fen::new(self.dice.random_range(100..100_000));
        let at = self.now - TimeDelta::milliseconds(700);
        let paid = Told::Paid { total, receipt: Some(total), at };
        let earlier = |of: &mut Vec<u64>, dice: &mut ChaCha8Rng| {
            (!of.is_empty()).then(|| of.swap_remove(dice.random_range(0..of.len())))
        };
        let (trade, told) = match made % 20 {
            1 | 8 => {
                if !self.earlier.is_empty() {
                    let place = self.dice.random_range(0..self.earlier.len());
                    return self.earlier.swap_remove(place);
                }
                (made, paid)
            }
            3 | 10 | 15 => {
                self.open.push(made);
                (made, Told::Created { total, at })
            }
            5 | 12 | 17 => (earlier(&mut self.open, &mut self.dice).unwrap_or(made), paid),
            7 | 14 => match earlier(&mut self.paid, &mut self.dice) {
                Some(trade) => (trade, self.refunded(trade, at)),
                None => (made, paid),
            },
            _ => {
                self.paid.push(made);
                (made, paid)
            }
        };
        let content = self.genuine(trade, told);
        if made.is_multiple_of(7) {
            self.earlier.push(content.clone());
        }
        content
    }

    fn refunded(&mut self, trade: u64, at: DateTime<Utc>) -> Told {
        let amount = Fen::new(self.dice.random_range(1..100));
        let request_no = format!("R{trade:014}");
        Told::Refunded {
            request_no: RequestNo::try_from(request_no).unwrap_or_else(unreachable),
            reported: Reported::Cumulative(amount),
            receipt: None,
            at,
        }
    }

    fn genuine(&mut self, trade: u64, told: Told) -> Content {
        let trade_no = format!("2024030522001400{trade:012}");
        let out_trade_no = format!("ORDER20240305{trade:011}");
        // As Alipay's: the day first, then nothing to go by.
        let random = self.dice.random::<u64>() % 10_000_000_000_000_000;
        let fact = Fact {
            app_id: self.app_id.clone(),
            trade_no: TradeNo::try_from(trade_no.clone()).unwrap_or_else(unreachable),
            out_trade_no: OutTradeNo::try_from(out_trade_no.clone()).unwrap_or_else(unreachable),
            told,
        };
        Content::Genuine {
            notify_id: format!("2024030500222{:06}{random:016}", self.made / 1_000),
            kind: "trade_status_sync".to_owned(),
            trade_no: Some(trade_no),
            out_trade_no: Some(out_trade_no),
            facts: vec![fact],
        }
    }
}

impl Iterator for Messages {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.now += TimeDelta::microseconds(50);
        let content = self.content();
        self.made += 1;
        let partition = self.dice.random_range(0..PARTITIONS);
        let offset = self.next_offset.get_mut(usize::try_from(partition).ok()?)?;
        *offset += 1;
        let offset = *offset - 1;
        // What a signature and its escapes look like to a compressor.
        let body = (0..BODY_BYTES).map(|_| self.dice.random_range(b'!'..=b'~')).collect();
        Some(Message {
            app_id: self.app_id.clone(),
            log_topic: Arc::clone(&self.log_topic),
            partition,
            offset,
            source: Source::Notification,
            received_at: self.now,
            content,
            body,
        })
    }
}

fn unreachable<T>(error: payment::IdError) -> T {
    unreachable!("the bench's own id {error}")
}
