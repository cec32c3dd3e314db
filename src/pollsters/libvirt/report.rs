//! Pure. What libvirt reports: the states of domains, and what happens to them.

/// A domain's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainState {
    /// Its UUID.
    pub uuid: String,
    /// Its name in libvirt, such as `instance-0000002a`.
    pub name: String,
    /// The `virDomainState`.
    pub state: i64,
    /// The reason; what it means depends on the state.
    pub reason: i64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// To a domain.
    Domain {
        /// Its UUID.
        uuid: String,
        /// Its name in libvirt.
        name: String,
        /// What.
        what: What,
    },
    /// To the connection: it is gone.
    Closed,
}

/// What happened to a domain. The numbers are libvirt's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A `virDomainEventType` with its detail.
    Lifecycle(i32, i32),
    /// The guest rebooted.
    Reboot,
    /// Its watchdog bit: a `virDomainEventWatchdogAction`.
    Watchdog(i32),
    /// A disk of it failed: a `virDomainEventIOErrorAction`, and QEMU's word for why.
    IoError(i32, String),
    /// libvirt lost its QEMU's monitor.
    ControlError,
    /// Its metadata was edited.
    Metadata,
}

/// A statistic of a domain, by its name in `virConnectGetAllDomainStats`.
#[derive(Debug, Clone, PartialEq)]
pub enum Statistic {
    /// Any whole number.
    Number(i128),
    /// A fraction.
    Fraction(f64),
    /// A truth value.
    Truth(bool),
    /// A text.
    Text(String),
}
