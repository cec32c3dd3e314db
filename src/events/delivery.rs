//! Pure. What a publisher tells of its message broker.

use crate::model::Identity;

/// One thing worth telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery<'a> {
    /// There is a connection, and what is needed there is declared.
    Connected {
        /// Which member of the cluster it leads to.
        member: &'a str,
    },
    /// There is none, or none any more.
    Disconnected {
        /// Why.
        why: &'a str,
    },
    /// The broker takes nothing for now.
    Blocked {
        /// What it says of itself.
        why: &'a str,
    },
    /// It takes messages again.
    Unblocked,
    /// An exchange or queue is there with other properties than ours, and used as it is.
    Differs {
        /// Its name.
        name: &'a str,
    },
    /// The broker has readings now.
    Confirmed {
        /// How many.
        readings: usize,
        /// In how many messages.
        messages: u64,
        /// Of how many bytes.
        bytes: u64,
    },
    /// Readings are where nothing that may happen to this agent loses them: at the broker, or on the disk.
    Accepted {
        /// The first of them.
        first: &'a Identity,
        /// The last of them; what is between was numbered between.
        last: &'a Identity,
    },
    /// A try failed; what becomes of the readings is the policy's.
    Undelivered {
        /// Why.
        reason: Undeliverable,
        /// How many readings.
        readings: usize,
    },
    /// Readings will not be tried again.
    Lost {
        /// How many.
        readings: usize,
    },
    /// So many rounds wait for a way to be sent after all.
    Backlog {
        /// How many.
        rounds: usize,
    },
}

/// Why readings were not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Undeliverable {
    /// No queue takes them: it was deleted.
    NoRoute,
    /// The broker said no, as a full queue does.
    Refused,
    /// They weren't sent, or not confirmed, in time.
    Late,
    /// The connection ended before they were confirmed.
    Disconnected,
    /// A reading alone is too large for a body.
    TooLarge,
}

impl Undeliverable {
    /// Every reason.
    pub const ALL: [Undeliverable; 5] = [
        Undeliverable::NoRoute,
        Undeliverable::Refused,
        Undeliverable::Late,
        Undeliverable::Disconnected,
        Undeliverable::TooLarge,
    ];

    /// Its name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Undeliverable::NoRoute => "no_route",
            Undeliverable::Refused => "refused",
            Undeliverable::Late => "late",
            Undeliverable::Disconnected => "disconnected",
            Undeliverable::TooLarge => "too_large",
        }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Undeliverable::NoRoute => "no queue takes what is sent: it was deleted",
            Undeliverable::Refused => "the broker refuses what is sent, as for a full queue",
            Undeliverable::Late => "not sent or not confirmed in time",
            Undeliverable::Disconnected => "the connection ended before it was confirmed",
            Undeliverable::TooLarge => "a reading is too large for a body",
        }
    }
}
