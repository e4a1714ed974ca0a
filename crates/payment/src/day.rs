use std::fmt;

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Asia::Shanghai;
use serde::{Deserialize, Serialize};

/// One calendar day in Asia/Shanghai: what a daily bill covers, 00:00 inclusive to 00:00 exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BillDay(NaiveDate);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DayError {
    #[error("`{0}` is not a day; it looks like `2024-03-05`")]
    NotADay(String),
    #[error("is not a time in Beijing; it looks like `2024-03-05 09:00:12`")]
    NotATime,
}

impl BillDay {
    pub fn new(date: NaiveDate) -> Self {
        BillDay(date)
    }

    pub fn parse(text: &str) -> Result<Self, DayError> {
        let well_formed = text.len() == 10;
        NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .ok()
            .filter(|_| well_formed)
            .map(BillDay)
            .ok_or_else(|| DayError::NotADay(text.to_owned()))
    }

    /// The day a moment falls on in Shanghai.
    pub fn of(at: DateTime<Utc>) -> Self {
        BillDay(at.with_timezone(&Shanghai).date_naive())
    }

    pub fn date(self) -> NaiveDate {
        self.0
    }

    pub fn start(self) -> DateTime<Utc> {
        local(self.0.and_time(chrono::NaiveTime::MIN))
    }

    /// The first moment that is no longer this day.
    pub fn end(self) -> DateTime<Utc> {
        self.next().start()
    }

    pub fn next(self) -> Self {
        BillDay(self.0.checked_add_days(Days::new(1)).unwrap_or(self.0))
    }

    pub fn previous(self) -> Self {
        BillDay(self.0.checked_sub_days(Days::new(1)).unwrap_or(self.0))
    }
}

impl fmt::Display for BillDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m-%d"))
    }
}

/// Reads a time as Alipay writes it, `yyyy-MM-dd HH:mm:ss` with or without `.SSS`, always UTC+8
/// (`gmt_` in a field's name does not mean GMT).
pub fn parse_local(text: &str) -> Result<DateTime<Utc>, DayError> {
    if let Some(at) = parse_usual(text) {
        return Ok(at);
    }
    // chrono would accept blanks and missing zeros; Alipay's form is fixed.
    let shape = b"dddd-dd-dd dd:dd:dd";
    let head_fits = text.len() >= shape.len()
        && text.bytes().zip(shape).all(|(byte, shape)| match shape {
            b'd' => byte.is_ascii_digit(),
            other => byte == *other,
        });
    if !head_fits {
        return Err(DayError::NotATime);
    }
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
        .map(local)
        .map_err(|_| DayError::NotATime)
}

/// What nearly all of them are: a second of a day since Shanghai has kept UTC+8 all year. `None` for all else.
fn parse_usual(text: &str) -> Option<DateTime<Utc>> {
    const SINCE: u32 = 1992;
    let bytes: &[u8; 19] = text.as_bytes().try_into().ok()?;
    let [y1, y2, y3, y4, b'-', mo1, mo2, b'-', d1, d2, b' ', h1, h2, b':', mi1, mi2, b':', s1, s2] =
        bytes
    else {
        return None;
    };
    let number = |digits: &[&u8]| {
        digits.iter().try_fold(0_u32, |number, digit| {
            digit.is_ascii_digit().then(|| number * 10 + u32::from(**digit - b'0'))
        })
    };
    let year = number(&[y1, y2, y3, y4]).filter(|year| *year >= SINCE)?;
    let date = NaiveDate::from_ymd_opt(
        i32::try_from(year).ok()?,
        number(&[mo1, mo2])?,
        number(&[d1, d2])?,
    )?;
    let at = date.and_hms_opt(number(&[h1, h2])?, number(&[mi1, mi2])?, number(&[s1, s2])?)?;
    Some((at - chrono::Duration::hours(8)).and_utc())
}

/// The same moment as Alipay would write it: `2024-03-05 09:00:12`.
pub fn to_local(at: DateTime<Utc>) -> String {
    at.with_timezone(&Shanghai).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// Shanghai kept summer time until 1991: a local time may name two moments (the first is taken) or,
/// for one hour a year, none (then it is read as UTC+8).
fn local(at: NaiveDateTime) -> DateTime<Utc> {
    match Shanghai.from_local_datetime(&at).earliest() {
        Some(at) => at.with_timezone(&Utc),
        None => (at - chrono::Duration::hours(8)).and_utc(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_and_ends_at_midnight_in_shanghai() {
        let day = BillDay::parse("2024-03-05").unwrap();
        assert_eq!(day.start().to_rfc3339(), "2024-03-04T16:00:00+00:00");
        assert_eq!(BillDay::of(day.end() - chrono::Duration::milliseconds(1)), day);
        assert_eq!(BillDay::of(day.end()), day.next());
        for text in ["2024-3-5", "2024-02-30", "20240305", "2024-03-05 ", ""] {
            assert!(BillDay::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_usual_way_reads_what_the_general_one_reads() {
        for year in [1986, 1991, 1992, 2024] {
            for (month, day) in [(1, 1), (2, 29), (6, 30), (9, 15), (12, 31), (13, 1)] {
                for time in ["00:00:00", "07:59:59", "23:59:59", "24:00:00", "12:60:00"] {
                    let text = format!("{year:04}-{month:02}-{day:02} {time}");
                    let general = parse_local(&format!("{text}.0"));
                    assert_eq!(parse_local(&text), general, "{text}");
                }
            }
        }
    }

    #[test]
    fn times_are_beijing_times_with_or_without_milliseconds() {
        let at = parse_local("2021-07-14 09:51:36.631").unwrap();
        assert_eq!(at.to_rfc3339(), "2021-07-14T01:51:36.631+00:00");
        assert_eq!(to_local(at), "2021-07-14 09:51:36");
        for text in
            ["2021-07-14", "2021-07-14T09:51:36", "2021-7-14 09:51:36", "2021-07-14 25:00:00", ""]
        {
            assert_eq!(parse_local(text), Err(DayError::NotATime), "{text}");
        }
    }
}
