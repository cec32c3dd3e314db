//! Pure. A pass of the retention: which tables it goes through, how far it has come, and where it
//! ends.

use std::time::Duration;

/// How many ids one step looks at. Deleting as many samples takes some milliseconds, for which
/// nobody else stores.
pub(crate) const CHUNK_MAX: i64 = 1000;

/// How many resources one step deletes. Each may have fifty rows of metadata.
pub(crate) const RESOURCES_SWEPT_MAX: usize = 64;

/// How many epochs of observers one step forgets.
pub(crate) const SEEN_SWEPT_MAX: i64 = 64;

/// How long an observer that has no present is recognised: a replay of what it sent before it was
/// forgotten would otherwise bring it back. As long as the message ids of old senders.
pub(crate) const SEEN_HORIZON_MICROS: i64 = 24 * 3600 * 1_000_000;

/// How much of the history a pass looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Samples from the first id on, up to the first chunk in which nothing has expired: ids grow with
    /// the time of recording.
    Front,
    /// The same, and then what belongs to no sample any more.
    FrontAndOrphans,
    /// Every sample, because the database's clock may have been wrong for a while, and then as above.
    Whole,
}

/// One pass. It is gone through by [`super::Database::sweep`], step by step.
#[derive(Debug, Clone)]
pub struct Sweep {
    keep: Option<Duration>,
    reach: Reach,
    is_dry: bool,
    stage: Stage,
    after: i64,
    floor: i64,
    is_at_floor: bool,
}

/// What a pass is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Samples.
    Samples,
    /// Resources without samples, with their metadata.
    Resources,
    /// Meters without samples.
    Meters,
    /// What was seen of observers without a present.
    Seen,
    /// Message ids of old senders.
    Messages,
    /// Nothing any more.
    Over,
}

/// How many rows went, or in a dry run would go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Of `sample`.
    pub samples: u64,
    /// Of `resource`; the metadata of each went with it.
    pub resources: u64,
    /// Of `meter`.
    pub meters: u64,
    /// Of `ha_seen`.
    pub seen: u64,
    /// Of `ha_seen_message`.
    pub messages: u64,
}

impl Swept {
    /// Adds what another step did.
    pub fn add(&mut self, other: Swept) {
        self.samples += other.samples;
        self.resources += other.resources;
        self.meters += other.meters;
        self.seen += other.seen;
        self.messages += other.messages;
    }
}

impl Sweep {
    /// A pass over what is older than `keep`; None keeps all history. Samples up to the id `floor` are
    /// known to be gone, as [`Sweep::floor`] of the pass before told; a whole pass looks all the same.
    pub fn new(keep: Option<Duration>, reach: Reach, floor: i64) -> Self {
        let floor = if reach == Reach::Whole {
            i64::MIN
        } else {
            floor
        };
        let mut sweep = Sweep {
            keep,
            reach,
            is_dry: false,
            stage: Stage::Samples,
            after: floor,
            floor,
            is_at_floor: true,
        };
        match reach {
            _ if keep.is_some() => {}
            Reach::Front => sweep.enter(Stage::Messages),
            Reach::FrontAndOrphans | Reach::Whole => sweep.enter(Stage::Seen),
        }
        sweep
    }

    /// A whole pass that counts and deletes nothing.
    pub fn dry(keep: Duration) -> Self {
        Sweep {
            is_dry: true,
            ..Sweep::new(Some(keep), Reach::Whole, i64::MIN)
        }
    }

    /// Whether it is through.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// The id up to which every sample is gone.
    pub fn floor(&self) -> i64 {
        self.floor
    }

    /// Whether nothing is to be deleted.
    pub(crate) fn is_dry(&self) -> bool {
        self.is_dry
    }

    /// What comes next.
    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// The id behind which it goes on.
    pub(crate) fn after(&self) -> i64 {
        self.after
    }

    /// The first moment of which samples are kept, in unix microseconds.
    pub(crate) fn cutoff(&self, now: i64) -> i64 {
        let micros = self.keep.map(|keep| i64::try_from(keep.as_micros()));
        match micros {
            Some(Ok(micros)) => now.saturating_sub(micros),
            Some(Err(_)) | None => i64::MIN,
        }
    }

    /// Samples were looked at up to the id `end`, `looked` of them, of which `expired` were past their
    /// time.
    pub(crate) fn samples_swept(&mut self, end: Option<i64>, looked: i64, expired: i64) {
        self.is_at_floor &= looked == expired;
        match end {
            Some(end) if expired > 0 || self.reach == Reach::Whole => {
                self.after = end;
                if self.is_at_floor {
                    self.floor = end;
                }
            }
            _ if self.reach == Reach::Front => self.enter(Stage::Messages),
            _ => self.enter(Stage::Resources),
        }
    }

    /// Rows of the stage were looked at up to the id `end`; None if there were none left.
    pub(crate) fn orphans_swept(&mut self, end: Option<i64>) {
        match (end, self.stage) {
            (Some(end), _) => self.after = end,
            (None, Stage::Resources) => self.enter(Stage::Meters),
            (None, _) if self.is_dry => self.enter(Stage::Over),
            (None, _) => self.enter(Stage::Seen),
        }
    }

    /// A step that goes through no ids is done; `is_more` of the same may be left.
    pub(crate) fn rest_swept(&mut self, is_more: bool) {
        match self.stage {
            _ if is_more => {}
            Stage::Seen => self.enter(Stage::Messages),
            _ => self.enter(Stage::Over),
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.after = i64::MIN;
    }
}
