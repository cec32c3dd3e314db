//! libvirt's event loop, and the callbacks by which it tells what happens.

use std::ffi::{c_char, c_int, c_void};
use std::mem::transmute;
use std::sync::{Arc, OnceLock, Weak};

use virt_sys as sys;

use super::failure::last_failure;
use super::{Failure, FailureKind, domain_name, domain_uuid, text_of};
use crate::pollsters::libvirt::report::{Event, What};

/// Takes events, in libvirt's own thread: must not block and must not panic.
pub type Listener = Arc<dyn Fn(Event) + Send + Sync>;

/// libvirt's event loop, which keepalive and events need: one thread for the whole process, started
/// before the first connection is opened.
pub(super) fn start_event_loop() -> Result<(), Failure> {
    static STARTED: OnceLock<Result<(), Failure>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            // It would print every error to standard error.
            virt::error::clear_error_callback();
            virt::event::event_register_default_impl().map_err(|_| last_failure())?;
            std::thread::Builder::new()
                .name("libvirt-events".to_owned())
                .spawn(|| {
                    // It fails only when it was not registered.
                    while virt::event::event_run_default_impl().is_ok() {}
                })
                .map(|_| ())
                .map_err(|error| Failure {
                    kind: FailureKind::Other,
                    text: format!("starting libvirt's event loop: {error}"),
                })
        })
        .clone()
}

/// What libvirt holds of a listener, until it lets go of it, if it ever does: a driver that tells no
/// close keeps what it was given for that.
type Held = Weak<dyn Fn(Event) + Send + Sync>;

pub(super) fn into_opaque(listener: &Listener) -> *mut c_void {
    Box::into_raw(Box::new(Arc::downgrade(listener))).cast()
}

/// Gives back what [`into_opaque`] made.
pub(super) unsafe extern "C" fn release(opaque: *mut c_void) {
    // SAFETY: libvirt calls this once for each registration, with what we gave it.
    drop(unsafe { Box::from_raw(opaque.cast::<Held>()) });
}

/// Hands an event about a domain on.
///
/// # Safety
/// Both pointers must be those that libvirt gave a callback.
unsafe fn tell(opaque: *mut c_void, domain: sys::virDomainPtr, what: What) {
    // SAFETY: what it holds lives until `release`; libvirt calls that after the last callback.
    let held = unsafe { opaque.cast::<Held>().as_ref() };
    let Some(listener) = held.and_then(Held::upgrade) else {
        return;
    };
    if let Some(uuid) = domain_uuid(domain) {
        let name = domain_name(domain);
        listener(Event::Domain { uuid, name, what });
    }
}

pub(super) unsafe extern "C" fn closed(_: sys::virConnectPtr, _reason: c_int, opaque: *mut c_void) {
    // SAFETY: as in `tell`.
    let held = unsafe { opaque.cast::<Held>().as_ref() };
    if let Some(listener) = held.and_then(Held::upgrade) {
        listener(Event::Closed);
    }
}

unsafe extern "C" fn lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: both are libvirt's.
    unsafe { tell(opaque, domain, What::Lifecycle(event, detail)) };
    0
}

unsafe extern "C" fn reboot(_: sys::virConnectPtr, domain: sys::virDomainPtr, opaque: *mut c_void) {
    // SAFETY: both are libvirt's.
    unsafe { tell(opaque, domain, What::Reboot) };
}

unsafe extern "C" fn watchdog(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    action: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: both are libvirt's.
    unsafe { tell(opaque, domain, What::Watchdog(action)) };
}

unsafe extern "C" fn io_error(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _path: *const c_char,
    _alias: *const c_char,
    action: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    let reason = match reason.is_null() {
        true => String::new(),
        // SAFETY: libvirt ends its texts by a zero byte.
        false => unsafe { text_of(reason) },
    };
    // SAFETY: both are libvirt's.
    unsafe { tell(opaque, domain, What::IoError(action, reason)) };
}

unsafe extern "C" fn control_error(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    opaque: *mut c_void,
) {
    // SAFETY: both are libvirt's.
    unsafe { tell(opaque, domain, What::ControlError) };
}

unsafe extern "C" fn metadata(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _kind: c_int,
    _uri: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: both are libvirt's.
    unsafe { tell(opaque, domain, What::Metadata) };
}

/// A callback as registering takes it, whatever its event.
pub(super) type Callback = sys::virConnectDomainEventGenericCallback;

/// Every event that is listened to.
pub(super) fn event_callbacks() -> [(c_int, Callback); 6] {
    // SAFETY: libvirt casts each back to the type that belongs to its event, which is the type that
    // the function has here.
    unsafe {
        [
            (
                id(sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE),
                transmute::<*const (), Callback>(lifecycle as *const ()),
            ),
            (id(sys::VIR_DOMAIN_EVENT_ID_REBOOT), Some(reboot)),
            (
                id(sys::VIR_DOMAIN_EVENT_ID_WATCHDOG),
                transmute::<*const (), Callback>(watchdog as *const ()),
            ),
            (
                id(sys::VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON),
                transmute::<*const (), Callback>(io_error as *const ()),
            ),
            (
                id(sys::VIR_DOMAIN_EVENT_ID_CONTROL_ERROR),
                Some(control_error),
            ),
            (
                id(sys::VIR_DOMAIN_EVENT_ID_METADATA_CHANGE),
                transmute::<*const (), Callback>(metadata as *const ()),
            ),
        ]
    }
}

fn id(event: sys::virDomainEventID) -> c_int {
    c_int::try_from(event).unwrap_or(c_int::MAX)
}
