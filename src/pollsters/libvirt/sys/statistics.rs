//! Records of statistics as libvirt hands them out.

use std::ffi::{CStr, c_int};

use virt_sys as sys;

use super::{domain_uuid, text_of};
use crate::pollsters::libvirt::report::{DomainState, Statistic};

/// Records of statistics, freed together.
pub(super) struct Records {
    ptr: *mut sys::virDomainStatsRecordPtr,
    count: usize,
}

impl Records {
    pub(super) fn new(ptr: *mut sys::virDomainStatsRecordPtr, count: c_int) -> Self {
        Records {
            ptr,
            count: usize::try_from(count).unwrap_or(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        // SAFETY: libvirt gave an array of this many pointers to records, which live until it is
        // freed; with none of them it may have given no array.
        let pointers = match self.ptr.is_null() {
            true => &[],
            false => unsafe { std::slice::from_raw_parts(self.ptr, self.count) },
        };
        pointers
            .iter()
            .filter(|pointer| !pointer.is_null())
            .map(|pointer| Record(unsafe { &**pointer }))
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        if !self.ptr.is_null() {
            // SAFETY: the list that libvirt gave us, freed once.
            unsafe { sys::virDomainStatsRecordListFree(self.ptr) };
        }
    }
}

/// One domain's statistics.
pub(super) struct Record<'a>(&'a sys::virDomainStatsRecord);

impl Record<'_> {
    /// None for a domain that vanished while it was looked at.
    pub(super) fn state(&self) -> Option<DomainState> {
        let (mut state, mut reason) = (None, None);
        for parameter in self.parameters() {
            match (field_of(parameter).to_bytes(), statistic_of(parameter)) {
                (b"state.state", Some(Statistic::Number(number))) => state = Some(number),
                (b"state.reason", Some(Statistic::Number(number))) => reason = Some(number),
                _ => {}
            }
        }
        Some(DomainState {
            uuid: domain_uuid(self.0.dom)?,
            state: state.and_then(|state| i64::try_from(state).ok())?,
            reason: reason.and_then(|reason| i64::try_from(reason).ok())?,
        })
    }

    pub(super) fn statistics(&self) -> Vec<(String, Statistic)> {
        let named = |parameter| {
            let name = field_of(parameter).to_string_lossy().into_owned();
            Some((name, statistic_of(parameter)?))
        };
        self.parameters().iter().filter_map(named).collect()
    }

    fn parameters(&self) -> &[sys::virTypedParameter] {
        let count = usize::try_from(self.0.nparams).unwrap_or(0);
        if self.0.params.is_null() || count == 0 {
            return &[];
        }
        // SAFETY: the record says how many there are, and they live as long as it does.
        unsafe { std::slice::from_raw_parts(self.0.params, count) }
    }
}

fn field_of(parameter: &sys::virTypedParameter) -> &CStr {
    // SAFETY: libvirt ends the name within its 80 bytes by a zero byte.
    unsafe { CStr::from_ptr(parameter.field.as_ptr()) }
}

fn statistic_of(parameter: &sys::virTypedParameter) -> Option<Statistic> {
    let kind = u32::try_from(parameter.type_).ok()?;
    let value = &parameter.value;
    // SAFETY: the type says which member of the union is set.
    unsafe {
        match kind {
            sys::VIR_TYPED_PARAM_INT => Some(Statistic::Number(value.i.into())),
            sys::VIR_TYPED_PARAM_UINT => Some(Statistic::Number(value.ui.into())),
            sys::VIR_TYPED_PARAM_LLONG => Some(Statistic::Number(value.l.into())),
            sys::VIR_TYPED_PARAM_ULLONG => Some(Statistic::Number(value.ul.into())),
            sys::VIR_TYPED_PARAM_DOUBLE => Some(Statistic::Fraction(value.d)),
            sys::VIR_TYPED_PARAM_BOOLEAN => Some(Statistic::Truth(value.b != 0)),
            sys::VIR_TYPED_PARAM_STRING if !value.s.is_null() => {
                Some(Statistic::Text(text_of(value.s)))
            }
            _ => None,
        }
    }
}
