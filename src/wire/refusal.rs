//! Pure. Why a datagram or a body, or one message of it, was not taken.

/// Why a message was refused. One refusal is one lost message, or one lost datagram where the
/// datagram could not even be divided into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Longer than a datagram can be or a body may be, or longer than a signature may cover.
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
    #[error("the datagram or body has too many messages")]
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
    /// A body from the message broker that isn't JSON.
    #[error("the body is not JSON")]
    NotJson,
    /// A body from the message broker that is no notification: without a payload, or in an envelope of
    /// another version.
    #[error("the body is not a notification of oslo.messaging, version 2")]
    NotAnEnvelope,
    /// A proof that its observer's key doesn't yield for this message.
    #[error("the message's proof is wrong")]
    BadProof,
    /// No proof, where the observer has to prove what it says.
    #[error("the message has no proof, and its observer has to have one")]
    NoProof,
    /// A proof by a key whose number isn't known for its observer.
    #[error("the message's proof is by a key that is not known")]
    UnknownKey,
    /// A proof by a key that was retired.
    #[error("the message's proof is by a key that was retired")]
    ExpiredKey,
    /// A message about another host than its observer, which may not look at others.
    #[error("the message is about another host than the one that sent it")]
    WrongHost,
    /// A message that names another path than the one by which it came.
    #[error("the message came by another way than the one it names")]
    OtherPath,
}

impl Refusal {
    /// Every member, with `…` for the name of a field.
    pub const ALL: [Refusal; 23] = [
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
        Refusal::MissingField("…"),
        Refusal::BadField("…"),
        Refusal::BadIdentity,
        Refusal::UnsupportedVersion,
        Refusal::NotJson,
        Refusal::NotAnEnvelope,
        Refusal::BadProof,
        Refusal::NoProof,
        Refusal::UnknownKey,
        Refusal::ExpiredKey,
        Refusal::WrongHost,
        Refusal::OtherPath,
    ];

    /// Its place in [`Refusal::ALL`]. A new member must be thought about here.
    pub fn index(self) -> usize {
        match self {
            Refusal::TooLarge => 0,
            Refusal::NotMsgpack => 1,
            Refusal::UnsupportedType => 2,
            Refusal::BadText => 3,
            Refusal::TooDeep => 4,
            Refusal::TooManyEntries => 5,
            Refusal::TooManyMessages => 6,
            Refusal::DuplicateKey => 7,
            Refusal::NotAMap => 8,
            Refusal::NoSignature => 9,
            Refusal::BadSignature => 10,
            Refusal::MissingField(_) => 11,
            Refusal::BadField(_) => 12,
            Refusal::BadIdentity => 13,
            Refusal::UnsupportedVersion => 14,
            Refusal::NotJson => 15,
            Refusal::NotAnEnvelope => 16,
            Refusal::BadProof => 17,
            Refusal::NoProof => 18,
            Refusal::UnknownKey => 19,
            Refusal::ExpiredKey => 20,
            Refusal::WrongHost => 21,
            Refusal::OtherPath => 22,
        }
    }

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
            Refusal::NotJson => "not_json",
            Refusal::NotAnEnvelope => "not_an_envelope",
            Refusal::BadProof => "bad_proof",
            Refusal::NoProof => "no_proof",
            Refusal::UnknownKey => "unknown_key",
            Refusal::ExpiredKey => "expired_key",
            Refusal::WrongHost => "wrong_host",
            Refusal::OtherPath => "other_path",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_place_and_a_label_of_its_own() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal.index(), index, "{refusal:?}");
        }
        let labels = Refusal::ALL.map(Refusal::as_str);
        let distinct: std::collections::BTreeSet<_> = labels.into_iter().collect();
        assert_eq!(distinct.len(), Refusal::ALL.len());
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
