use std::time::Duration;

/// What one round has measured, and what it found wrong.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) figures: Vec<(Measure, u64)>,
    /// Sentences: what was not accepted, not applied, or applied twice.
    pub(super) wrong: Vec<String>,
}

/// A kind of figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measure {
    /// Its name in the JSON document, with the unit.
    pub(super) key: &'static str,
    /// Its name in the table.
    pub(super) label: &'static str,
    pub(super) unit: Unit,
    pub(super) budget: Budget,
}

/// What a figure counts, and how the table shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    PerSecond,
    /// Microseconds.
    Us,
    /// Milliseconds.
    Ms,
    /// Nanoseconds, shown as microseconds with a decimal.
    Ns,
    Percent,
    /// Hundredths, shown as a multiple: 250 is `2.50 x`.
    Hundredths,
}

/// What the design promises of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Budget {
    None,
    AtMost(u64),
    AtLeast(u64),
}

impl Round {
    pub(super) fn add(&mut self, measure: Measure, value: u64) {
        self.figures.push((measure, value));
    }

    /// Nothing where the system does not tell.
    pub(super) fn add_known(&mut self, measure: Measure, value: Option<u64>) {
        if let Some(value) = value {
            self.add(measure, value);
        }
    }
}

impl Measure {
    pub(super) const fn new(key: &'static str, label: &'static str, unit: Unit) -> Self {
        Measure { key, label, unit, budget: Budget::None }
    }

    pub(super) const fn at_most(self, limit: u64) -> Self {
        Measure { budget: Budget::AtMost(limit), ..self }
    }

    pub(super) const fn at_least(self, limit: u64) -> Self {
        Measure { budget: Budget::AtLeast(limit), ..self }
    }
}

impl Unit {
    /// The value as the table shows it.
    pub(super) fn show(self, value: u64) -> String {
        match self {
            Unit::PerSecond => format!("{}/s", grouped(value)),
            Unit::Us => format!("{} µs", grouped(value)),
            Unit::Ms => format!("{} ms", grouped(value)),
            Unit::Ns => format!("{}.{} µs", grouped(value / 1000), value % 1000 / 100),
            Unit::Percent => format!("{value} %"),
            Unit::Hundredths => format!("{}.{:02} x", value / 100, value % 100),
        }
    }
}

/// How many of these there are in a second.
pub(super) fn per_second(count: u64, time: Duration) -> u64 {
    let count = u128::from(count) * 1_000_000_000;
    narrow(count / time.as_nanos().max(1))
}

/// One's share of a time, in nanoseconds.
pub(super) fn ns_each(time: Duration, count: u64) -> u64 {
    narrow(time.as_nanos() / u128::from(count.max(1)))
}

/// `part` as hundredths of `whole`.
pub(super) fn hundredths(part: u64, whole: u64) -> u64 {
    narrow(u128::from(part) * 100 / u128::from(whole.max(1)))
}

/// Of sorted values: the least one that `percent` percent of them do not exceed; 0 of none.
pub(super) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

pub(super) fn narrow(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let sorted: Vec<u64> = (1..=200).collect();
        assert_eq!(percentile(&sorted, 50), 100);
        assert_eq!(percentile(&sorted, 99), 198);
        assert_eq!(percentile(&sorted, 100), 200);
        assert_eq!(percentile(&[7], 1), 7);
        assert_eq!(percentile(&[], 50), 0);
    }

    #[test]
    fn figures_are_shown_in_their_unit() {
        assert_eq!(Unit::PerSecond.show(1_234_567), "1 234 567/s");
        assert_eq!(Unit::Ns.show(31_249), "31.2 µs");
        assert_eq!(Unit::Hundredths.show(205), "2.05 x");
        assert_eq!(Unit::Us.show(999), "999 µs");
    }

    #[test]
    fn rates_and_shares_are_whole_numbers() {
        assert_eq!(per_second(500, Duration::from_millis(250)), 2_000);
        assert_eq!(ns_each(Duration::from_secs(1), 32_000), 31_250);
        assert_eq!(hundredths(78_125, 31_250), 250);
    }
}
