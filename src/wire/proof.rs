//! Pure. The proof of origin that a message of ours carries as `ha_proof`: HMAC-SHA256 under a key of
//! its host's own over every other entry but the standard signature, which comes last and covers it.
//!
//! What is summed is no text that a person reads but an encoding that can be divided in one way only:
//! each value begins with its kind, and what can be of any length with its length. So nothing can be
//! moved from one entry into the next, and 1, `"1"` and `true` are three values. A double is summed by
//! its bits, so that a transport which tells it as text has to give the very same one back.

use hmac::Mac;

use super::keys::{HmacSha256, HostKey};
use super::signature::{self, from_hex, to_hex};
use crate::model::Value;

/// The key that holds the proof.
pub const KEY: &str = "ha_proof";

/// Keeps these sums apart from any other that a key may ever be used for.
const DOMAIN: &[u8] = b"ceilometer-ha proof 1\0";

/// The room that an encoding usually needs.
const USUAL_BYTES: usize = 1024;

/// The proof of a message under a key: `<key number>:<64 hex digits>`.
pub(super) fn make<K: AsRef<str>>(message: &[(K, Value)], key: &HostKey) -> String {
    let sum = summed(message, key.mac()).finalize().into_bytes();
    format!("{}:{}", key.number(), to_hex(&sum))
}

/// A proof as a message claims it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claimed {
    /// The number of the key.
    pub(super) number: u32,
    sum: [u8; 32],
}

impl Claimed {
    /// Reads a proof; None if it isn't spelt as [`make`] spells it.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (number, sum) = text.split_once(':')?;
        Some(Claimed {
            number: read_number(number)?,
            sum: from_hex(sum)?,
        })
    }

    /// Whether it is what this key yields for this message.
    pub(super) fn is_by<K: AsRef<str>>(&self, key: &HostKey, message: &[(K, Value)]) -> bool {
        // This comparison takes the same time wherever the two differ.
        summed(message, key.mac()).verify_slice(&self.sum).is_ok()
    }
}

/// The number of a key: from 1, in digits alone, without zeros before it.
pub(super) fn read_number(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|digit| digit.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_plain)
}

fn summed<K: AsRef<str>>(message: &[(K, Value)], mut mac: HmacSha256) -> HmacSha256 {
    let mut encoded = Vec::with_capacity(USUAL_BYTES);
    encoded.extend_from_slice(DOMAIN);
    let entries = message.iter().map(|(key, value)| (key.as_ref(), value));
    let covered = entries.filter(|(key, _)| *key != KEY && *key != signature::KEY);
    write_map(&mut encoded, covered.collect());
    mac.update(&encoded);
    mac
}

