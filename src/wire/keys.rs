//! Pure. The keys by which hosts prove what they say. A key has a number, so that several may hold
//! while a fleet changes from one to the next. The keys of number N are derived from one master secret;
//! a node has its own alone, collectors have the master or the keys of those whom they are to believe.
//!
//! A keys file has a line for each: `master N HEX`, `key HOST N HEX`, `retired N` for a number that is no
//! longer believed, `retired N HOST` for one host's. A node's file has one line: `HOST N HEX`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit};
use sha2::Sha256;

use super::proof::read_number;
use super::signature::{from_hex, to_hex};

/// The longest keys file, in bytes: forty thousand hosts with a line each. A longer one is refused.
pub const KEYS_BYTES_MAX: usize = 4 << 20;
/// The longest file of a node's own key, in bytes: one line and room for comments. A longer one is
/// something else, and is refused.
pub const HOST_KEY_BYTES_MAX: usize = 4096;
/// The longest name of a host, in characters: what the database's columns hold. A line with a longer one
/// is refused.
const HOST_CHARS_MAX: usize = 255;

const SALT: &[u8] = b"ceilometer-ha host key";

pub(super) type HmacSha256 = Hmac<Sha256>;

/// The key of one host, ready to be used.
#[derive(Clone)]
pub struct HostKey {
    host: String,
    number: u32,
    secret: [u8; 32],
    mac: HmacSha256,
}

impl HostKey {
    /// A host's key of this number.
    pub fn new(host: &str, number: u32, secret: [u8; 32]) -> Self {
        // HMAC fills a short key up with zeros.
        let mut block = [0; 64];
        for (place, byte) in block.iter_mut().zip(secret) {
            *place = byte;
        }
        HostKey {
            host: host.to_owned(),
            number,
            secret,
            mac: HmacSha256::new(&block.into()),
        }
    }

    /// Reads the file of a node's own key.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        const EXPECTED: &str =
            "expected one line HOST NUMBER KEY, as `compute-ha key issue` writes it";
        let mut lines = lines(text);
        let Some((line, words)) = lines.next() else {
            return Err(KeysError::at(1, format!("found no key, {EXPECTED}")));
        };
        if let Some((line, _)) = lines.next() {
            return Err(KeysError::at(
                line,
                format!("found a second line, {EXPECTED}"),
            ));
        }
        let [host, number, secret] = words.as_slice() else {
            let count = words.len();
            return Err(KeysError::at(
                line,
                format!("found {count} words, {EXPECTED}"),
            ));
        };
        let reader = LineReader { line };
        Ok(HostKey::new(
            reader.host(host)?,
            reader.number(number)?,
            reader.secret(secret)?,
        ))
    }

    /// The host that it is the key of.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The file that a node is given: its secret in the open.
    pub fn issued(&self) -> String {
        format!("{} {} {}\n", self.host, self.number, to_hex(&self.secret))
    }

    pub(super) fn mac(&self) -> HmacSha256 {
        self.mac.clone()
    }
}

impl PartialEq for HostKey {
    fn eq(&self, other: &Self) -> bool {
        let all = |key: &Self| (key.number, key.secret);
        all(self) == all(other) && self.host == other.host
    }
}

impl Eq for HostKey {}

impl fmt::Debug for HostKey {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({} {})", self.host, self.number)
    }
}

/// What is wrong with a file of keys. It never repeats what may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct KeysError {
    /// The line, from 1.
    pub line: usize,
    /// What was found and what was expected.
    pub message: String,
}

impl KeysError {
    fn at(line: usize, message: impl Into<String>) -> Self {
        KeysError {
            line,
            message: message.into(),
        }
    }
}

/// All keys that a collector knows, and those that it believes no more.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeyRing {
    masters: BTreeMap<u32, [u8; 32]>,
    keys: HashMap<String, BTreeMap<u32, [u8; 32]>>,
    retired: BTreeSet<u32>,
    retired_of: HashMap<String, BTreeSet<u32>>,
}

