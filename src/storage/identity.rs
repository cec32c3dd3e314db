//! Pure. Which life an observer is in, and whether an earlier one of the same name goes on: then two
//! agents share a name, and nobody can tell whose readings are whose.

use std::collections::BTreeMap;

use super::plan::Sorted;
use super::rows::{Order, Row};

/// How far behind the beginning of a life, by the observer's clock and by the database's, a reading
/// of an earlier life must lie to be a sign of a rival. An agent that was restarted made its last
/// readings before; what of them was still on its way arrives within moments, also where the clock
/// was set back in between. Clocks that are set right after a start are so by less, or at once.
const RIVAL_SLACK_MICROS: i64 = 2_000_000;

/// A life of an observer: an epoch, and how it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    /// The epoch.
    pub(crate) epoch: i64,
    /// When its first reading that was stored had been made, by the observer's clock.
    pub(crate) began_observed_at: i64,
    /// When that was stored, by the database's clock.
    pub(crate) began_received_at: i64,
}

/// A reading, as far as identity needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its place in its observer's order.
    pub(crate) order: Order,
    /// When it was made, by the observer's clock.
    pub(crate) observed_at: i64,
}

/// What new readings say about their observer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Its newest life.
    pub(crate) life: Life,
    /// The newest of the new readings, which another batch's may exceed.
    pub(crate) newest: Seen,
    /// The newest earlier epoch that goes on beside it.
    pub(crate) rival: Option<i64>,
}

/// The new readings of a batch that may move states, by observer.
pub(crate) fn by_observer<'a>(sorted: &Sorted<'a>) -> BTreeMap<&'a str, Vec<Seen>> {
    let mut seen: BTreeMap<&str, Vec<Seen>> = BTreeMap::new();
    for ours in sorted.new.iter().filter_map(Row::live) {
        seen.entry(ours.observer).or_default().push(Seen {
            order: ours.order,
            observed_at: ours.observed_at.unix_micros(),
        });
    }
    seen
}

/// Judges new readings of one observer, stored at `now`, by what is held of it. None if there are no
/// readings.
pub(crate) fn judge(held: Option<Life>, new: &[Seen], now: i64) -> Option<Standing> {
    let newest = new.iter().max_by_key(|seen| seen.order).copied()?;
    let life = match held {
        Some(held) if held.epoch >= newest.order.epoch => held,
        _ => beginning(newest.order.epoch, new, newest, now),
    };
    let goes_on = |seen: &&Seen| {
        seen.order.epoch < life.epoch
            && is_after(seen.observed_at, life.began_observed_at)
            && is_after(now, life.began_received_at)
    };
    let rivals = new.iter().filter(goes_on).map(|seen| seen.order.epoch);
    Some(Standing {
        life,
        newest,
        rival: rivals.max(),
    })
}

/// A life that begins with the least numbered of these readings.
fn beginning(epoch: i64, new: &[Seen], newest: Seen, now: i64) -> Life {
    let of_it = new.iter().filter(|seen| seen.order.epoch == epoch);
    let first = of_it.min_by_key(|seen| seen.order).unwrap_or(&newest);
    Life {
        epoch,
        began_observed_at: first.observed_at,
        began_received_at: now,
    }
}

fn is_after(moment: i64, beginning: i64) -> bool {
    moment > beginning.saturating_add(RIVAL_SLACK_MICROS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn seen(epoch: i64, seq: i64, observed_seconds: i64) -> Seen {
        Seen {
            order: Order { epoch, seq },
            observed_at: observed_seconds * SECOND,
        }
    }

    /// Epoch 7 began at 100 s by its own clock and was first stored at 1,000 s by the database's.
    const LIFE: Life = Life {
        epoch: 7,
        began_observed_at: 100 * SECOND,
        began_received_at: 1000 * SECOND,
    };

    #[test]
    fn the_table_of_rivals() {
        for (case, new, now_seconds, rival) in [
            ("its own", vec![seen(7, 9, 150)], 1050, None),
            (
                "an earlier life goes on",
                vec![seen(6, 90, 150)],
                1050,
                Some(6),
            ),
            (
                "both in one batch",
                vec![seen(7, 9, 150), seen(6, 90, 150)],
                1050,
                Some(6),
            ),
            (
                "two go on",
                vec![seen(5, 1, 150), seen(6, 1, 150)],
                1050,
                Some(6),
            ),
            (
                "late: made before the new life",
                vec![seen(6, 90, 99)],
                1050,
                None,
            ),
            (
                "late by an hour, as from a spool",
                vec![seen(6, 90, -3500)],
                1050,
                None,
            ),
            (
                "within the slack by its clock",
                vec![seen(6, 90, 102)],
                1050,
                None,
            ),
            ("just behind it", vec![seen(6, 90, 103)], 1003, Some(6)),
            (
                "the clock was set back, and this was on its way",
                vec![seen(6, 90, 3700)],
                1002,
                None,
            ),
            (
                "a new life is no rival of the old one",
                vec![seen(8, 1, 150)],
                1050,
                None,
            ),
            (
                "the life that was the newest goes on",
                vec![seen(8, 1, 150), seen(7, 99, 153)],
                1050,
                None,
            ),
        ] {
            let standing = judge(Some(LIFE), &new, now_seconds * SECOND).unwrap();
            assert_eq!(standing.rival, rival, "{case}");
        }
    }

    #[test]
    fn a_life_begins_with_its_first_reading_and_keeps_its_beginning() {
        let now = 1050 * SECOND;
        let began = |held, new: &[Seen]| judge(held, new, now).unwrap().life;
        let new = [seen(8, 3, 153), seen(8, 2, 151), seen(7, 99, 149)];
        let expected = Life {
            epoch: 8,
            began_observed_at: 151 * SECOND,
            began_received_at: now,
        };
        assert_eq!(began(None, &new), expected);
        assert_eq!(began(Some(LIFE), &new), expected);
        assert_eq!(began(Some(LIFE), &[seen(7, 1, 90)]), LIFE);
        assert_eq!(began(Some(LIFE), &[seen(6, 1, 90)]), LIFE);
        assert_eq!(judge(Some(LIFE), &[], now), None);
    }

    #[test]
    fn no_time_overflows() {
        let life = Life {
            began_observed_at: i64::MAX,
            began_received_at: i64::MAX,
            ..LIFE
        };
        let standing = judge(Some(life), &[seen(6, 1, 0)], i64::MAX).unwrap();
        assert_eq!(standing.rival, None);
    }
}
