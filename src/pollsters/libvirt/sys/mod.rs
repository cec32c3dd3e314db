//! libvirt's C functions, made safe: the only folder of this crate with `unsafe` in it.
//!
//! The crate `virt` opens the connection and runs the event loop. Called from here, because `virt`
//! has no good way to them: statistics (its `all_domain_stats` leaks every record), events and the
//! close callback (it has none), the errno behind an error, and every release of an object (its
//! `Drop` panics when libvirt refuses, and a panic ends the agent).
#![allow(unsafe_code)]

mod events;
mod failure;
mod statistics;

use std::ffi::{CStr, c_char, c_int};
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;

use virt::connect::Connect;
use virt_sys as sys;

use self::events::{closed, event_callbacks, into_opaque, release, start_event_loop};
use self::failure::last_failure;
use self::statistics::Records;
use super::report::{DomainState, Statistic, Uuid};

pub use self::events::Listener;
pub use self::failure::{Failure, FailureKind};

/// The most domains that are looked at. A host has some hundreds at most; what claims to have more
/// is refused, because a round that leaves some out would not be complete.
pub const DOMAINS_MAX: usize = 10_000;

/// The groups of statistics that Ceilometer's meters are made from. All but the last enter the
/// guest's QEMU.
pub const GROUPS: u32 = sys::VIR_DOMAIN_STATS_CPU_TOTAL
    | sys::VIR_DOMAIN_STATS_BALLOON
    | sys::VIR_DOMAIN_STATS_VCPU
    | sys::VIR_DOMAIN_STATS_BLOCK
    | sys::VIR_DOMAIN_STATS_INTERFACE;

/// Seconds between two keepalive messages on an idle connection, and how many may go unanswered: a
/// hung libvirtd is noticed after three seconds, also where nobody asks it anything.
const KEEPALIVE_SECONDS: i32 = 1;
const KEEPALIVE_COUNT: u32 = 2;

/// A connection for reading.
pub struct Connection {
    connect: ManuallyDrop<Connect>,
    callbacks: Vec<c_int>,
    hears_close: bool,
    /// What is registered refers to it, and doesn't keep it.
    listener: Option<Listener>,
}

