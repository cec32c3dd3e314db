//! Pure. What a pollster counts of its work beside its samples, from one round to the next.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a pollster counted since it was asked last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples of somebody else's making that couldn't be read.
    pub refused: u64,
    /// What became of its probes.
    pub probes: Probes,
    /// How libvirt served it; None for one that doesn't ask libvirt.
    pub libvirt: Option<LibvirtCounts>,
}

/// How libvirt served one pollster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LibvirtCounts {
    /// Attempts to open a connection.
    pub connects: u64,
    /// Questions without an answer in time, each of which left its thread behind.
    pub abandoned: u64,
    /// The longest that an answer took.
    pub slowest: Option<Duration>,
    /// Threads that live now: the one in use, and those that hang.
    pub threads: u64,
}

/// Writes the closed list of what becomes of a probe: variant and label.
macro_rules! results {
    ($($(#[$doc:meta])* $variant:ident = $text:literal;)+) => {
        /// What became of one probe. All but the last three are the words of
        /// [`GatewayStatus`](crate::model::GatewayStatus), of one probe and not of a round.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ProbeResult { $($(#[$doc])* $variant,)+ }

        impl ProbeResult {
            /// Every member.
            pub const ALL: &'static [ProbeResult] = &[$(ProbeResult::$variant),+];

            /// The name in metric labels.
            pub fn as_str(self) -> &'static str {
                match self { $(ProbeResult::$variant => $text),+ }
            }
        }
    };
}

results! {
    /// Its echo reply came in time by the pinned interface.
    Answered = "answered";
    /// It left, and nothing came back.
    Silent = "silent";
    /// The network, or our own stack, says that nobody is there.
    Unreachable = "unreachable";
    /// A filter on the path refused it.
    Prohibited = "prohibited";
    /// Its hop limit ran out.
    TimeExceeded = "time_exceeded";
    /// Another error from the path.
    PathError = "path_error";
    /// Its answer came by another interface.
    WrongPath = "wrong_path";
    /// Its answer came after the timeout.
    TooLate = "too_late";
    /// Our own link, address or route to send it by is gone.
    LocalPathLost = "local_path_lost";
    /// It couldn't be sent for another reason of our own.
    NotSent = "not_sent";
    /// It belongs to a round that says nothing: our timers were late, or our socket dropped replies.
    Void = "void";
}

/// Probes by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probes(BTreeMap<ProbeResult, u64>);

impl Probes {
    /// So many probes came to this.
    pub fn add(&mut self, result: ProbeResult, probes: u32) {
        if probes > 0 {
            *self.0.entry(result).or_default() += u64::from(probes);
        }
    }

    /// How many came to this.
    pub fn of(&self, result: ProbeResult) -> u64 {
        self.0.get(&result).copied().unwrap_or_default()
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
