//! Pure. The states of an instance, by the numbers and names that libvirt gives them: the volume of
//! `instance.state` and `power.state`.

/// The names by `virDomainState` (libvirt-domain.h).
pub const INSTANCE_STATES: [&str; 8] = [
    "nostate",
    "running",
    "blocked",
    "paused",
    "shutdown",
    "shutoff",
    "crashed",
    "pmsuspended",
];

/// The name of a state; None for one of a later libvirt.
pub fn instance_state_name(state: i64) -> Option<&'static str> {
    let index = usize::try_from(state).ok()?;
    INSTANCE_STATES.get(index).copied()
}
