//! Pure. Why a datagram, or one message of it, was not taken.

/// Why a message was refused. One refusal is one lost message, or one lost datagram where the
/// datagram could not even be divided into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Longer than a datagram can be, or longer than a signature may cover.
    #[error("the message is too large")]
    TooLarge,
    /// Not msgpack: cut short, a reserved byte, or bytes left over behind the end.
    #[error("the datagram is not msgpack")]
    NotMsgpack,
    /// Valid msgpack of a kind that no metering message holds, such as an extension type.
    #[error("the message holds a type that no metering message has")]
    UnsupportedType,
    /// A string that isn't UTF-8.
    #[error("the message holds a string that is not UTF-8")]
    BadText,
    /// Maps and lists within each other beyond the limit.
    #[error("the message is nested too deeply")]
    TooDeep,
    /// More values than the limit.
    #[error("the message has too many entries")]
    TooManyEntries,
    /// A list of more messages than the limit.
    #[error("the datagram has too many messages")]
    TooManyMessages,
    /// One key twice in one map: two readers could understand it in two ways.
    #[error("the message has a key twice in one map")]
    DuplicateKey,
    /// Something else where a message should be.
    #[error("the message is not a map")]
    NotAMap,
    /// No signature, or an empty one.
    #[error("the message is not signed")]
    NoSignature,
    /// A signature that the shared secret doesn't yield for this message.
    #[error("the message's signature is wrong")]
    BadSignature,
    /// A signed message without one of the twelve standard keys.
    #[error("the message has no {0}")]
    MissingField(&'static str),
    /// A signed message with a value that no table can hold.
    #[error("the message's {0} has no meaning")]
    BadField(&'static str),
    /// A signed message with some of the keys that identify a reading of ours, but not all of
    /// them, or with values that can't be an identity.
    #[error("the message's observer, epoch and sequence do not make an identity")]
    BadIdentity,
    /// A signed message whose version isn't a whole number from 1.
    #[error("the message's version has no meaning")]
    UnsupportedVersion,
}

impl Refusal {
    /// Every label that [`Refusal::as_str`] can give, so that each counter can start at zero.
    pub const LABELS: [&'static str; 15] = [
        "too_large",
        "not_msgpack",
        "unsupported_type",
        "bad_text",
        "too_deep",
        "too_many_entries",
        "too_many_messages",
        "duplicate_key",
        "not_a_map",
        "no_signature",
        "bad_signature",
        "missing_field",
        "bad_field",
        "bad_identity",
        "unsupported_version",
    ];

    /// The name in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::TooLarge => "too_large",
            Refusal::NotMsgpack => "not_msgpack",
            Refusal::UnsupportedType => "unsupported_type",
            Refusal::BadText => "bad_text",
            Refusal::TooDeep => "too_deep",
            Refusal::TooManyEntries => "too_many_entries",
            Refusal::TooManyMessages => "too_many_messages",
            Refusal::DuplicateKey => "duplicate_key",
            Refusal::NotAMap => "not_a_map",
            Refusal::NoSignature => "no_signature",
            Refusal::BadSignature => "bad_signature",
            Refusal::MissingField(_) => "missing_field",
            Refusal::BadField(_) => "bad_field",
            Refusal::BadIdentity => "bad_identity",
            Refusal::UnsupportedVersion => "unsupported_version",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_label_of_its_own_in_the_list() {
        let all = [
            Refusal::TooLarge,
            Refusal::NotMsgpack,
            Refusal::UnsupportedType,
            Refusal::BadText,
            Refusal::TooDeep,
            Refusal::TooManyEntries,
            Refusal::TooManyMessages,
            Refusal::DuplicateKey,
            Refusal::NotAMap,
            Refusal::NoSignature,
            Refusal::BadSignature,
            Refusal::MissingField("timestamp"),
            Refusal::BadField("timestamp"),
            Refusal::BadIdentity,
            Refusal::UnsupportedVersion,
        ];
        assert_eq!(all.map(Refusal::as_str), Refusal::LABELS);
        let distinct: std::collections::BTreeSet<_> = Refusal::LABELS.into_iter().collect();
        assert_eq!(distinct.len(), Refusal::LABELS.len());
    }

    #[test]
    fn the_words_name_the_field() {
        let refusal = Refusal::BadField("counter_volume");
        assert_eq!(
            refusal.to_string(),
            "the message's counter_volume has no meaning"
        );
    }
}
