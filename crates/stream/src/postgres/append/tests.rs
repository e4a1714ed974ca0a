use payment::{AppId, Kind, Provider, Source};

use super::*;

pub(super) fn envelope(key: &str) -> Envelope {
    Envelope {
        id: "1".to_owned(),
        topic: Topic::Notifications,
        kind: Kind::NotificationReceived,
        provider: Provider::Alipay,
        app_id: AppId::parse("2021000000000001").unwrap(),
        key: key.to_owned(),
        source: Source::Notification,
        sequence: None,
        received_at: chrono::DateTime::UNIX_EPOCH,
        reason: None,
        body: b"a=\0".to_vec(),
    }
}

#[test]
fn a_text_that_postgres_cannot_hold_is_refused_and_bytes_are_not() {
    assert_eq!(check_no_zero_byte(&envelope("k")), Ok(()));
    let refused = |field| Err(AppendError::ZeroByte { field });
    assert_eq!(check_no_zero_byte(&envelope("a\0b")), refused("key"));
    let reason = Some("\0".to_owned());
    assert_eq!(check_no_zero_byte(&Envelope { reason, ..envelope("k") }), refused("reason"));
}

#[test]
fn a_database_that_is_not_there_is_told_at_the_start() {
    let nowhere = "postgresql://nobody@%2Fnowhere/suanpan";
    let error = Appender::start(nowhere, AppendSettings::default()).unwrap_err();
    assert!(matches!(error, StreamError::Connect(_)), "{error}");
}
