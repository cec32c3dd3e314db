//! Pure. The signature of a metering message, as Ceilometer's `publisher.utils.compute_signature`
//! makes it: HMAC-SHA256 over the name and the text of every entry in sorted order of keys, nested
//! maps flattened with `:`.
//!
//! What it doesn't protect is part of the format: there is nothing between the texts, so that one
//! text can be cut into entries in several ways (see `message` for where that would matter); null
//! and the text `None` look alike, and so do 1 and the text `1`; and of a double an old sender
//! signs twelve digits.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Refusal;
use super::pytext::{self, Dialect};
use crate::model::{Secret, Value};

/// The key that holds the signature, and the only one that it doesn't cover.
pub const KEY: &str = "message_signature";

/// The most text that one signature may cover: sixteen times the largest datagram. A byte inside
/// a list can become four (`\xc5`), and a nested key repeats the names above it, so a crafted
/// datagram could ask for a hundred megabytes to be hashed before its signature is known to be
/// wrong. An honest message above the limit is refused as too large.
pub const SIGNED_BYTES_MAX: usize = 1 << 20;

type HmacSha256 = Hmac<Sha256>;

/// The signature of a message, in hex, in the text that current senders sign; empty for an empty
/// secret, as Ceilometer has it, and for a message beyond [`SIGNED_BYTES_MAX`], which no receiver
/// of ours would take.
pub fn sign<K: AsRef<str>>(message: &[(K, Value)], secret: &Secret) -> String {
    let sum = keyed(secret).and_then(|key| Sum::over(key, message, Dialect::Current).ok());
    sum.map(|sum| to_hex(&sum.mac.finalize().into_bytes()))
        .unwrap_or_default()
}

/// Whether the message carries the signature that this secret yields for it, in the text of a
/// current sender or of an old one. An empty secret verifies nothing: who takes everything must
/// not think that it was checked.
pub fn verify<K: AsRef<str>>(message: &[(K, Value)], secret: &Secret) -> Result<(), Refusal> {
    let claimed = claimed(message)?;
    let key = keyed(secret).ok_or(Refusal::BadSignature)?;
    for dialect in [Dialect::Current, Dialect::Old, Dialect::OldLong] {
        let sum = Sum::over(key.clone(), message, dialect)?;
        // This comparison takes the same time wherever the two differ.
        if sum.mac.verify_slice(&claimed).is_ok() {
            return Ok(());
        }
        if sum.same_in_all {
            break;
        }
    }
    Err(Refusal::BadSignature)
}

/// The signature that the message carries.
fn claimed<K: AsRef<str>>(message: &[(K, Value)]) -> Result<[u8; 32], Refusal> {
    match message.iter().find(|(key, _)| key.as_ref() == KEY) {
        None | Some((_, Value::Null)) => Err(Refusal::NoSignature),
        Some((_, Value::Text(text))) if text.is_empty() => Err(Refusal::NoSignature),
        Some((_, Value::Text(text))) => from_hex(text).ok_or(Refusal::BadSignature),
        Some(_) => Err(Refusal::BadSignature),
    }
}

fn keyed(secret: &Secret) -> Option<HmacSha256> {
    if secret.is_empty() {
        return None;
    }
    HmacSha256::new_from_slice(secret.expose().as_bytes()).ok()
}

/// How much text is gathered before it is fed to the hash: many small pieces cost more than one.
const GATHER_BYTES: usize = 512;

/// A signature in the making.
struct Sum {
    mac: HmacSha256,
    /// Text that was not fed yet.
    gathered: String,
    /// Bytes fed so far.
    fed: usize,
    /// Whether every other dialect would have yielded the same text so far.
    same_in_all: bool,
}

impl Sum {
    fn over<K: AsRef<str>>(
        key: HmacSha256,
        message: &[(K, Value)],
        dialect: Dialect,
    ) -> Result<Self, Refusal> {
        let mut sum = Sum {
            mac: key,
            gathered: String::with_capacity(GATHER_BYTES),
            fed: 0,
            same_in_all: true,
        };
        walk(message, &mut String::new(), &mut |name, value| {
            sum.add(name, value, dialect)
        })?;
        sum.feed()?;
        Ok(sum)
    }

    fn add(&mut self, name: &str, value: &Value, dialect: Dialect) -> Result<(), Refusal> {
        self.same_in_all = self.same_in_all && pytext::is_same_in_all(value);
        self.gathered.push_str(name);
        pytext::write_str(&mut self.gathered, value, dialect);
        if self.gathered.len() < GATHER_BYTES {
            return Ok(());
        }
        self.feed()
    }

    fn feed(&mut self) -> Result<(), Refusal> {
        self.fed += self.gathered.len();
        if self.fed > SIGNED_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        self.mac.update(self.gathered.as_bytes());
        self.gathered.clear();
        Ok(())
    }
}

/// What [`walk`] calls with the flattened name and the value of each entry.
type Visit<'a> = dyn FnMut(&str, &Value) -> Result<(), Refusal> + 'a;

