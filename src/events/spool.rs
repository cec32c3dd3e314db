//! Pure. What a publisher's spool tells.

use std::time::Duration;

use crate::model::Identity;

/// One thing worth telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spooling {
    /// The disk is used again.
    Works,
    /// It isn't, and why.
    Failed(String),
    /// So many readings were accepted: they are on the disk.
    Written(usize),
    /// Which ones.
    Accepted {
        /// The first of them.
        first: Identity,
        /// The last of them; what is between was numbered between.
        last: Identity,
    },
    /// So many readings are lost.
    Lost(SpoolLoss, usize),
}

/// Why a reading in a spool is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolLoss {
    /// Newer ones needed the room.
    Full,
    /// It would have come too late to be told from a new one.
    TooOld,
    /// The disk didn't give back what was written.
    Damaged,
    /// The disk took nothing, and there is no more room in memory.
    Disk,
    /// It is larger than a record may be.
    TooLarge,
}

impl SpoolLoss {
    /// Every reason.
    pub const ALL: [SpoolLoss; 5] = [
        SpoolLoss::Full,
        SpoolLoss::TooOld,
        SpoolLoss::Damaged,
        SpoolLoss::Disk,
        SpoolLoss::TooLarge,
    ];

    /// Its name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            SpoolLoss::Full => "full",
            SpoolLoss::TooOld => "too_old",
            SpoolLoss::Damaged => "damaged",
            SpoolLoss::Disk => "disk",
            SpoolLoss::TooLarge => "too_large",
        }
    }
}

/// What a spool looks like now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpoolView {
    /// Bytes of its files.
    pub bytes: u64,
    /// Readings on the disk that wait to be sent.
    pub readings: usize,
    /// How long ago the oldest of them was written; None where there is none.
    pub oldest: Option<Duration>,
    /// Rounds in memory that aren't on the disk yet.
    pub waiting: usize,
    /// Whether the disk is used.
    pub works: bool,
}