/// What a keys file says of a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The host's key.
    Key(Box<HostKey>),
    /// It is no longer believed.
    Retired,
    /// No such number is known for this host.
    Unknown,
}

impl KeyRing {
    /// Reads a keys file.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let mut ring = KeyRing::default();
        for (line, words) in lines(text) {
            ring.take(LineReader { line }, &words)?;
        }
        Ok(ring)
    }

    fn take(&mut self, reader: LineReader, words: &[&str]) -> Result<(), KeysError> {
        let is_new = match words {
            ["master", number, secret] => {
                let (number, secret) = (reader.number(number)?, reader.secret(secret)?);
                self.masters.insert(number, secret).is_none()
            }
            ["key", host, number, secret] => {
                let (number, secret) = (reader.number(number)?, reader.secret(secret)?);
                let keys = self.keys.entry(reader.host(host)?.to_owned());
                keys.or_default().insert(number, secret).is_none()
            }
            ["retired", number] => self.retired.insert(reader.number(number)?),
            ["retired", number, host] => {
                let number = reader.number(number)?;
                let retired = self.retired_of.entry(reader.host(host)?.to_owned());
                retired.or_default().insert(number)
            }
            _ => {
                return Err(reader.wrong(
                    "found something else than master N KEY, key HOST N KEY, retired N or retired N HOST",
                ));
            }
        };
        match is_new {
            true => Ok(()),
            false => Err(reader.wrong("found what a line above says already, expected it once")),
        }
    }

    /// Whether there is no key in it at all.
    pub fn is_empty(&self) -> bool {
        self.masters.is_empty() && self.keys.is_empty()
    }

    /// Whether there is any key by which a host could prove what it says.
    pub fn knows(&self, host: &str) -> bool {
        !self.masters.is_empty() || self.keys.contains_key(host)
    }

    /// Whether a number is no longer believed of a host.
    pub fn is_retired(&self, host: &str, number: u32) -> bool {
        let of_host = self.retired_of.get(host);
        self.retired.contains(&number) || of_host.is_some_and(|numbers| numbers.contains(&number))
    }

    /// The key of a host. A line of its own goes before the master of that number.
    pub fn find(&self, host: &str, number: u32) -> Lookup {
        if self.is_retired(host, number) {
            return Lookup::Retired;
        }
        let own = self.keys.get(host).and_then(|keys| keys.get(&number));
        let own = own.copied().or_else(|| {
            let master = self.masters.get(&number)?;
            derive(master, host, number)
        });
        own.map_or(Lookup::Unknown, |secret| {
            Lookup::Key(Box::new(HostKey::new(host, number, secret)))
        })
    }

    /// The newest key of a host that a master yields and that is not retired.
    pub fn newest(&self, host: &str) -> Option<HostKey> {
        let mut numbers = self.masters.keys().rev();
        let number = numbers.find(|number| !self.is_retired(host, **number))?;
        match self.find(host, *number) {
            Lookup::Key(key) => Some(*key),
            Lookup::Retired | Lookup::Unknown => None,
        }
    }

    /// The number of the next master; None if numbers have run out.
    pub fn next_number(&self) -> Option<u32> {
        let of_hosts = self.keys.values().flat_map(BTreeMap::keys);
        let all = self.masters.keys().chain(of_hosts).chain(&self.retired);
        all.max().map_or(Some(1), |last| last.checked_add(1))
    }

    /// The numbers of masters, and whether each is retired.
    pub fn masters(&self) -> impl Iterator<Item = (u32, bool)> + '_ {
        let numbers = self.masters.keys().copied();
        numbers.map(|number| (number, self.retired.contains(&number)))
    }

    /// The hosts that have keys of their own here, with their numbers.
    pub fn keys(&self) -> impl Iterator<Item = (&str, u32)> {
        let numbers = |(host, keys): (_, &BTreeMap<u32, [u8; 32]>)| {
            let keys: Vec<u32> = keys.keys().copied().collect();
            keys.into_iter().map(move |number| (host, number))
        };
        let hosts = self.keys.iter().map(|(host, keys)| (host.as_str(), keys));
        hosts.flat_map(numbers)
    }
}

