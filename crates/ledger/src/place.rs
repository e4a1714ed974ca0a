use std::fmt;
use std::str::FromStr;

/// Where a record stands in the log. Written `topic/partition/offset`, with the topic's real name in that log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub log_topic: String,
    pub partition: i32,
    pub offset: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no place in the log: write it as it is listed, `topic/partition/offset`")]
pub struct PlaceError {
    text: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.log_topic, self.partition, self.offset)
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let read = || {
            let mut parts = text.rsplitn(3, '/');
            let offset = parts.next()?.parse().ok().filter(|offset| *offset >= 0)?;
            let partition = parts.next()?.parse().ok().filter(|partition| *partition >= 0)?;
            let log_topic = parts.next().filter(|topic| !topic.is_empty())?.to_owned();
            Some(Place { log_topic, partition, offset })
        };
        read().ok_or_else(|| PlaceError { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let place =
            Place { log_topic: "suanpan.notifications".to_owned(), partition: 3, offset: 12 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for text in ["", "t/1", "t/1/x", "t/-1/1", "t/1/-1", "/1/1", "t/1/99999999999999999999"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