impl Connection {
    /// Opens one. May block for ever: a libvirtd that is stopped accepts and never answers.
    pub fn open(uri: &str) -> Result<Self, Failure> {
        start_event_loop()?;
        if uri.contains('\0') {
            return Err(Failure {
                kind: FailureKind::Unusable,
                text: "the URI holds a zero byte".to_owned(),
            });
        }
        let connect = Connect::open_read_only(Some(uri)).map_err(|_| last_failure())?;
        // The test driver has no keepalive and needs none.
        let _ = connect.set_keep_alive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT);
        Ok(Connection {
            connect: ManuallyDrop::new(connect),
            callbacks: Vec::new(),
            hears_close: false,
            listener: None,
        })
    }

    /// Hands what happens from now on to `listener`.
    pub fn listen(&mut self, listener: &Listener) -> Result<(), Failure> {
        self.listener = Some(Arc::clone(listener));
        self.hear_close(listener)?;
        for (id, callback) in event_callbacks() {
            let opaque = into_opaque(listener);
            // SAFETY: the connection lives; each callback has the signature that libvirt documents
            // for its event; `opaque` is released by `release` alone, once, when libvirt drops the
            // registration, or right here when there is none.
            let registered = unsafe {
                sys::virConnectDomainEventRegisterAny(
                    self.ptr(),
                    ptr::null_mut(),
                    id,
                    callback,
                    opaque,
                    Some(release),
                )
            };
            if registered < 0 {
                let failure = last_failure();
                // SAFETY: libvirt took nothing over.
                unsafe { release(opaque) };
                return Err(failure);
            }
            self.callbacks.push(registered);
        }
        Ok(())
    }

    fn hear_close(&mut self, listener: &Listener) -> Result<(), Failure> {
        let opaque = into_opaque(listener);
        // SAFETY: as for the events above.
        let registered = unsafe {
            sys::virConnectRegisterCloseCallback(self.ptr(), Some(closed), opaque, Some(release))
        };
        if registered < 0 {
            let failure = last_failure();
            // SAFETY: libvirt took nothing over.
            unsafe { release(opaque) };
            return Err(failure);
        }
        self.hears_close = true;
        Ok(())
    }

    /// Whether it answers: the smallest question that goes to libvirtd and back.
    pub fn ping(&self) -> Result<(), Failure> {
        self.connect
            .num_of_domains()
            .map(|_| ())
            .map_err(|_| self.failure())
    }

    /// The state of every domain, running or not, in one call that enters no QEMU.
    pub fn states(&self) -> Result<Vec<DomainState>, Failure> {
        let records = self.all_statistics(sys::VIR_DOMAIN_STATS_STATE)?;
        if records.len() > DOMAINS_MAX {
            return Err(Failure {
                kind: FailureKind::Other,
                text: format!(
                    "found {} domains, expected {DOMAINS_MAX} at most",
                    records.len()
                ),
            });
        }
        Ok(records.iter().filter_map(|record| record.state()).collect())
    }

    /// The state of one domain; None if there is no such domain.
    pub fn state_of(&self, uuid: Uuid) -> Result<Option<DomainState>, Failure> {
        let Some(domain) = self.domain(uuid)? else {
            return Ok(None);
        };
        let (mut state, mut reason) = (0, 0);
        // SAFETY: the domain lives, and both places are ours.
        let got = unsafe { sys::virDomainGetState(domain.ptr, &raw mut state, &raw mut reason, 0) };
        if got < 0 {
            return self.unless_gone();
        }
        Ok(Some(DomainState {
            uuid,
            state: state.into(),
            reason: reason.into(),
        }))
    }

    /// The definition of one domain; None if there is no such domain.
    pub fn xml_of(&self, uuid: Uuid) -> Result<Option<String>, Failure> {
        let Some(domain) = self.domain(uuid)? else {
            return Ok(None);
        };
        // SAFETY: the domain lives.
        let text = unsafe { sys::virDomainGetXMLDesc(domain.ptr, 0) };
        if text.is_null() {
            return self.unless_gone();
        }
        // SAFETY: libvirt hands over a text of its own that ends in a zero byte, for us to free.
        let copy = unsafe { text_of(text) };
        unsafe { libc::free(text.cast()) };
        Ok(Some(copy))
    }

    /// Statistics of one domain by groups (`VIR_DOMAIN_STATS_…`); None if there is no such domain.
    /// Most groups enter its QEMU, and block as long as that doesn't answer.
    pub fn statistics_of(
        &self,
        uuid: Uuid,
        groups: u32,
    ) -> Result<Option<Vec<(String, Statistic)>>, Failure> {
        let Some(domain) = self.domain(uuid)? else {
            return Ok(None);
        };
        let mut list = [domain.ptr, ptr::null_mut()];
        let mut records = ptr::null_mut();
        // SAFETY: the list ends in a null, its domain lives, and the place for the records is ours.
        let got =
            unsafe { sys::virDomainListGetStats(list.as_mut_ptr(), groups, &raw mut records, 0) };
        if got < 0 {
            return self.unless_gone();
        }
        let records = Records::new(records, got);
        Ok(records.iter().next().map(|record| record.statistics()))
    }

    fn all_statistics(&self, groups: u32) -> Result<Records, Failure> {
        let mut records = ptr::null_mut();
        // SAFETY: the connection lives, and the place for the records is ours.
        let got =
            unsafe { sys::virConnectGetAllDomainStats(self.ptr(), groups, &raw mut records, 0) };
        if got < 0 {
            return Err(self.failure());
        }
        Ok(Records::new(records, got))
    }

    fn domain(&self, uuid: Uuid) -> Result<Option<DomainRef>, Failure> {
        // SAFETY: the connection lives, and the UUID has VIR_UUID_BUFLEN bytes.
        let domain = unsafe { sys::virDomainLookupByUUID(self.ptr(), uuid.0.as_ptr()) };
        if domain.is_null() {
            return self.unless_gone();
        }
        Ok(Some(DomainRef { ptr: domain }))
    }

    /// None where the last error says that the domain is gone.
    fn unless_gone<T>(&self) -> Result<Option<T>, Failure> {
        let failure = self.failure();
        if failure.kind == FailureKind::NoDomain {
            Ok(None)
        } else {
            Err(failure)
        }
    }

    /// The last error, where a connection that is gone outweighs what the error calls itself.
    fn failure(&self) -> Failure {
        let Failure { kind, text } = last_failure();
        // SAFETY: the connection lives.
        let alive = unsafe { sys::virConnectIsAlive(self.ptr()) };
        let kind = match kind {
            _ if alive == 0 => FailureKind::Dead,
            // Of an open connection these two say something about the question.
            FailureKind::Unusable | FailureKind::Missing => FailureKind::Other,
            other => other,
        };
        Failure { kind, text }
    }

    fn ptr(&self) -> sys::virConnectPtr {
        // SAFETY: the pointer is used while `self` keeps the reference.
        unsafe { self.connect.as_ptr() }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: each registration is undone once, and the one reference that we hold is given
        // back last. What libvirt says to it changes nothing.
        unsafe {
            for callback in &self.callbacks {
                sys::virConnectDomainEventDeregisterAny(self.ptr(), *callback);
            }
            if self.hears_close {
                sys::virConnectUnregisterCloseCallback(self.ptr(), Some(closed));
            }
            sys::virConnectClose(self.ptr());
        }
    }
}

/// A reference to a domain.
struct DomainRef {
    ptr: sys::virDomainPtr,
}

impl Drop for DomainRef {
    fn drop(&mut self) {
        // SAFETY: the one reference that we hold.
        unsafe { sys::virDomainFree(self.ptr) };
    }
}

fn domain_uuid(domain: sys::virDomainPtr) -> Option<Uuid> {
    let mut bytes = [0; 16];
    // SAFETY: the domain lives, and the buffer has VIR_UUID_BUFLEN bytes.
    let got = unsafe { sys::virDomainGetUUID(domain, bytes.as_mut_ptr()) };
    (got == 0).then_some(Uuid(bytes))
}

fn domain_name(domain: sys::virDomainPtr) -> String {
    // SAFETY: the domain lives, and owns the text.
    let name = unsafe { sys::virDomainGetName(domain) };
    if name.is_null() {
        return String::new();
    }
    unsafe { text_of(name) }
}

/// A copy of a C text.
///
/// # Safety
/// It must not be null and must end in a zero byte.
unsafe fn text_of(text: *const c_char) -> String {
    // SAFETY: the caller's.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}
