//! The spool as the place where a notifier:// publisher keeps what it couldn't deliver.

use std::sync::Arc;

use super::hand::Spool;
use crate::clock;
use crate::publisher::notifier::undelivered::{Backlog, Place, Undelivered};

/// A publisher's side of its spool. Rounds are kept until they are sent or too old, however often they were
/// tried; what is lost is told by the spool itself, with the reason.
#[derive(Debug)]
pub struct Spooled(Arc<Spool>);

impl Spooled {
    /// The publisher's side of this one.
    pub fn new(spool: Arc<Spool>) -> Self {
        Spooled(spool)
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Backlog for Spooled {
    fn put(&mut self, round: Undelivered) -> usize {
        self.0.put(round.batch, clock::now())
    }

    fn peek(&mut self, behind: Option<Place>, limit: usize) -> Vec<(Place, Undelivered)> {
        let behind = behind.map(|Place(number)| number);
        let rounds = self.0.peek(behind, limit, clock::now()).into_iter();
        rounds
            .map(|(number, batch)| (Place(number), Undelivered { batch, tries: 0 }))
            .collect()
    }

    fn sent(&mut self, Place(number): Place) {
        self.0.sent(number);
    }

    fn tried(&mut self) -> usize {
        0
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_kept(&self) -> bool {
        true
    }

    /// The worker writes what waits, and tells of what it can't.
    fn close(&mut self) -> usize {
        self.0.close();
        0
    }
}
