//! What the agent says about libvirt. Readings say that something is wrong; libvirt's own words for
//! it go to the log alone, once for each change.

/// libvirt can't be asked.
pub fn hypervisor_failed(uri: &str, error: &str) {
    tracing::warn!(uri, error, "libvirt can't be asked");
}

/// libvirt answers again.
pub fn hypervisor_answers(uri: &str) {
    tracing::info!(uri, "libvirt answers");
}

/// A domain's definition can't be read; its state is known all the same.
pub fn instance_unreadable(uuid: &str, error: &str) {
    tracing::warn!(
        instance = uuid,
        error,
        "a domain's definition can't be read"
    );
}
