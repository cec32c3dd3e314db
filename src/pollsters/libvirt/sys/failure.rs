//! What libvirt says when a call fails.

use std::ffi::c_int;

use virt_sys as sys;

use super::text_of;

/// What kind of failure it was, as far as anybody acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// We may not.
    Denied,
    /// No driver, or a URI that can't be understood.
    Unusable,
    /// There is no socket where it should be.
    Missing,
    /// It is not there any more, or never answered.
    Dead,
    /// There is no such domain.
    NoDomain,
    /// It answered, and the answer was an error.
    Other,
}

/// A call to libvirt that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// What to make of it.
    pub kind: FailureKind,
    /// libvirt's own words.
    pub text: String,
}

/// What libvirt says about the last call of this thread.
pub(super) fn last_failure() -> Failure {
    // SAFETY: the error is this thread's own and lives until its next call.
    let error = unsafe { sys::virGetLastError().as_ref() };
    let Some(error) = error else {
        return Failure {
            kind: FailureKind::Other,
            text: "libvirt doesn't say why".to_owned(),
        };
    };
    let text = match error.message.is_null() {
        true => String::new(),
        // SAFETY: checked, and libvirt ends its texts by a zero byte.
        false => unsafe { text_of(error.message) },
    };
    let code = u32::try_from(error.code).unwrap_or(sys::VIR_ERR_INTERNAL_ERROR);
    let from_rpc = u32::try_from(error.domain) == Ok(sys::VIR_FROM_RPC);
    let kind = match kind_of(code, error.int1) {
        FailureKind::Other if from_rpc => FailureKind::Dead,
        other => other,
    };
    Failure { kind, text }
}

/// What to make of an error number. With a system error libvirt keeps the errno in `int1`.
fn kind_of(code: u32, errno: c_int) -> FailureKind {
    match code {
        sys::VIR_ERR_SYSTEM_ERROR => match errno {
            libc::EACCES | libc::EPERM => FailureKind::Denied,
            libc::ENOENT => FailureKind::Missing,
            _ => FailureKind::Dead,
        },
        sys::VIR_ERR_AUTH_FAILED
        | sys::VIR_ERR_AUTH_CANCELLED
        | sys::VIR_ERR_AUTH_UNAVAILABLE
        | sys::VIR_ERR_ACCESS_DENIED
        | sys::VIR_ERR_OPERATION_DENIED => FailureKind::Denied,
        sys::VIR_ERR_NO_CONNECT
        | sys::VIR_ERR_INVALID_ARG
        | sys::VIR_ERR_NO_SUPPORT
        | sys::VIR_ERR_CONFIG_UNSUPPORTED
        | sys::VIR_ERR_CONF_SYNTAX
        | sys::VIR_ERR_XML_ERROR
        | sys::VIR_ERR_UNKNOWN_HOST => FailureKind::Unusable,
        sys::VIR_ERR_RPC | sys::VIR_ERR_NO_SERVER => FailureKind::Dead,
        sys::VIR_ERR_NO_DOMAIN => FailureKind::NoDomain,
        _ => FailureKind::Other,
    }
}
