//! Pure. The names of libvirt's codes: a domain's state, why it is in it, and what happened to it.
//! Numbers and names are those of `libvirt-domain.h`, the names without their prefix and in lower
//! case. Each list is closed, because a name becomes metadata: a code that a later libvirt gives out
//! is `unknown` here, and never its number.

/// `VIR_DOMAIN_RUNNING`.
const RUNNING: i64 = 1;
/// `VIR_DOMAIN_PAUSED`.
const PAUSED: i64 = 3;
/// `VIR_DOMAIN_SHUTDOWN`: it is being shut down.
const SHUTDOWN: i64 = 4;
/// `VIR_DOMAIN_SHUTOFF`.
const SHUTOFF: i64 = 5;
/// `VIR_DOMAIN_CRASHED`.
const CRASHED: i64 = 6;
/// `VIR_DOMAIN_PMSUSPENDED`: by its own power management.
const PMSUSPENDED: i64 = 7;

/// `VIR_DOMAIN_PAUSED_MIGRATION`.
const PAUSED_MIGRATION: i64 = 2;
/// `VIR_DOMAIN_PAUSED_IOERROR`.
const PAUSED_IOERROR: i64 = 5;

/// What a code is called that isn't in the list.
const UNKNOWN: &str = "unknown";

/// The states by `virDomainState`, each with its reasons by `virDomainRunningReason` and so on.
const STATES: [(&str, &[&str]); 8] = [
    ("nostate", &[UNKNOWN]),
    (
        "running",
        &[
            UNKNOWN,
            "booted",
            "migrated",
            "restored",
            "from_snapshot",
            "unpaused",
            "migration_canceled",
            "save_canceled",
            "wakeup",
            "crashed",
            "postcopy",
            "postcopy_failed",
        ],
    ),
    ("blocked", &[UNKNOWN]),
    (
        "paused",
        &[
            UNKNOWN,
            "user",
            "migration",
            "save",
            "dump",
            "ioerror",
            "watchdog",
            "from_snapshot",
            "shutting_down",
            "snapshot",
            "crashed",
            "starting_up",
            "postcopy",
            "postcopy_failed",
            "api_error",
        ],
    ),
    ("shutdown", &[UNKNOWN, "user"]),
    (
        "shutoff",
        &[
            UNKNOWN,
            "shutdown",
            "destroyed",
            "crashed",
            "migrated",
            "saved",
            "failed",
            "from_snapshot",
            "daemon",
        ],
    ),
    ("crashed", &[UNKNOWN, "panicked"]),
    ("pmsuspended", &[UNKNOWN]),
];

/// One `virDomainEventType`.
struct Event {
    name: &'static str,
    /// The state after a detail that isn't in the list; None: the event leaves it as it was.
    state: Option<i64>,
    /// By its detail's number: the detail's name, and the state and reason after it.
    details: &'static [(&'static str, Option<(i64, i64)>)],
}

