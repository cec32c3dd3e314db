//! What an operator changed by hand, for whoever reads the log later.

/// A host's present was removed.
pub fn host_forgotten(host: &str, words: &str) {
    tracing::warn!(host, "a host was forgotten: {words}");
}

/// Messages were dropped from quarantine.
pub fn quarantine_purged(messages: usize) {
    tracing::warn!(messages, "messages were dropped from quarantine");
}