impl fmt::Debug for KeyRing {
    /// Leaves the secrets out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("masters", &self.masters.keys())
            .field("hosts", &self.keys.len())
            .field("retired", &self.retired)
            .finish_non_exhaustive()
    }
}

/// The line of a new master.
pub fn master_line(number: u32, secret: &[u8; 32]) -> String {
    format!("master {number} {}\n", to_hex(secret))
}

/// The line by which a number is retired, of one host or of all.
pub fn retired_line(number: u32, host: Option<&str>) -> String {
    match host {
        Some(host) => format!("retired {number} {host}\n"),
        None => format!("retired {number}\n"),
    }
}

/// The secret of a host's key. None only if HKDF could not yield 32 bytes, which it always can.
fn derive(master: &[u8; 32], host: &str, number: u32) -> Option<[u8; 32]> {
    let length = u32::try_from(host.len()).ok()?.to_be_bytes();
    let info = [&length[..], host.as_bytes(), &number.to_be_bytes()].concat();
    let mut secret = [0; 32];
    let master = Hkdf::<Sha256>::new(Some(SALT), master);
    master.expand(&info, &mut secret).ok()?;
    Some(secret)
}

/// The lines that say something, with their numbers and words.
fn lines(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let lines = (1..).zip(text.lines());
    lines.filter_map(|(number, line)| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let says_something = words.first().is_some_and(|word| !word.starts_with('#'));
        says_something.then_some((number, words))
    })
}

/// Reads the words of one line.
#[derive(Clone, Copy)]
struct LineReader {
    line: usize,
}

impl LineReader {
    fn number(self, word: &str) -> Result<u32, KeysError> {
        read_number(word).ok_or_else(|| {
            self.wrong(
                "found no number of a key where it belongs, expected one from 1 to 4294967295",
            )
        })
    }

    fn host(self, word: &str) -> Result<&str, KeysError> {
        if word.chars().count() > HOST_CHARS_MAX {
            return Err(self.wrong("found a host's name of more than 255 characters"));
        }
        Ok(word)
    }

    fn secret(self, word: &str) -> Result<[u8; 32], KeysError> {
        let count = word.chars().count();
        from_hex(word).ok_or_else(|| {
            self.wrong(format!(
                "found a key of {count} characters, expected 64 digits from 0 to 9 and a to f"
            ))
        })
    }