/// By `virDomainEventType`. Reasons are those that libvirt's QEMU driver sets.
const EVENTS: [Event; 9] = [
    Event {
        name: "defined",
        state: None,
        details: &[
            ("added", None),
            ("updated", None),
            ("renamed", None),
            ("from_snapshot", None),
        ],
    },
    Event {
        name: "undefined",
        state: None,
        details: &[("removed", None), ("renamed", None)],
    },
    Event {
        name: "started",
        state: Some(RUNNING),
        details: &[
            ("booted", Some((RUNNING, 1))),
            // It waits for its memory; RESUMED follows when it runs here.
            ("migrated", Some((PAUSED, PAUSED_MIGRATION))),
            ("restored", Some((RUNNING, 3))),
            ("from_snapshot", Some((RUNNING, 4))),
            ("wakeup", Some((RUNNING, 8))),
            ("recreated", Some((RUNNING, 0))),
        ],
    },
    Event {
        name: "suspended",
        state: Some(PAUSED),
        details: &[
            ("paused", Some((PAUSED, 1))),
            ("migrated", Some((PAUSED, PAUSED_MIGRATION))),
            ("ioerror", Some((PAUSED, PAUSED_IOERROR))),
            ("watchdog", Some((PAUSED, 6))),
            ("restored", Some((PAUSED, 0))),
            ("from_snapshot", Some((PAUSED, 7))),
            ("api_error", Some((PAUSED, 14))),
            ("postcopy", Some((PAUSED, 12))),
            ("postcopy_failed", Some((PAUSED, 13))),
            ("guest_shutdown", Some((PAUSED, 8))),
        ],
    },
    Event {
        name: "resumed",
        state: Some(RUNNING),
        details: &[
            ("unpaused", Some((RUNNING, 5))),
            ("migrated", Some((RUNNING, 2))),
            ("from_snapshot", Some((RUNNING, 4))),
            ("postcopy", Some((RUNNING, 10))),
            ("postcopy_failed", Some((RUNNING, 11))),
        ],
    },
    Event {
        name: "stopped",
        state: Some(SHUTOFF),
        details: &[
            ("shutdown", Some((SHUTOFF, 1))),
            ("destroyed", Some((SHUTOFF, 2))),
            ("crashed", Some((SHUTOFF, 3))),
            ("migrated", Some((SHUTOFF, 4))),
            ("saved", Some((SHUTOFF, 5))),
            ("failed", Some((SHUTOFF, 6))),
            ("from_snapshot", Some((SHUTOFF, 7))),
            ("recreated", Some((SHUTOFF, 0))),
        ],
    },
    Event {
        name: "shutdown",
        state: Some(SHUTDOWN),
        details: &[
            ("finished", Some((SHUTDOWN, 0))),
            ("guest", Some((SHUTDOWN, 0))),
            ("host", Some((SHUTDOWN, 0))),
        ],
    },
    Event {
        name: "pmsuspended",
        state: Some(PMSUSPENDED),
        details: &[
            ("memory", Some((PMSUSPENDED, 0))),
            ("disk", Some((PMSUSPENDED, 0))),
        ],
    },
    Event {
        name: "crashed",
        state: Some(CRASHED),
        // A crash kernel was loaded and runs: libvirt leaves the domain running.
        details: &[("panicked", Some((CRASHED, 1))), ("crashloaded", None)],
    },
];

/// What a lifecycle event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifecycle {
    /// What happened, such as `stopped`.
    pub name: &'static str,
    /// Which way, such as `crashed`.
    pub detail: &'static str,
    /// The state and the reason that the domain then has; None where the event changes neither, or
    /// is not known here.
    pub state: Option<(i64, i64)>,
}

/// The name of a `virDomainState`.
pub fn state_name(state: i64) -> &'static str {
    at(&STATES, state).map_or(UNKNOWN, |(name, _)| *name)
}

/// The name of a state's reason.
pub fn reason_name(state: i64, reason: i64) -> &'static str {
    at(&STATES, state)
        .and_then(|(_, reasons)| at(reasons, reason))
        .unwrap_or(&UNKNOWN)
}

/// Whether the guest stands still because one of its disks failed. It is neither down nor does it
/// work, and its host's storage may be why: a finding of its own.
pub fn is_io_error(state: i64, reason: i64) -> bool {
    (state, reason) == (PAUSED, PAUSED_IOERROR)
}

/// What a `virDomainEventType` with its detail says. A detail that is not known leaves the state that
/// its event leads to, for a reason that is not known.
pub fn lifecycle(event: i32, detail: i32) -> Lifecycle {
    let Some(event) = at(&EVENTS, event.into()) else {
        return Lifecycle {
            name: UNKNOWN,
            detail: UNKNOWN,
            state: None,
        };
    };
    let later = (UNKNOWN, event.state.map(|state| (state, 0)));
    let (detail, state) = *at(event.details, detail.into()).unwrap_or(&later);
    Lifecycle {
        name: event.name,
        detail,
        state,
    }
}

fn at<T>(list: &[T], code: i64) -> Option<&T> {
    list.get(usize::try_from(code).ok()?)
}
