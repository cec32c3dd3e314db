//! Pure. When a reading says something about now, and when it is only history.

use crate::model::{UtcTime, Value};

/// How many intervals a reading may be late. One may get lost on the network and the next may be
/// late behind a batch; after three in a row it is no accident.
pub(super) const INTERVALS_UNTIL_STALE: f64 = 3.0;

/// The least time for which a reading is believed, in seconds. With intervals below a second, three
/// of them are shorter than what the collector's batch and a busy database may take, and a live
/// host would flicker.
pub(super) const STALE_SECONDS_MIN: f64 = 3.0;

/// The interval of an agent that declares none, in seconds: that of the original deployment, whose
/// pipeline has no heartbeat. A shorter guess would call its healthy hosts unknown between two
/// readings; the price is that a dead one is shown with its last reading, and that reading's age,
/// for 90 s.
pub(super) const UNDECLARED_INTERVAL_SECONDS: f64 = 30.0;

/// The longest interval that is believed, in seconds: a day. Whoever declares more would never be
/// called silent; what it declares is taken as not declared.
pub(super) const INTERVAL_SECONDS_MAX: f64 = 86_400.0;

/// How far in the future a reading may have been received, in seconds, before the database's clock
/// is to blame: servers of one database cluster differ by less.
pub(super) const FUTURE_SECONDS_MAX: f64 = 3.0;

/// For how long one host's readings are believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Freshness {
    now: UtcTime,
    stale_after_seconds: f64,
}

/// What a reading's age means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// Believed.
    Fresh,
    /// Too old.
    Stale,
    /// Received in the future: the database's clock went back, and nobody knows how old it is.
    Future,
}

impl Freshness {
    /// For a host that declares this interval.
    pub(super) fn new(now: UtcTime, interval_seconds: Option<f64>) -> Self {
        let interval = interval_seconds.unwrap_or(UNDECLARED_INTERVAL_SECONDS);
        Freshness {
            now,
            stale_after_seconds: (INTERVALS_UNTIL_STALE * interval).max(STALE_SECONDS_MIN),
        }
    }

    /// The age of what was received then, in seconds.
    pub(super) fn age_seconds(&self, received_at: UtcTime) -> f64 {
        self.now.seconds_since(received_at)
    }

    /// What that age means.
    pub(super) fn judge(&self, received_at: UtcTime) -> Age {
        let age_seconds = self.age_seconds(received_at);
        if age_seconds < -FUTURE_SECONDS_MAX {
            Age::Future
        } else if age_seconds > self.stale_after_seconds {
            Age::Stale
        } else {
            Age::Fresh
        }
    }
}

/// The seconds that an agent declares, as a number or as text, if they can be an interval.
pub(super) fn declared_interval(value: &Value) -> Option<f64> {
    let seconds = match value {
        Value::Text(text) => text.trim().parse().ok()?,
        Value::Int(_) | Value::Float(_) => value.as_f64()?,
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => return None,
    };
    (seconds > 0.0 && seconds <= INTERVAL_SECONDS_MAX).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(interval_seconds: Option<f64>, age_micros: i64) -> Age {
        let now = UtcTime::from_unix_micros(1_000_000_000_000);
        let received_at = UtcTime::from_unix_micros(1_000_000_000_000 - age_micros);
        Freshness::new(now, interval_seconds).judge(received_at)
    }

    #[test]
    fn three_intervals_but_never_less_than_three_seconds() {
        for (interval, age_micros, expected) in [
            (Some(0.2), 3_000_000, Age::Fresh),
            (Some(0.2), 3_000_001, Age::Stale),
            (Some(4.0), 12_000_000, Age::Fresh),
            (Some(4.0), 12_000_001, Age::Stale),
            (None, 90_000_000, Age::Fresh),
            (None, 90_000_001, Age::Stale),
            (Some(1.0), -3_000_000, Age::Fresh),
            (Some(1.0), -3_000_001, Age::Future),
        ] {
            assert_eq!(
                judged(interval, age_micros),
                expected,
                "{interval:?} {age_micros}"
            );
        }
    }

    #[test]
    fn only_what_can_be_an_interval_is_declared() {
        for (value, expected) in [
            (Value::from("1"), Some(1.0)),
            (Value::from(" 0.5 "), Some(0.5)),
            (Value::from(30_u64), Some(30.0)),
            (Value::from(2.5), Some(2.5)),
            (Value::from("86400"), Some(86_400.0)),
            (Value::from("86401"), None),
            (Value::from("0"), None),
            (Value::from("-1"), None),
            (Value::from("inf"), None),
            (Value::from("NaN"), None),
            (Value::from("soon"), None),
            (Value::from(f64::NAN), None),
            (Value::Bool(true), None),
            (Value::Null, None),
        ] {
            assert_eq!(declared_interval(&value), expected, "{value:?}");
        }
    }
}
