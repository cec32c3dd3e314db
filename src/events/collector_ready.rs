//! Pure. What keeps a collector from its job, why, and since when: a book that its events fill and
//! `/readyz` reads. A restart mends none of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long batches may fail before it counts: somebody else may hold the database's lock for a
/// moment.
const UNSTORED_AFTER: Duration = Duration::from_secs(1);
/// How long a loss counts: four scrapes of a usual Prometheus.
const LOSS_FOR: Duration = Duration::from_secs(60);
/// How long a topic may go without being consumed before it counts: connecting takes a moment, and so does
/// declaring a queue anew.
const UNCONSUMED_AFTER: Duration = Duration::from_secs(1);

/// What is said where nothing is configured to receive by.
const NOTHING_RECEIVED: &str =
    "nothing is received: [collector] udp_address is empty, and no topic is consumed";

/// Facts about receiving and storing.
#[derive(Debug, Default)]
pub(super) struct CollectorReadiness {
    is_deaf: bool,
    unstored: Option<(Instant, String)>,
    queue_full: Option<Instant>,
    kernel_dropped: Option<Instant>,
    /// Topics that aren't consumed: since when, why, and whether that has been said.
    unconsumed: BTreeMap<String, Unconsumed>,
}

#[derive(Debug)]
struct Unconsumed {
    since: Instant,
    why: String,
    is_told: bool,
}

impl CollectorReadiness {
    /// Nothing is configured to receive by.
    pub(super) fn deaf(&mut self) {
        self.is_deaf = true;
    }

    /// A batch was stored, or not and why.
    pub(super) fn stored(&mut self, result: Result<(), String>, now: Instant) {
        match result {
            Ok(()) => self.unstored = None,
            Err(why) => {
                self.unstored.get_or_insert((now, why));
            }
        }
    }

    /// A topic is to be consumed from now on.
    pub(super) fn expect_topic(&mut self, topic: &str, now: Instant) {
        let connecting = Unconsumed {
            since: now,
            why: "connecting".to_owned(),
            is_told: false,
        };
        self.unconsumed.insert(topic.to_owned(), connecting);
    }

    /// A topic is being consumed.
    pub(super) fn consumed(&mut self, topic: &str) {
        self.unconsumed.remove(topic);
    }

    /// A topic isn't consumed, and why. True if that is news since it was.
    pub(super) fn unconsumed(&mut self, topic: &str, why: &str, now: Instant) -> bool {
        let topic = self.unconsumed.entry(topic.to_owned());
        let unconsumed = topic.or_insert_with(|| Unconsumed {
            since: now,
            why: String::new(),
            is_told: false,
        });
        why.clone_into(&mut unconsumed.why);
        !std::mem::replace(&mut unconsumed.is_told, true)
    }

    /// Messages found no place in the queue.
    pub(super) fn queue_full(&mut self, now: Instant) {
        self.queue_full = Some(now);
    }

    /// Datagrams found no place in the kernel's buffer.
    pub(super) fn kernel_dropped(&mut self, now: Instant) {
        self.kernel_dropped = Some(now);
    }

    /// What isn't ready, why and since when, one text each.
    pub(super) fn troubles(&self, now: Instant) -> Vec<String> {
        let mut troubles = Vec::new();
        if self.is_deaf {
            troubles.push(NOTHING_RECEIVED.to_owned());
        }
        if let Some((since, why)) = &self.unstored {
            let lasted = now.saturating_duration_since(*since);
            if lasted >= UNSTORED_AFTER {
                let lasted = lasted.as_secs();
                troubles.push(format!("batches can't be stored for {lasted} s: {why}"));
            }
        }
        for (topic, unconsumed) in &self.unconsumed {
            let Unconsumed { since, why, .. } = unconsumed;
            let lasted = now.saturating_duration_since(*since);
            if lasted >= UNCONSUMED_AFTER {
                let lasted = lasted.as_secs();
                troubles.push(format!(
                    "topic {topic} is not consumed for {lasted} s: {why}"
                ));
            }
        }
        let lately = |at: Option<Instant>| {
            let ago = now.saturating_duration_since(at?);
            (ago < LOSS_FOR).then_some(ago.as_secs())
        };
        if let Some(ago) = lately(self.queue_full) {
            troubles.push(format!(
                "the queue to the database was full {ago} s ago: messages were dropped"
            ));
        }
        if let Some(ago) = lately(self.kernel_dropped) {
            troubles.push(format!(
                "the receive buffer was full {ago} s ago: datagrams were dropped"
            ));
        }
        troubles
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn batches_that_fail_for_a_second_are_told_with_their_first_reason_until_one_is_stored() {
        let start = clock::now();
        let mut book = CollectorReadiness::default();
        book.stored(Err("database is locked".to_owned()), start);
        assert!(book.troubles(start).is_empty());
        book.stored(Err("another".to_owned()), start + SECOND);
        assert_eq!(
            book.troubles(start + SECOND * 2),
            ["batches can't be stored for 2 s: database is locked"]
        );
        book.stored(Ok(()), start + SECOND * 2);
        assert!(book.troubles(start + SECOND * 2).is_empty());
    }

    #[test]
    fn a_topic_that_is_not_consumed_is_told_once_and_shown_with_its_latest_reason() {
        let start = clock::now();
        let mut book = CollectorReadiness::default();
        book.expect_topic("t", start);
        assert!(book.troubles(start).is_empty(), "connecting takes a moment");
        assert!(book.unconsumed("t", "refused", start + SECOND));
        assert!(!book.unconsumed("t", "no route", start + SECOND));
        assert_eq!(
            book.troubles(start + SECOND * 2),
            ["topic t is not consumed for 2 s: no route"]
        );
        book.consumed("t");
        assert!(book.troubles(start + SECOND * 2).is_empty());
        assert!(
            book.unconsumed("t", "gone", start + SECOND * 3),
            "news again"
        );
    }

    #[test]
    fn losses_are_told_for_a_minute_and_deafness_for_ever() {
        let start = clock::now();
        let mut book = CollectorReadiness::default();
        book.deaf();
        book.queue_full(start);
        book.kernel_dropped(start + SECOND);
        assert_eq!(
            book.troubles(start + SECOND * 3),
            [
                NOTHING_RECEIVED,
                "the queue to the database was full 3 s ago: messages were dropped",
                "the receive buffer was full 2 s ago: datagrams were dropped"
            ]
        );
        assert_eq!(book.troubles(start + LOSS_FOR).len(), 2);
        assert_eq!(book.troubles(start + LOSS_FOR + SECOND).len(), 1);
    }
}
