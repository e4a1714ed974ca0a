//! A broker that is dead, silent or behind a cut line; more than fits; and the front door over all of it.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use payment::Envelope;
use stream::{AppendError, AppendSettings, Reader};

use super::raw;
use crate::harness::alipay::APP_ID;
use crate::harness::form::Form;
use crate::harness::home::Home;
use crate::harness::{Broker, Log, http, log, sql, wait};

/// Appends to one key, and what became of it.
struct Writer {
    log: Log,
    kafka: stream::KafkaSettings,
    next: u32,
    acknowledged: Vec<String>,
}

impl Writer {
    fn new(broker: &Broker, settings: AppendSettings) -> Writer {
        let kafka = log::kafka(broker);
        let log = stream::Log::Kafka(kafka.clone());
        stream::set_up(&log).unwrap();
        Writer { log: Log::over(&log, settings), kafka, next: 0, acknowledged: Vec::new() }
    }

    fn fresh(&mut self) -> (String, Envelope) {
        self.next += 1;
        let body = self.next.to_string();
        (body.clone(), log::envelope("O-1", body.into_bytes()))
    }

    fn append(&mut self) -> Result<(), AppendError> {
        let (body, envelope) = self.fresh();
        self.log.append(envelope)?;
        self.acknowledged.push(body);
        Ok(())
    }

    /// Told without any waiting: the very first look at it gives the answer.
    #[track_caller]
    fn assert_unavailable_at_once(&mut self) {
        for _ in 0..100 {
            let (_, envelope) = self.fresh();
            let mut append = pin!(self.log.appender.append(envelope));
            let answer = append.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(answer, Poll::Ready(Err(AppendError::Unavailable)));
        }
    }

    /// Everything acknowledged is there in its order; nothing was acknowledged that is not.
    fn assert_kept(&self, broker: &Broker) {
        let there = raw(broker, &self.kafka.topics.notifications).into_iter();
        let there: Vec<String> =
            there.map(|record| String::from_utf8(record.value).unwrap()).collect();
        // What nobody was answered may have arrived all the same, each at most once.
        let mut numbers: Vec<u32> = there.iter().map(|body| body.parse().unwrap()).collect();
        let kept: Vec<&String> =
            there.iter().filter(|body| self.acknowledged.contains(body)).collect();
        assert_eq!(kept, self.acknowledged.iter().collect::<Vec<_>>());
        assert!(numbers.is_sorted(), "{numbers:?}");
        numbers.dedup();
        assert_eq!(numbers.len(), there.len(), "{there:?}");
    }
}

fn short() -> AppendSettings {
    AppendSettings { deadline: Duration::from_secs(2), ..AppendSettings::default() }
}

#[test]
fn a_dead_broker_is_noticed_by_itself_and_appends_go_on_when_it_is_back() {
    let broker = Broker::own();
    let mut writer = Writer::new(&broker, short());
    for _ in 0..2 {
        for _ in 0..5 {
            writer.append().unwrap();
        }
        broker.kill();
        // Nobody sends anything meanwhile.
        wait::until("the appender misses the broker", || !writer.log.appender.is_connected());
        writer.assert_unavailable_at_once();
        broker.restart();
        wait::until("the appender sees the broker", || writer.log.appender.is_connected());
        wait::until("the appender takes an envelope", || writer.append().is_ok());
        writer.append().unwrap();
    }
    writer.assert_kept(&broker);
}

#[test]
fn a_silent_broker_costs_one_deadline_and_then_nobody_waits() {
    let (broker, proxy) = Broker::behind_proxy();
    let mut writer = Writer::new(&broker, short());
    for _ in 0..2 {
        for _ in 0..5 {
            writer.append().unwrap();
        }
        proxy.freeze();
        assert!(writer.log.appender.is_connected(), "who is silent is not known to be away");
        // The line stays as it is until all of them are answered.
        let envelopes: Vec<Envelope> = (0..10).map(|_| writer.fresh().1).collect();
        let answers = writer.log.all(envelopes.into_iter().map(|envelope| {
            let appender = writer.log.appender.clone();
            async move { appender.append(envelope).await }
        }));
        assert!(answers.iter().all(|answer| *answer == Err(AppendError::Unavailable)));
        assert!(!writer.log.appender.is_connected());
        writer.assert_unavailable_at_once();
        proxy.restore();
        wait::until("the appender hears the broker", || writer.log.appender.is_connected());
        wait::until("the appender takes an envelope", || writer.append().is_ok());
        writer.append().unwrap();
    }
    writer.assert_kept(&broker);
}

