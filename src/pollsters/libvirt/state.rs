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

/// By `virDomainState`: its reasons, by `virDomainRunningReason` and so on.
const REASONS: [&[&str]; 8] = [
    &[UNKNOWN],
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
    &[UNKNOWN],
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
    &[UNKNOWN, "user"],
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
    &[UNKNOWN, "panicked"],
    &[UNKNOWN],
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

/// The name of a state's reason.
pub fn reason_name(state: i64, reason: i64) -> &'static str {
    at(&REASONS, state)
        .and_then(|reasons| at(reasons, reason))
        .unwrap_or(&UNKNOWN)
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

/// Whether an event says that a guest runs elsewhere from now on (`VIR_DOMAIN_EVENT_STOPPED_MIGRATED`).
pub fn is_migrated_away(event: i32, detail: i32) -> bool {
    let Lifecycle { name, detail, .. } = lifecycle(event, detail);
    (name, detail) == ("stopped", "migrated")
}

fn at<T>(list: &[T], code: i64) -> Option<&T> {
    list.get(usize::try_from(code).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{INSTANCE_STATES, instance_state_name};

    /// Constants of libvirt's header, as the bindings have them: their tail behind a prefix in
    /// lower case, and their number.
    macro_rules! constants {
        ($prefix:literal: $($name:ident)+) => {
            [$({
                let tail = stringify!($name).strip_prefix($prefix).unwrap();
                (tail.to_ascii_lowercase(), i64::from(virt_sys::$name))
            }),+]
        };
    }

    /// The names are these, in the order of their numbers, and no more.
    fn assert_names(constants: &[(String, i64)], names: Vec<&str>) {
        let expected: Vec<(String, i64)> = (0..).zip(names).map(|(n, s)| (s.into(), n)).collect();
        assert_eq!(constants, expected);
    }

    fn reasons(state: u32) -> Vec<&'static str> {
        REASONS[state as usize].to_vec()
    }

    fn details(event: u32) -> Vec<&'static str> {
        let details = EVENTS[event as usize].details.iter();
        details.map(|(name, _)| *name).collect()
    }

    #[test]
    fn states_are_those_of_the_header() {
        let states = constants!("VIR_DOMAIN_": VIR_DOMAIN_NOSTATE VIR_DOMAIN_RUNNING
            VIR_DOMAIN_BLOCKED VIR_DOMAIN_PAUSED VIR_DOMAIN_SHUTDOWN VIR_DOMAIN_SHUTOFF
            VIR_DOMAIN_CRASHED VIR_DOMAIN_PMSUSPENDED);
        assert_names(&states, INSTANCE_STATES.to_vec());
        let ours = [RUNNING, PAUSED, SHUTDOWN, SHUTOFF, CRASHED, PMSUSPENDED];
        let names = ours.map(|state| instance_state_name(state).unwrap());
        let expected = [
            "running",
            "paused",
            "shutdown",
            "shutoff",
            "crashed",
            "pmsuspended",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn reasons_are_those_of_the_header() {
        let nostate = constants!("VIR_DOMAIN_NOSTATE_": VIR_DOMAIN_NOSTATE_UNKNOWN);
        assert_names(&nostate, reasons(virt_sys::VIR_DOMAIN_NOSTATE));
        let running = constants!("VIR_DOMAIN_RUNNING_": VIR_DOMAIN_RUNNING_UNKNOWN
            VIR_DOMAIN_RUNNING_BOOTED VIR_DOMAIN_RUNNING_MIGRATED VIR_DOMAIN_RUNNING_RESTORED
            VIR_DOMAIN_RUNNING_FROM_SNAPSHOT VIR_DOMAIN_RUNNING_UNPAUSED
            VIR_DOMAIN_RUNNING_MIGRATION_CANCELED VIR_DOMAIN_RUNNING_SAVE_CANCELED
            VIR_DOMAIN_RUNNING_WAKEUP VIR_DOMAIN_RUNNING_CRASHED VIR_DOMAIN_RUNNING_POSTCOPY
            VIR_DOMAIN_RUNNING_POSTCOPY_FAILED);
        assert_names(&running, reasons(virt_sys::VIR_DOMAIN_RUNNING));
        let blocked = constants!("VIR_DOMAIN_BLOCKED_": VIR_DOMAIN_BLOCKED_UNKNOWN);
        assert_names(&blocked, reasons(virt_sys::VIR_DOMAIN_BLOCKED));
        let paused = constants!("VIR_DOMAIN_PAUSED_": VIR_DOMAIN_PAUSED_UNKNOWN
            VIR_DOMAIN_PAUSED_USER VIR_DOMAIN_PAUSED_MIGRATION VIR_DOMAIN_PAUSED_SAVE
            VIR_DOMAIN_PAUSED_DUMP VIR_DOMAIN_PAUSED_IOERROR VIR_DOMAIN_PAUSED_WATCHDOG
            VIR_DOMAIN_PAUSED_FROM_SNAPSHOT VIR_DOMAIN_PAUSED_SHUTTING_DOWN
            VIR_DOMAIN_PAUSED_SNAPSHOT VIR_DOMAIN_PAUSED_CRASHED VIR_DOMAIN_PAUSED_STARTING_UP
            VIR_DOMAIN_PAUSED_POSTCOPY VIR_DOMAIN_PAUSED_POSTCOPY_FAILED
            VIR_DOMAIN_PAUSED_API_ERROR);
        assert_names(&paused, reasons(virt_sys::VIR_DOMAIN_PAUSED));
        let shutdown = constants!("VIR_DOMAIN_SHUTDOWN_": VIR_DOMAIN_SHUTDOWN_UNKNOWN
            VIR_DOMAIN_SHUTDOWN_USER);
        assert_names(&shutdown, reasons(virt_sys::VIR_DOMAIN_SHUTDOWN));
        let shutoff = constants!("VIR_DOMAIN_SHUTOFF_": VIR_DOMAIN_SHUTOFF_UNKNOWN
            VIR_DOMAIN_SHUTOFF_SHUTDOWN VIR_DOMAIN_SHUTOFF_DESTROYED VIR_DOMAIN_SHUTOFF_CRASHED
            VIR_DOMAIN_SHUTOFF_MIGRATED VIR_DOMAIN_SHUTOFF_SAVED VIR_DOMAIN_SHUTOFF_FAILED
            VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT VIR_DOMAIN_SHUTOFF_DAEMON);
        assert_names(&shutoff, reasons(virt_sys::VIR_DOMAIN_SHUTOFF));
        let crashed = constants!("VIR_DOMAIN_CRASHED_": VIR_DOMAIN_CRASHED_UNKNOWN
            VIR_DOMAIN_CRASHED_PANICKED);
        assert_names(&crashed, reasons(virt_sys::VIR_DOMAIN_CRASHED));
        let suspended = constants!("VIR_DOMAIN_PMSUSPENDED_": VIR_DOMAIN_PMSUSPENDED_UNKNOWN);
        assert_names(&suspended, reasons(virt_sys::VIR_DOMAIN_PMSUSPENDED));
    }

    #[test]
    fn events_are_those_of_the_header() {
        let events = constants!("VIR_DOMAIN_EVENT_": VIR_DOMAIN_EVENT_DEFINED
            VIR_DOMAIN_EVENT_UNDEFINED VIR_DOMAIN_EVENT_STARTED VIR_DOMAIN_EVENT_SUSPENDED
            VIR_DOMAIN_EVENT_RESUMED VIR_DOMAIN_EVENT_STOPPED VIR_DOMAIN_EVENT_SHUTDOWN
            VIR_DOMAIN_EVENT_PMSUSPENDED VIR_DOMAIN_EVENT_CRASHED);
        assert_names(&events, EVENTS.iter().map(|event| event.name).collect());
    }

    #[test]
    fn details_are_those_of_the_header() {
        let defined = constants!("VIR_DOMAIN_EVENT_DEFINED_": VIR_DOMAIN_EVENT_DEFINED_ADDED
            VIR_DOMAIN_EVENT_DEFINED_UPDATED VIR_DOMAIN_EVENT_DEFINED_RENAMED
            VIR_DOMAIN_EVENT_DEFINED_FROM_SNAPSHOT);
        assert_names(&defined, details(virt_sys::VIR_DOMAIN_EVENT_DEFINED));
        let undefined = constants!("VIR_DOMAIN_EVENT_UNDEFINED_":
            VIR_DOMAIN_EVENT_UNDEFINED_REMOVED VIR_DOMAIN_EVENT_UNDEFINED_RENAMED);
        assert_names(&undefined, details(virt_sys::VIR_DOMAIN_EVENT_UNDEFINED));
        let started = constants!("VIR_DOMAIN_EVENT_STARTED_": VIR_DOMAIN_EVENT_STARTED_BOOTED
            VIR_DOMAIN_EVENT_STARTED_MIGRATED VIR_DOMAIN_EVENT_STARTED_RESTORED
            VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT VIR_DOMAIN_EVENT_STARTED_WAKEUP
            VIR_DOMAIN_EVENT_STARTED_RECREATED);
        assert_names(&started, details(virt_sys::VIR_DOMAIN_EVENT_STARTED));
        let suspended = constants!("VIR_DOMAIN_EVENT_SUSPENDED_":
            VIR_DOMAIN_EVENT_SUSPENDED_PAUSED VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED
            VIR_DOMAIN_EVENT_SUSPENDED_IOERROR VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG
            VIR_DOMAIN_EVENT_SUSPENDED_RESTORED VIR_DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT
            VIR_DOMAIN_EVENT_SUSPENDED_API_ERROR VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY
            VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED VIR_DOMAIN_EVENT_SUSPENDED_GUEST_SHUTDOWN);
        assert_names(&suspended, details(virt_sys::VIR_DOMAIN_EVENT_SUSPENDED));
        let resumed = constants!("VIR_DOMAIN_EVENT_RESUMED_": VIR_DOMAIN_EVENT_RESUMED_UNPAUSED
            VIR_DOMAIN_EVENT_RESUMED_MIGRATED VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT
            VIR_DOMAIN_EVENT_RESUMED_POSTCOPY VIR_DOMAIN_EVENT_RESUMED_POSTCOPY_FAILED);
        assert_names(&resumed, details(virt_sys::VIR_DOMAIN_EVENT_RESUMED));
        let stopped = constants!("VIR_DOMAIN_EVENT_STOPPED_": VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN
            VIR_DOMAIN_EVENT_STOPPED_DESTROYED VIR_DOMAIN_EVENT_STOPPED_CRASHED
            VIR_DOMAIN_EVENT_STOPPED_MIGRATED VIR_DOMAIN_EVENT_STOPPED_SAVED
            VIR_DOMAIN_EVENT_STOPPED_FAILED VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT
            VIR_DOMAIN_EVENT_STOPPED_RECREATED);
        assert_names(&stopped, details(virt_sys::VIR_DOMAIN_EVENT_STOPPED));
        let shutdown = constants!("VIR_DOMAIN_EVENT_SHUTDOWN_":
            VIR_DOMAIN_EVENT_SHUTDOWN_FINISHED VIR_DOMAIN_EVENT_SHUTDOWN_GUEST
            VIR_DOMAIN_EVENT_SHUTDOWN_HOST);
        assert_names(&shutdown, details(virt_sys::VIR_DOMAIN_EVENT_SHUTDOWN));
        let pmsuspended = constants!("VIR_DOMAIN_EVENT_PMSUSPENDED_":
            VIR_DOMAIN_EVENT_PMSUSPENDED_MEMORY VIR_DOMAIN_EVENT_PMSUSPENDED_DISK);
        assert_names(
            &pmsuspended,
            details(virt_sys::VIR_DOMAIN_EVENT_PMSUSPENDED),
        );
        let crashed = constants!("VIR_DOMAIN_EVENT_CRASHED_": VIR_DOMAIN_EVENT_CRASHED_PANICKED
            VIR_DOMAIN_EVENT_CRASHED_CRASHLOADED);
        assert_names(&crashed, details(virt_sys::VIR_DOMAIN_EVENT_CRASHED));
    }

    #[test]
    fn what_an_event_leaves_behind() {
        for (event, detail, after) in [
            ("defined", "added", None),
            ("undefined", "removed", None),
            ("started", "booted", Some("running booted")),
            ("started", "migrated", Some("paused migration")),
            ("started", "restored", Some("running restored")),
            ("started", "from_snapshot", Some("running from_snapshot")),
            ("started", "wakeup", Some("running wakeup")),
            ("suspended", "paused", Some("paused user")),
            ("suspended", "migrated", Some("paused migration")),
            ("suspended", "ioerror", Some("paused ioerror")),
            ("suspended", "watchdog", Some("paused watchdog")),
            ("suspended", "restored", Some("paused unknown")),
            ("suspended", "from_snapshot", Some("paused from_snapshot")),
            ("suspended", "api_error", Some("paused api_error")),
            ("suspended", "postcopy", Some("paused postcopy")),
            (
                "suspended",
                "postcopy_failed",
                Some("paused postcopy_failed"),
            ),
            ("suspended", "guest_shutdown", Some("paused shutting_down")),
            ("resumed", "unpaused", Some("running unpaused")),
            ("resumed", "migrated", Some("running migrated")),
            ("resumed", "from_snapshot", Some("running from_snapshot")),
            ("resumed", "postcopy", Some("running postcopy")),
            (
                "resumed",
                "postcopy_failed",
                Some("running postcopy_failed"),
            ),
            ("stopped", "shutdown", Some("shutoff shutdown")),
            ("stopped", "destroyed", Some("shutoff destroyed")),
            ("stopped", "crashed", Some("shutoff crashed")),
            ("stopped", "migrated", Some("shutoff migrated")),
            ("stopped", "saved", Some("shutoff saved")),
            ("stopped", "failed", Some("shutoff failed")),
            ("stopped", "from_snapshot", Some("shutoff from_snapshot")),
            ("shutdown", "guest", Some("shutdown unknown")),
            ("pmsuspended", "memory", Some("pmsuspended unknown")),
            ("crashed", "panicked", Some("crashed panicked")),
            ("crashed", "crashloaded", None),
        ] {
            let found = of_names(event, detail);
            assert_eq!((found.name, found.detail), (event, detail));
            let state = found.state;
            let state = state
                .map(|(s, r)| format!("{} {}", instance_state_name(s).unwrap(), reason_name(s, r)));
            assert_eq!(state.as_deref(), after, "{event} {detail}");
        }
    }

    fn of_names(event: &str, detail: &str) -> Lifecycle {
        let at = EVENTS.iter().position(|known| known.name == event).unwrap();
        let mut details = EVENTS[at].details.iter();
        let detail = details.position(|known| known.0 == detail).unwrap();
        lifecycle(i32::try_from(at).unwrap(), i32::try_from(detail).unwrap())
    }

    #[test]
    fn codes_of_the_future_have_a_name_and_no_number() {
        for state in [-1, 8, i64::MAX, i64::MIN] {
            assert_eq!(instance_state_name(state), None);
            assert_eq!(reason_name(state, 1), "unknown");
        }
        for (state, reason) in [(RUNNING, 12), (PAUSED, 15), (SHUTOFF, 9), (SHUTOFF, -1)] {
            assert_eq!(reason_name(state, reason), "unknown");
        }
        let event = lifecycle(9, 0);
        assert_eq!(
            (event.name, event.detail, event.state),
            (UNKNOWN, UNKNOWN, None)
        );
        let event = lifecycle(-1, -1);
        assert_eq!(
            (event.name, event.detail, event.state),
            (UNKNOWN, UNKNOWN, None)
        );
        let event = lifecycle(5, 99);
        assert_eq!((event.name, event.detail), ("stopped", UNKNOWN));
        assert_eq!(event.state, Some((SHUTOFF, 0)));
        assert_eq!(lifecycle(0, 99).state, None);
    }
}
