//! Keeps the rounds of instances, and says of each instance when a complete one last saw it.

use std::collections::BTreeMap;

use super::complete::{self, Round};
use super::error::StoreError;
use super::link::{read, run, write};
use super::plan::{Sorted, Windows};
use super::rows::Order;
use super::sql;
use super::statements::statements;
use super::writer::Pass;

impl Pass<'_> {
    /// Completes what this batch completes. Comes after states have moved.
    pub(crate) async fn put_rounds(
        &mut self,
        sorted: &Sorted<'_>,
        windows: &Windows<'_>,
    ) -> Result<(), StoreError> {
        let new = complete::by_observer(sorted);
        if new.is_empty() {
            return Ok(());
        }
        let observers: Vec<&str> = new.keys().copied().collect();
        let held = self.held_rounds(&observers).await?;
        let (mut changed, mut lines) = (Vec::new(), Vec::new());
        for (observer, new) in &new {
            let held = held.get(*observer).map_or(&[][..], Vec::as_slice);
            let settled = complete::settle(observer, held, new, windows, self.now);
            for round in &settled.completed {
                self.confirm(observer, round).await?;
            }
            if settled.kept != held {
                changed.push(*observer);
                lines.extend(settled.kept.into_iter().map(|round| (*observer, round)));
            }
        }
        self.replace_rounds(&changed, &lines).await
    }

    async fn held_rounds(
        &mut self,
        observers: &[&str],
    ) -> Result<BTreeMap<String, Vec<Round>>, StoreError> {
        let asked = statements(&sql::ROUNDS, observers, |binds, observer| {
            binds.put(*observer);
        });
        let found: Vec<(String, i64, i64, i64, Option<i64>)> =
            read(self.session, asked, "reading rounds").await?;
        let mut held: BTreeMap<String, Vec<Round>> = BTreeMap::new();
        for (observer, epoch, seq, instances, completed_at) in found {
            held.entry(observer).or_default().push(Round {
                order: Order { epoch, seq },
                instances,
                completed_at,
            });
        }
        for rounds in held.values_mut() {
            rounds.sort_unstable_by_key(|round| round.order);
        }
        Ok(held)
    }

    async fn confirm(&mut self, observer: &str, round: &Round) -> Result<(), StoreError> {
        let binds = vec![
            self.now.into(),
            observer.into(),
            round.order.epoch.into(),
            round.first().into(),
            round.order.seq.into(),
        ];
        run(self.session, sql::CONFIRM, binds, "confirming instances").await?;
        Ok(())
    }

    async fn replace_rounds(
        &mut self,
        observers: &[&str],
        rounds: &[(&str, Round)],
    ) -> Result<(), StoreError> {
        let drops = statements(&sql::DROP_ROUNDS, observers, |binds, observer| {
            binds.put(*observer);
        });
        write(self.session, drops, "replacing rounds").await?;
        let puts = statements(&sql::PUT_ROUNDS, rounds, |binds, (observer, round)| {
            let Order { epoch, seq } = round.order;
            binds
                .put(*observer)
                .put(epoch)
                .put(seq)
                .put(round.instances)
                .put(round.completed_at);
        });
        write(self.session, puts, "replacing rounds").await?;
        Ok(())
    }
}