#[test]
fn a_cut_line_is_unavailable_and_whole_again_without_anybody_asking() {
    let (broker, proxy) = Broker::behind_proxy();
    let mut writer = Writer::new(&broker, short());
    for _ in 0..2 {
        writer.append().unwrap();
        proxy.cut();
        wait::until("the appender misses the broker", || !writer.log.appender.is_connected());
        writer.assert_unavailable_at_once();
        proxy.restore();
        wait::until("the appender sees the broker", || writer.log.appender.is_connected());
        wait::until("the appender takes an envelope", || writer.append().is_ok());
    }
    writer.assert_kept(&broker);
}

#[test]
fn a_broker_that_was_dead_before_a_sender_came_is_no_reason_to_hang() {
    let broker = Broker::own();
    let writer = Writer::new(&broker, short());
    let kafka = stream::Log::Kafka(writer.kafka.clone());
    broker.kill();
    for _ in 0..2 {
        let error = stream::Appender::start(&kafka, short()).unwrap_err();
        let words = format!("none of the brokers `{}` answers", broker.address());
        assert_eq!(error.to_string(), words);
        assert_eq!(stream::check(&kafka).unwrap_err().to_string(), words);
        assert_eq!(stream::set_up(&kafka).unwrap_err().to_string(), words);
    }
    // What joined before ends also when nobody can be told.
    Reader::open(&kafka).unwrap().close(&[]);
    writer.log.appender.clone().close();
}

#[test]
fn a_full_queue_is_told_at_once_by_number_and_by_bytes() {
    let (broker, proxy) = Broker::behind_proxy();
    let patient = AppendSettings { deadline: Duration::from_secs(50), ..AppendSettings::default() };
    for (settings, body) in [
        (AppendSettings { queue: 1, ..patient }, b"a".to_vec()),
        (AppendSettings { queue_bytes: 4_096, ..patient }, vec![b'a'; 3_000]),
    ] {
        let writer = Writer::new(&broker, settings);
        let mut context = Context::from_waker(Waker::noop());
        for round in 0..2 {
            proxy.freeze();
            let mut queued = None;
            // What was acknowledged a moment ago may not have left the queue yet.
            wait::until("the queue takes one", || {
                let append = writer.log.appender.append(log::envelope("O-1", body.clone()));
                let mut append = Box::pin(append);
                match append.as_mut().poll(&mut context) {
                    Poll::Pending => queued = Some(append),
                    Poll::Ready(answer) => assert_eq!(answer, Err(AppendError::Full)),
                }
                queued.is_some()
            });
            for _ in 0..2 {
                let refused = log::envelope("O-1", body.clone());
                let mut refused = pin!(writer.log.appender.append(refused));
                assert_eq!(
                    refused.as_mut().poll(&mut context),
                    Poll::Ready(Err(AppendError::Full))
                );
            }
            proxy.restore();
            assert_eq!(writer.log.block_on(queued.unwrap()).unwrap().1, round);
            assert!(writer.log.appender.is_connected());
        }
    }
}