/// Visits the entries that a signature covers, in its order. `path` holds the names above, with
/// their colons. UTF-8 bytes sort as the code points do that Python compares.
fn walk<K: AsRef<str>>(
    entries: &[(K, Value)],
    path: &mut String,
    visit: &mut Visit<'_>,
) -> Result<(), Refusal> {
    let entries = entries.iter();
    let mut sorted: Vec<(&str, &Value)> =
        entries.map(|(key, value)| (key.as_ref(), value)).collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    let parent = path.len();
    for (key, value) in sorted {
        path.push_str(key);
        match value {
            Value::Map(inner) => {
                path.push(':');
                walk(inner, path, visit)?;
            }
            _ if path == KEY => {}
            _ => visit(path, value)?,
        }
        path.truncate(parent);
    }
    Ok(())
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads 64 lower-case digits. Others than lower-case ones are wrong: Ceilometer compares texts.
pub(super) fn from_hex(text: &str) -> Option<[u8; 32]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::msgpack;

    fn signed_text<K: AsRef<str>>(message: &[(K, Value)], dialect: Dialect) -> String {
        let mut text = String::new();
        walk(message, &mut String::new(), &mut |name, value| {
            text.push_str(name);
            pytext::write_str(&mut text, value, dialect);
            Ok(())
        })
        .unwrap();
        text
    }

    /// A field of a golden line, by hand: some of the lines hold NaN and Infinity, which are
    /// Python's and not JSON's.
    fn field(line: &str, name: &str) -> String {
        let (_, rest) = line.split_once(&format!("\"{name}\": ")).unwrap();
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        values.next().unwrap().unwrap()
    }

    #[test]
    fn the_signed_text_is_that_of_the_golden_senders() {
        let lines: Vec<&str> = include_str!("../../tests/fixtures/udp.jsonl")
            .lines()
            .collect();
        assert_eq!(lines.len(), 57);
        for line in lines {
            let datagram = hex(&field(line, "datagram_hex"));
            let message = msgpack::messages(&datagram).remove(0).unwrap();
            let secret = Secret::new(field(line, "secret"));
            let name = field(line, "name");
            let texts = [
                (Dialect::Old, "signed_text_old"),
                (Dialect::Current, "signed_text_current"),
            ];
            for (dialect, key) in texts {
                assert_eq!(signed_text(&message, dialect), field(line, key), "{name}");
            }
            let signature = sign(&message, &secret);
            assert_eq!(signature, field(line, "signature_current"), "{name}");
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        let pairs = text.as_bytes().chunks(2);
        pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn signed(mut message: Vec<(String, Value)>, secret: &Secret) -> Vec<(String, Value)> {
        let signature = sign(&message, secret);
        message.push((KEY.to_owned(), signature.into()));
        message
    }

    #[test]
    fn a_signature_is_of_one_secret_and_one_spelling() {
        let secret = Secret::new("right");
        let mut message = signed(vec![("a".to_owned(), Value::Int(1))], &secret);
        assert_eq!(verify(&message, &secret), Ok(()));
        for other in ["wrong", "right ", ""] {
            let outcome = verify(&message, &Secret::new(other));
            assert_eq!(outcome, Err(Refusal::BadSignature), "{other}");
        }
        let good = message[1].1.as_str().unwrap().to_owned();
        for spelling in [
            good.to_uppercase(),
            good[..63].to_owned(),
            good.clone() + "0",
        ] {
            message[1].1 = spelling.into();
            assert_eq!(verify(&message, &secret), Err(Refusal::BadSignature));
        }
    }

    #[test]
    fn nothing_signed_with_an_empty_secret_is_taken() {
        let empty = Secret::new("");
        let message = signed(vec![("a".to_owned(), Value::Int(1))], &empty);
        assert_eq!(message[1].1, Value::from(""));
        assert_eq!(verify(&message, &empty), Err(Refusal::NoSignature));
        assert_eq!(verify(&message[..1], &empty), Err(Refusal::NoSignature));
    }

    #[test]
    fn an_empty_map_adds_nothing_and_a_nested_signature_key_is_signed() {
        let nested = |key: &str| Value::Map(vec![(key.to_owned(), Value::Null)]);
        let message = vec![
            ("z".to_owned(), nested(KEY)),
            (KEY.to_owned(), Value::from("skipped")),
            ("a".to_owned(), Value::Map(vec![])),
        ];
        assert_eq!(
            signed_text(&message, Dialect::Current),
            "z:message_signatureNone"
        );
    }

    #[test]
    fn a_crafted_message_cannot_ask_for_endless_hashing() {
        let leaves = (0..4000).map(|number| (format!("{number}"), Value::Null));
        let long_key = "k".repeat(32_000);
        let message = vec![
            (long_key, Value::Map(leaves.collect())),
            (KEY.to_owned(), "0".repeat(64).into()),
        ];
        let outcome = verify(&message, &Secret::new("s"));
        assert_eq!(outcome, Err(Refusal::TooLarge));
    }
}
