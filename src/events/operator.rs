//! What an operator changed by hand, for whoever reads the log later.

/// A host's present was removed.
pub fn host_forgotten(host: &str, words: &str) {
    tracing::warn!(host, "a host was forgotten: {words}");
}

/// Another epoch of a host is its present.
pub fn identity_reset(host: &str, words: &str) {
    tracing::warn!(host, "a host's identity was reset: {words}");
}

/// The keys file was changed.
pub fn keys_changed(what: &str) {
    tracing::warn!("the keys of hosts were changed: {what}");
}

/// Messages were dropped from quarantine.
pub fn quarantine_purged(messages: usize) {
    tracing::warn!(messages, "messages were dropped from quarantine");
}