fn write_map(out: &mut Vec<u8>, mut entries: Vec<(&str, &Value)>) {
    entries.sort_unstable_by_key(|(key, _)| *key);
    out.push(b'm');
    write_length(out, entries.len());
    for (key, value) in entries {
        write_bytes(out, key.as_bytes());
        write_value(out, value);
    }
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(b'n'),
        Value::Bool(false) => out.push(b'f'),
        Value::Bool(true) => out.push(b't'),
        Value::Int(number) => {
            out.push(b'i');
            write_bytes(out, number.to_string().as_bytes());
        }
        Value::Float(number) => {
            // Whatever bits a NaN has, each transport has a single one.
            let number = if number.is_nan() { f64::NAN } else { *number };
            out.push(b'd');
            out.extend_from_slice(&number.to_bits().to_be_bytes());
        }
        Value::Text(text) => {
            out.push(b's');
            write_bytes(out, text.as_bytes());
        }
        Value::List(items) => {
            out.push(b'l');
            write_length(out, items.len());
            for item in items {
                write_value(out, item);
            }
        }
        Value::Map(entries) => {
            let entries = entries.iter().map(|(key, value)| (key.as_str(), value));
            write_map(out, entries.collect());
        }
    }
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn write_length(out: &mut Vec<u8>, length: usize) {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    out.extend_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> HostKey {
        HostKey::new("n", 7, [9; 32])
    }

    fn proof(message: &[(&str, Value)]) -> String {
        make(message, &key())
    }

    /// What another program that verifies has to come to. The sum was made with Python's hmac.
    #[test]
    fn the_encoding_is_a_contract() {
        let message = [
            ("b", Value::Int(-7)),
            (
                "a",
                Value::List(vec![Value::Null, Value::Bool(true), "é".into()]),
            ),
            (
                "c",
                Value::Map(vec![
                    ("z".into(), Value::Float(0.5)),
                    ("y".into(), "".into()),
                ]),
            ),
            (KEY, "not covered".into()),
            (signature::KEY, "not covered".into()),
        ];
        assert_eq!(proof(&message), CONTRACT);
    }
    const CONTRACT: &str = "7:ae8dc2d8773250f854a42d5acedf9eca9d2ee2e1481efe110798642037145a14";

    #[test]
    fn what_reads_alike_is_not_the_same() {
        let text = |text: &str| Value::from(text);
        let map = |key: &str, value| Value::Map(vec![(key.to_owned(), value)]);
        let messages: Vec<Vec<(&str, Value)>> = vec![
            vec![],
            vec![("a", Value::Null)],
            vec![("a", text("None"))],
            vec![("a", Value::Int(1))],
            vec![("a", text("1"))],
            vec![("a", Value::Bool(true))],
            vec![("a", Value::Float(1.0))],
            vec![("a", text("1b2"))],
            vec![("a", text("1")), ("b", text("2"))],
            vec![("a", Value::Float(0.0))],
            vec![("a", Value::Float(-0.0))],
            vec![("a", map("b", text("1")))],
            vec![("a:b", text("1"))],
            vec![("a", Value::Map(vec![]))],
            vec![("a", Value::List(vec![]))],
            vec![("a", Value::List(vec![text("1"), text("2")]))],
            vec![("a", Value::List(vec![text("12")]))],
        ];
        let proofs: Vec<String> = messages.iter().map(|message| proof(message)).collect();
        for (index, one) in proofs.iter().enumerate() {
            let first = proofs.iter().position(|other| other == one);
            assert_eq!(first, Some(index), "{:?}", messages[index]);
        }
    }

    #[test]
    fn the_order_of_entries_is_none() {
        let inner = vec![
            ("x".to_owned(), Value::Int(1)),
            ("y".to_owned(), Value::Null),
        ];
        let turned = inner.iter().rev().cloned().collect();
        let one = [("a", Value::Map(inner)), ("b", Value::Int(2))];
        let other = [("b", Value::Int(2)), ("a", Value::Map(turned))];
        assert_eq!(proof(&one), proof(&other));
    }

    #[test]
    fn a_proof_has_one_spelling() {
        let message = [("a", Value::Int(1))];
        let good = proof(&message);
        assert!(Claimed::read(&good).unwrap().is_by(&key(), &message));
        let sum = good.split_once(':').unwrap().1;
        for wrong in [
            String::new(),
            sum.to_owned(),
            format!(":{sum}"),
            format!("0:{sum}"),
            format!("07:{sum}"),
            format!("+7:{sum}"),
            format!("7 :{sum}"),
            format!("4294967296:{sum}"),
            format!("7:{}", sum.to_uppercase().replace(char::is_numeric, "A")),
            format!("7:{sum}0"),
            format!("7:{}", &sum[..62]),
        ] {
            assert_eq!(Claimed::read(&wrong), None, "{wrong}");
        }
        for (host_key, is_it) in [
            (HostKey::new("n", 7, [9; 32]), true),
            (HostKey::new("n", 7, [8; 32]), false),
        ] {
            assert_eq!(
                Claimed::read(&good).unwrap().is_by(&host_key, &message),
                is_it
            );
        }
    }
}
