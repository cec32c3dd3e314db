//! Pure. What libvirt reports: the states of domains, and what happens to them.

use std::fmt;

/// A domain's UUID. Its text is made when it is needed: a round of hundreds of domains is quick
/// because nothing is allocated for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A domain's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DomainState {
    /// Its UUID.
    pub uuid: Uuid,
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
        uuid: Uuid,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_as_everywhere() {
        let uuid = Uuid(0x6695_eb01_f6a4_8304_79aa_97f2_502e_193f_u128.to_be_bytes());
        assert_eq!(uuid.to_string(), "6695eb01-f6a4-8304-79aa-97f2502e193f");
    }
}
