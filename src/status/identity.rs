//! Pure. Who an observer is, and by which clock: whether two agents use one name, and how far a clock
//! is off. Two agents of one name are a conflict: nobody can tell whose reading is whose, so nothing
//! that the name says is believed.

use super::text::age;
use super::view::ConflictView;
use crate::model::{ObserverRow, UtcTime};

/// How long the last sign of a second agent counts, in seconds: two rounds of an agent whose interval
/// is 30 s, as in the original deployment, and no host stays unknown for long once it is mended.
const CONFLICT_SECONDS: f64 = 60.0;

/// How far a clock, or what its readings take to be stored, may be off before it is shown, in seconds.
/// A batch and a busy database take less.
const CLOCK_OFF_SECONDS: f64 = 1.0;

/// The conflict that an observer is in at `now`, if it is in one.
pub(super) fn conflict_view(now: UtcTime, row: &ObserverRow) -> Option<ConflictView> {
    let rival = row.rival?;
    let age_seconds = now.seconds_since(rival.at);
    (age_seconds < CONFLICT_SECONDS).then_some(ConflictView {
        epoch: row.epoch,
        rival_epoch: rival.epoch,
        age_seconds,
    })
}

/// What to tell a person of a conflict, and what to do.
pub(super) fn conflict_words(conflict: &ConflictView) -> String {
    let ConflictView {
        epoch,
        rival_epoch,
        age_seconds,
    } = conflict;
    let age = age(*age_seconds);
    format!(
        "two agents use this name: epoch {epoch}, and {rival_epoch} {age} ago. Stop one of them, or \
         give it a name of its own ([DEFAULT] host); then restart the other"
    )
}

/// What to tell of a clock that is off.
pub(super) fn clock_words(behind_seconds: f64) -> Option<String> {
    if behind_seconds > CLOCK_OFF_SECONDS {
        let amount = age(behind_seconds);
        Some(format!(
            "its clock is {amount} behind the database's, or its readings take that long"
        ))
    } else if behind_seconds < -CLOCK_OFF_SECONDS {
        let amount = age(-behind_seconds);
        Some(format!("its clock is {amount} ahead of the database's"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Rival;

    fn at(seconds: i64) -> UtcTime {
        UtcTime::from_unix_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_conflict_is_live_for_a_minute_after_its_last_sign() {
        let mut row = ObserverRow {
            observer: "n".into(),
            epoch: 7,
            seq: 1,
            observed_at: at(0),
            received_at: at(0),
            rival: None,
        };
        assert_eq!(conflict_view(at(100), &row), None);
        for (sign, expected) in [(100, true), (41, true), (40, false), (130, true)] {
            row.rival = Some(Rival {
                epoch: 6,
                at: at(sign),
            });
            let conflict = conflict_view(at(100), &row);
            assert_eq!(conflict.is_some(), expected, "{sign}");
            assert!(conflict.is_none_or(|c| (c.epoch, c.rival_epoch) == (7, 6)));
        }
    }

    #[test]
    fn a_clock_is_told_when_it_is_off_by_more_than_a_second() {
        for (behind, word) in [
            (0.0, None),
            (1.0, None),
            (-1.0, None),
            (1.1, Some("1.1 s behind")),
            (-1.1, Some("1.1 s ahead")),
            (7200.0, Some("2 h behind")),
        ] {
            let words = clock_words(behind);
            assert_eq!(words.is_some(), word.is_some(), "{behind}");
            assert!(words.is_none_or(|words| words.contains(word.unwrap())));
        }
    }
}