#[test]
fn what_is_too_large_fails_alone() {
    let broker = Broker::shared();
    let writer = Writer::new(&broker, AppendSettings::default());
    // More than the topic takes, and more than librdkafka does.
    for bytes in [2 << 20, 18 << 20] {
        for _ in 0..2 {
            let sizes = [10, bytes, 20, 30, bytes, 40];
            let answers = writer.log.all(sizes.map(|size| {
                let appender = writer.log.appender.clone();
                async move { appender.append(log::envelope("O-1", vec![b'a'; size])).await }
            }));
            for (size, answer) in sizes.into_iter().zip(answers) {
                if size == bytes {
                    assert_eq!(answer, Err(AppendError::TooLarge { bytes }));
                } else {
                    assert!(answer.is_ok(), "{size} bytes: {answer:?}");
                }
            }
            assert!(writer.log.appender.is_connected());
        }
    }
    let there = raw(&broker, &writer.kafka.topics.notifications).into_iter();
    let sizes: Vec<usize> = there.map(|record| record.value.len()).collect();
    assert_eq!(sizes, [10, 20, 30, 40].repeat(4));
}

#[test]
fn after_its_end_an_appender_takes_nothing_and_what_waited_is_there() {
    let broker = Broker::shared();
    for _ in 0..2 {
        let writer = Writer::new(&broker, AppendSettings::default());
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting = pin!(writer.log.appender.append(log::envelope("O-1", b"a".to_vec())));
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        writer.log.appender.clone().close();
        assert_eq!(writer.log.block_on(waiting).unwrap().1, 0);
        let late = writer.log.append(log::envelope("O-1", b"b".to_vec()));
        assert_eq!(late, Err(AppendError::Unavailable));
        assert_eq!(raw(&broker, &writer.kafka.topics.notifications).len(), 1);
    }
}

/// A house over this broker, with little patience.
fn home(broker: &Broker) -> (Home, stream::Log) {
    let kafka = log::kafka(broker);
    let home = Home::new().over(&kafka).variable("SUANPAN__INGRESS__APPEND_TIMEOUT_MS", "1500");
    (home, stream::Log::Kafka(kafka))
}

#[test]
fn the_door_answers_503_while_its_broker_is_away_and_goes_on_by_itself() {
    let (broker, proxy) = Broker::behind_proxy();
    let (home, kafka) = home(&broker);
    let up = home.up();
    let url = up.notify_url(APP_ID);
    home.tell(&up, &Form::paid("BEFORE"));
    wait::until("every room is ready", || up.ask("/readyz").0 == 200);
    let mut refused = 0;
    for round in 0..2 {
        for name in ["silent", "cut"] {
            let body = home.sign(&Form::paid(&format!("{name}{round}")));
            if name == "silent" {
                proxy.freeze()
            } else {
                proxy.cut()
            }
            for _ in 0..3 {
                assert_eq!(http::post(&url, &body), (503, b"fail".to_vec()), "{name}");
                refused += 1;
            }
            assert_eq!(
                http::post(&url, b"a=1").0,
                400,
                "a forgery is told from bad luck all the same"
            );
            wait::until("it says that it is not ready", || {
                let (status, report) = up.ask("/readyz");
                status == 503 && report.contains("\"log\":{\"state\":\"failed\"")
            });
            assert_eq!(up.ask("/healthz").0, 200, "alive all the same");
            proxy.restore();
            wait::until("every room is ready again", || up.ask("/readyz").0 == 200);
            wait::until("what Alipay repeats is taken", || http::post(&url, &body).0 == 200);
        }
    }
    let unavailable = "suanpan_ingress_notifications_total";
    let unavailable = format!("{unavailable}{{app=\"{APP_ID}\",outcome=\"unavailable\"}}");
    let unavailable: i32 = up.metric(&unavailable).unwrap().parse().unwrap();
    assert!(unavailable >= refused, "{unavailable} of at least {refused}");

    log::wait_until_applied(&kafka, &home.database.as_ref().unwrap().url);
    let mut conn = home.connect();
    let applied = "SELECT notify_id AS text FROM inbox WHERE outcome = 'applied' ORDER BY 1";
    assert_eq!(
        sql::texts(&mut conn, applied),
        ["BEFORE-paid", "cut0-paid", "cut1-paid", "silent0-paid", "silent1-paid"]
    );
    assert_eq!(sql::count(&mut conn, "trade"), 5);
}
