//! Who observes: the newest life and the newest reading of each observer, and earlier lives that go
//! on beside it.

use super::error::StoreError;
use super::identity::{self, Life, Standing};
use super::link::{read, run, write};
use super::plan::Sorted;
use super::sql;
use super::statements::statements;
use super::writer::Pass;

/// Two agents that use one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityConflict {
    /// The name.
    pub observer: String,
    /// The newest epoch.
    pub epoch: i64,
    /// The earlier one that goes on.
    pub rival_epoch: i64,
}

impl Pass<'_> {
    /// Moves the rows of the observers that the batch speaks of; returns those that are in conflict.
    pub(crate) async fn put_observers(
        &mut self,
        sorted: &Sorted<'_>,
    ) -> Result<Vec<IdentityConflict>, StoreError> {
        self.learn_lives(sorted).await?;
        let now = self.now;
        let by_observer = identity::by_observer(sorted);
        let standings: Vec<(&str, Standing)> = by_observer
            .iter()
            .filter_map(|(observer, new)| {
                let held = self.known_life(observer);
                Some((*observer, identity::judge(held, new, now)?))
            })
            .collect();
        let puts = statements(
            &self.dialect.put_observers,
            &standings,
            |binds, (observer, Standing { life, newest, .. })| {
                binds
                    .put(*observer)
                    .put(newest.order.epoch)
                    .put(newest.order.seq)
                    .put(life.began_observed_at)
                    .put(life.began_received_at)
                    .put(newest.observed_at)
                    .put(now);
            },
        );
        write(self.session, puts, "moving observers").await?;
        let mut conflicts = Vec::new();
        for (observer, Standing { life, rival, .. }) in standings {
            self.learned.lives.insert(observer.to_owned(), life);
            if let Some(rival_epoch) = rival {
                let binds = vec![rival_epoch.into(), now.into(), observer.into()];
                run(self.session, sql::PUT_RIVAL, binds, "noting a rival").await?;
                conflicts.push(IdentityConflict {
                    observer: observer.to_owned(),
                    epoch: life.epoch,
                    rival_epoch,
                });
            }
        }
        Ok(conflicts)
    }

    /// Whether an observer has a row: a copy of what it said before it was forgotten makes none.
    pub(crate) fn is_present(&self, observer: &str) -> bool {
        self.known_life(observer).is_some()
    }

    /// Reads the lives that aren't remembered.
    async fn learn_lives(&mut self, sorted: &Sorted<'_>) -> Result<(), StoreError> {
        let rows = sorted.new.iter().chain(&sorted.duplicates);
        let mut unknown: Vec<&str> = rows
            .filter_map(|row| Some(row.live()?.observer))
            .filter(|observer| !self.is_present(observer))
            .collect();
        unknown.sort_unstable();
        unknown.dedup();
        let asked = statements(&sql::LIVES, &unknown, |binds, observer| {
            binds.put(*observer);
        });
        let found: Vec<(String, i64, i64, i64)> =
            read(self.session, asked, "reading observers").await?;
        for (observer, epoch, began_observed_at, began_received_at) in found {
            let life = Life {
                epoch,
                began_observed_at,
                began_received_at,
            };
            self.learned.lives.insert(observer, life);
        }
        Ok(())
    }

    fn known_life(&self, observer: &str) -> Option<Life> {
        let learned = self.learned.lives.get(observer);
        learned.or_else(|| self.memory.lives.get(observer)).copied()
    }
}
