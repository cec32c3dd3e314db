//! Pure. Points in time as the wire and the tables hold them: UTC, whole microseconds.

use std::fmt;

/// A point in time in UTC with microsecond resolution, the finest that Ceilometer keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcTime {
    micros: i64,
}

/// The first year that Python and SQL have; what is dated earlier has no text that reads back.
const YEAR_FIRST: i16 = 1;

/// A text that is no point in time.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an ISO 8601 time such as 2016-05-04T03:02:01.123456")]
pub struct ParseTimeError(String);

impl UtcTime {
    /// From microseconds since 1970-01-01T00:00:00 UTC.
    pub fn from_unix_micros(micros: i64) -> Self {
        UtcTime { micros }
    }

    /// Microseconds since 1970-01-01T00:00:00 UTC.
    pub fn unix_micros(self) -> i64 {
        self.micros
    }

    /// Milliseconds since 1970-01-01T00:00:00 UTC, rounded down; 0 before that.
    pub fn unix_millis(self) -> u64 {
        u64::try_from(self.micros.div_euclid(1000)).unwrap_or(0)
    }

    /// How long ago `earlier` was, in seconds; negative if it is still to come.
    pub fn seconds_since(self, earlier: UtcTime) -> f64 {
        #[allow(clippy::cast_precision_loss)] // a difference of centuries is beyond caring
        let micros = self.micros.saturating_sub(earlier.micros) as f64;
        micros / 1e6
    }

    /// Reads ISO 8601 with `T` or a blank between date and time, with or without a fraction; a
    /// zone is applied, and none means UTC.
    pub fn parse(text: &str) -> Result<Self, ParseTimeError> {
        let bad = || ParseTimeError(text.chars().take(64).collect());
        let timestamp = match text.parse::<jiff::Timestamp>() {
            Ok(timestamp) => timestamp,
            Err(_) => text
                .parse::<jiff::civil::DateTime>()
                .and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC))
                .map_err(|_| bad())?
                .timestamp(),
        };
        let time = UtcTime {
            micros: timestamp.as_microsecond(),
        };
        let year = time.civil().map_or(0, jiff::civil::DateTime::year);
        if year < YEAR_FIRST {
            return Err(bad());
        }
        Ok(time)
    }

    fn civil(self) -> Option<jiff::civil::DateTime> {
        let timestamp = jiff::Timestamp::from_microsecond(self.micros).ok()?;
        Some(timestamp.to_zoned(jiff::tz::TimeZone::UTC).datetime())
    }

    /// `2016-05-04 03:02:01.123456`, the way SQLAlchemy writes a DATETIME into SQLite.
    pub fn to_sql_text(self) -> String {
        self.text(' ')
    }

    fn text(self, between: char) -> String {
        match self.civil() {
            Some(at) => format!(
                "{:04}-{:02}-{:02}{between}{:02}:{:02}:{:02}.{:06}",
                at.year(),
                at.month(),
                at.day(),
                at.hour(),
                at.minute(),
                at.second(),
                at.subsec_nanosecond() / 1000,
            ),
            // Beyond the year 9999: no calendar has it, so say the number.
            None => format!("{}us", self.micros),
        }
    }
}

impl fmt::Display for UtcTime {
    /// `2016-05-04T03:02:01.123456`: always six digits, never a zone, as Ceilometer's samples.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text('T'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_senders_write() {
        let expected = UtcTime::from_unix_micros(1_462_330_921_123_456);
        for text in [
            "2016-05-04T03:02:01.123456",
            "2016-05-04 03:02:01.123456",
            "2016-05-04T03:02:01.123456Z",
            "2016-05-04T03:02:01.123456+00:00",
            "2016-05-04T05:02:01.123456+02:00",
        ] {
            assert_eq!(UtcTime::parse(text).unwrap(), expected, "{text}");
        }
        assert_eq!(expected.to_string(), "2016-05-04T03:02:01.123456");
        assert_eq!(expected.to_sql_text(), "2016-05-04 03:02:01.123456");
        assert_eq!(
            UtcTime::parse("2016-05-04T03:02:01").unwrap().to_string(),
            "2016-05-04T03:02:01.000000"
        );
        assert!(UtcTime::parse("yesterday").is_err());
    }

    #[test]
    fn what_is_dated_before_the_first_year_or_after_the_last_is_no_time() {
        for (text, is_time) in [
            ("0001-01-01T00:00:00", true),
            ("0000-12-31T23:59:59", false),
            ("0001-01-01T00:00:00+01:00", false),
            ("-000001-01-01T00:00:00", false),
            ("9999-12-30T21:59:59.999999", true),
            ("10000-01-01T00:00:00", false),
        ] {
            assert_eq!(UtcTime::parse(text).is_ok(), is_time, "{text}");
        }
    }

    #[test]
    fn the_ends_of_time_print() {
        for micros in [i64::MIN, i64::MAX, 0, -1] {
            assert!(!UtcTime::from_unix_micros(micros).to_string().is_empty());
        }
    }
}