    fn wrong(self, message: impl Into<String>) -> KeysError {
        KeysError::at(self.line, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn ring(text: &str) -> KeyRing {
        KeyRing::parse(text).unwrap()
    }

    fn is_key(lookup: &Lookup) -> bool {
        matches!(lookup, Lookup::Key(_))
    }

    /// What another program that derives has to come to. The keys were made with Python's hmac, by the
    /// words of RFC 5869.
    #[test]
    fn a_host_s_key_is_derived_from_its_name_and_the_number() {
        let ring = ring(&format!("master 1 {HEX}\nmaster 12 {HEX}"));
        let issued = |host, number| match ring.find(host, number) {
            Lookup::Key(key) => key.issued(),
            other => panic!("{other:?}"),
        };
        assert_eq!(issued("node-1", 1), DERIVED_1);
        assert_eq!(issued("node-1", 12), DERIVED_12);
        assert_ne!(issued("node-11", 1), issued("node-1", 1));
    }
    const DERIVED_1: &str =
        "node-1 1 68a5a7dc4d3a548c1da5bfe43a83453f4de7b673a2977bd8acb483b76f023161\n";
    const DERIVED_12: &str =
        "node-1 12 2556d307f39334820e3f9877ecc2b127427b203ab2328675473b3e1c061cf74e\n";

    #[test]
    fn the_table_of_lookups() {
        let ring = ring(&format!(
            "# comment\n\nmaster 1 {HEX}\n  master 2 {HEX}\nkey a 3 {HEX}\nretired 1\nretired 2 b\n"
        ));
        for (host, number, expected) in [
            ("a", 1, "retired"),
            ("a", 2, "key"),
            ("a", 3, "key"),
            ("b", 2, "retired"),
            ("b", 3, "unknown"),
            ("c", 2, "key"),
            ("c", 4, "unknown"),
        ] {
            let found = match ring.find(host, number) {
                Lookup::Key(key) => {
                    assert_eq!((key.host(), key.number()), (host, number));
                    "key"
                }
                Lookup::Retired => "retired",
                Lookup::Unknown => "unknown",
            };
            assert_eq!(found, expected, "{host} {number}");
        }
        assert_eq!(ring.newest("c").unwrap().number(), 2);
        assert_eq!(ring.newest("b"), None);
        assert_eq!(ring.next_number(), Some(4));
        assert_eq!(KeyRing::default().next_number(), Some(1));
    }

    #[test]
    fn a_host_without_a_line_is_unknown_where_there_is_no_master() {
        let ring = ring(&format!("key a 3 {HEX}"));
        assert!(ring.knows("a") && !ring.knows("b") && !ring.is_empty());
        assert!(is_key(&ring.find("a", 3)) && !is_key(&ring.find("b", 3)));
        assert!(KeyRing::default().is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_without_the_secret() {
        let long = "h".repeat(256);
        for (text, line, words) in [
            (format!("master 1 {HEX}\nmaster 1 {HEX}"), 2, "once"),
            (format!("key a 1 {HEX}\nkey a 1 {HEX}"), 2, "once"),
            ("retired 1\nretired 1".to_owned(), 2, "once"),
            (format!("master 0 {HEX}"), 1, "from 1 to"),
            (format!("master 01 {HEX}"), 1, "from 1 to"),
            (format!("master +1 {HEX}"), 1, "from 1 to"),
            (format!("master 4294967296 {HEX}"), 1, "from 1 to"),
            (format!("\n\nmaster 1 {HEX}0"), 3, "65 characters"),
            (format!("master 1 {}", HEX.to_uppercase()), 1, "64 digits"),
            (format!("master 1 {HEX} {HEX}"), 1, "something else"),
            (HEX.to_owned(), 1, "something else"),
            (format!("key {long} 1 {HEX}"), 1, "255"),
            ("retired".to_owned(), 1, "something else"),
        ] {
            let error = KeyRing::parse(&text).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(error.message.contains(words), "{error}");
            assert!(
                !error.to_string().to_lowercase().contains(&HEX[..8]),
                "{error}"
            );
        }
    }

    #[test]
    fn a_node_s_file_is_what_was_issued() {
        let key = HostKey::new("n", 4, [0xab; 32]);
        assert_eq!(HostKey::parse(&key.issued()).unwrap(), key);
        let commented = format!("# of n\n{}\n", key.issued());
        assert_eq!(HostKey::parse(&commented).unwrap(), key);
        for wrong in [
            "",
            "# n",
            "n 1",
            &key.issued().repeat(2),
            &format!("n 1 {HEX} x"),
        ] {
            assert!(HostKey::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_that_is_printed_holds_a_key() {
        let ring = ring(&format!("master 1 {HEX}\nkey a 3 {HEX}"));
        let key = ring.newest("a").unwrap();
        let text = format!("{ring:?} {key:?} {:?}", ring.find("a", 3));
        assert!(!text.contains("0011") && !text.contains("17, 34"), "{text}");
        assert!(!text.contains(&key.issued()[4..12]), "{text}");
    }
}
