//! What the agent tells of its own health: which pollsters still end their rounds.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::super::usage::UsageReader;
use crate::clock;
use crate::events::AgentEvents;
use crate::web::Health;

/// Intervals without an ended round after which a pollster counts as stuck.
const STUCK_AFTER: u32 = 3;
/// Never called stuck sooner than this.
const STUCK_MIN: Duration = Duration::from_secs(5);

/// The health of one agent.
pub(super) struct AgentHealth {
    pub(super) events: Arc<AgentEvents>,
    /// Each belongs to its pollster's thread and goes with it.
    progress: Mutex<Vec<Weak<Progress>>>,
    usage: UsageReader,
}

impl AgentHealth {
    pub(super) fn new(events: Arc<AgentEvents>) -> Self {
        AgentHealth {
            events,
            progress: Mutex::default(),
            usage: UsageReader::new(),
        }
    }

    /// Watches one more pollster, until its progress is dropped.
    pub(super) fn watch(&self, source: &str, pollster: &str, interval: Duration) -> Arc<Progress> {
        let now = clock::now();
        self.events.expect_pollster(source, pollster, now);
        let progress = Arc::new(Progress {
            name: format!("{pollster} of source {source}"),
            state: Mutex::new((interval, now)),
        });
        let mut all = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(&progress));
        progress
    }
}

impl Health for AgentHealth {
    fn stuck(&self) -> Vec<String> {
        let now = clock::now();
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress
            .iter()
            .filter_map(|progress| progress.upgrade()?.trouble(now))
            .collect()
    }

    fn not_ready(&self) -> Vec<String> {
        self.events.not_ready(clock::now())
    }

    fn metrics(&self, is_ready: bool) -> String {
        self.events
            .render(is_ready, &self.usage.read(), clock::now())
    }
}

/// How often a pollster should end a round, and when it last did or was told so.
pub(super) struct Progress {
    name: String,
    state: Mutex<(Duration, Instant)>,
}

impl Progress {
    /// A round ended.
    pub(super) fn ended(&self, now: Instant) {
        self.state().1 = now;
    }

    /// Another interval holds from now on.
    pub(super) fn retimed(&self, interval: Duration, now: Instant) {
        *self.state() = (interval, now);
    }

    fn trouble(&self, now: Instant) -> Option<String> {
        let (interval, last) = *self.state();
        let silent = now.saturating_duration_since(last);
        let is_stuck = silent > (interval * STUCK_AFTER).max(STUCK_MIN);
        is_stuck.then(|| {
            format!(
                "{} has ended no round for {} s",
                self.name,
                silent.as_secs()
            )
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, (Duration, Instant)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_interval_makes_nobody_stuck_at_once_and_who_is_gone_is_forgotten() {
        let health = AgentHealth::new(Arc::new(AgentEvents::new().unwrap()));
        let progress = health.watch("s", "p", Duration::from_secs(3600));
        let later = clock::now() + Duration::from_secs(600);
        assert_eq!(progress.trouble(later), None);
        progress.retimed(Duration::from_secs(1), later);
        assert_eq!(progress.trouble(later + STUCK_MIN), None);
        assert!(progress.trouble(later + STUCK_MIN * 2).is_some());
        drop(progress);
        let _other = health.watch("s", "q", Duration::from_secs(1));
        assert_eq!(health.progress.lock().unwrap().len(), 1);
    }
}
