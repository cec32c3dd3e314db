//! Pure. Instances that have migrated away and are about to vanish. libvirt tells that such a one has
//! stopped, removes it a moment later if it is not to stay defined, and doesn't tell that. So it is
//! asked for again, ever more rarely, until it is gone or has turned out to stay.
//!
//! ```text
//!  stopped, migrated ──► leaving ──► gone: a complete round lacks it
//!                           │
//!                           └──► told otherwise, or still there after the last look: it stays
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::report::{DomainState, Uuid, What};
use super::state;

/// The pause before the first look; it doubles with each.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause, and the last: nobody looks again behind it, which is 6.3 s after the event. An
/// instance that is removed still later is missed by the next complete round.
pub const PAUSE_LIMIT: Duration = Duration::from_millis(3200);

/// Who is leaving, and when to look at each again.
#[derive(Debug, Default)]
pub struct Leaving(BTreeMap<Uuid, Look>);

/// The next look at one instance.
#[derive(Debug)]
struct Look {
    at: Instant,
    pause: Duration,
}

impl Leaving {
    /// Something happened to an instance.
    pub fn heard(&mut self, uuid: Uuid, what: &What, now: Instant) {
        let What::Lifecycle(event, detail) = what else {
            return;
        };
        self.0.remove(&uuid);
        if state::is_migrated_away(*event, *detail) {
            let pause = PAUSE_MIN;
            let at = now + pause;
            self.0.insert(uuid, Look { at, pause });
        }
    }

    /// A complete round: who isn't in it is gone.
    pub fn saw(&mut self, states: &[DomainState]) {
        self.0
            .retain(|uuid, _| states.iter().any(|seen| seen.uuid == *uuid));
    }

    /// It is gone.
    pub fn gone(&mut self, uuid: Uuid) {
        self.0.remove(&uuid);
    }

    /// When somebody is to be looked at.
    pub fn look_at(&self) -> Option<Instant> {
        self.0.values().map(|look| look.at).min()
    }

    /// Those to be looked at now.
    pub fn due(&mut self, now: Instant) -> Vec<Uuid> {
        let due: Vec<Uuid> = self
            .0
            .iter()
            .filter(|(_, look)| look.at <= now)
            .map(|(uuid, _)| *uuid)
            .collect();
        for uuid in &due {
            self.put_off(*uuid, now);
        }
        due
    }

    fn put_off(&mut self, uuid: Uuid, now: Instant) {
        let Some(look) = self.0.get_mut(&uuid) else {
            return;
        };
        if look.pause >= PAUSE_LIMIT {
            self.0.remove(&uuid);
            return;
        }
        look.pause *= 2;
        look.at = now + look.pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use virt_sys as sys;

    const A: Uuid = Uuid([0xa; 16]);
    const B: Uuid = Uuid([0xb; 16]);

    fn stopped(detail: u32) -> What {
        let number = |code: u32| code.try_into().unwrap();
        What::Lifecycle(number(sys::VIR_DOMAIN_EVENT_STOPPED), number(detail))
    }

    fn migrated() -> What {
        stopped(sys::VIR_DOMAIN_EVENT_STOPPED_MIGRATED)
    }

    #[test]
    fn who_has_migrated_away_is_looked_at_ever_more_rarely_and_not_for_ever() {
        let (mut leaving, start) = (Leaving::default(), clock::now());
        leaving.heard(A, &migrated(), start);
        assert!(leaving.due(start).is_empty(), "not at once");
        let mut looks = Vec::new();
        while let Some(at) = leaving.look_at() {
            assert_eq!(leaving.due(at), [A]);
            looks.push((at - start).as_millis());
        }
        assert_eq!(looks, [100, 300, 700, 1500, 3100, 6300]);
    }

    #[test]
    fn who_is_gone_or_stopped_otherwise_is_not_looked_at() {
        let (mut leaving, now) = (Leaving::default(), clock::now());
        for other in [
            stopped(sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED),
            What::Lifecycle(77, 77),
            What::Reboot,
        ] {
            leaving.heard(A, &other, now);
            assert_eq!(leaving.look_at(), None, "{other:?}");
        }
        leaving.heard(A, &migrated(), now);
        leaving.gone(A);
        assert_eq!(leaving.look_at(), None);

        for uuid in [A, B] {
            leaving.heard(uuid, &migrated(), now);
        }
        leaving.saw(&[DomainState {
            uuid: B,
            state: 5,
            reason: 4,
        }]);
        assert_eq!(leaving.due(now + PAUSE_LIMIT), [B]);
        leaving.heard(B, &What::Lifecycle(2, 0), now);
        assert_eq!(leaving.look_at(), None, "it was started again");
    }
}
