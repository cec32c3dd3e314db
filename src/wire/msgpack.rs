//! Pure. msgpack to values and back: a decoder that a peer's bytes can't hurt, and an encoder that
//! writes what current Ceilometer's `msgpack.dumps(use_bin_type=True)` would.
//!
//! What decoding can cost is bounded by the datagram alone: a value takes at least one byte, and
//! memory is reserved only for values whose bytes can still be there, so that a datagram of 64 KiB
//! becomes at most 4 MiB of values (64 bytes for each) beside its own text. The call stack is
//! bounded by [`DEPTH_MAX`].

use std::borrow::Cow;

use rmp::Marker;
use rmp::encode::{self, ByteBuf};

use super::Refusal;
use super::pytext::{self, Dialect};
use crate::model::Value;

/// The longest datagram that is looked at: UDP's length field has sixteen bits. What is longer
/// didn't come by UDP and is refused whole.
pub const DATAGRAM_BYTES_MAX: usize = 65_535;

/// The most messages in one datagram. The smallest honest one has about 270 bytes, so that no
/// more than 242 fit; a longer list is refused whole.
pub const MESSAGES_MAX: usize = 256;

/// How deep maps and lists may stand within each other. Ceilometer's metadata has three or four
/// levels; a message beyond the limit is refused.
pub const DEPTH_MAX: usize = 32;

/// The most values in one message, a key and its value counting as one. A message of a Nova
/// instance has about fifty and Nova allows 128 metadata of a user's own; one beyond the limit is
/// refused.
pub const ENTRIES_MAX: usize = 4096;

/// A message: its entries, not yet verified. The keys point into the datagram, because they are
/// only compared: owning them would be a third of the cost of decoding.
pub type Message<'a> = Vec<(Cow<'a, str>, Value)>;

/// Takes a datagram apart: one message, or a list of them. Each is decoded on its own, so that a
/// bad one costs itself alone; where the bytes stop making sense, what is left of the datagram is
/// one more refusal.
pub fn messages(datagram: &[u8]) -> Vec<Result<Message<'_>, Refusal>> {
    if datagram.len() > DATAGRAM_BYTES_MAX {
        return vec![Err(Refusal::TooLarge)];
    }
    let mut decoder = Decoder::new(datagram);
    let count = match decoder.list_header() {
        Ok(None) => 1,
        Ok(Some(count)) if count <= MESSAGES_MAX => count,
        Ok(Some(_)) => return vec![Err(Refusal::TooManyMessages)],
        Err(refusal) => return vec![Err(refusal)],
    };
    let mut messages = Vec::with_capacity(count);
    for _ in 0..count {
        match decoder.message() {
            Ok(message) => messages.push(message),
            Err(refusal) => {
                messages.push(Err(refusal));
                return messages;
            }
        }
    }
    if !decoder.rest.is_empty() {
        messages.push(Err(Refusal::NotMsgpack));
    }
    messages
}

/// Appends one value. An integer beyond 64 bits goes as text: its signed text is the same.
pub fn write(out: &mut ByteBuf, value: &Value) {
    match value {
        Value::Null => {
            let Ok(()) = encode::write_nil(out);
        }
        Value::Bool(truth) => {
            let Ok(()) = encode::write_bool(out, *truth);
        }
        Value::Int(number) => write_int(out, *number),
        Value::Float(number) => {
            let Ok(()) = encode::write_f64(out, *number);
        }
        Value::Text(text) => {
            let Ok(()) = encode::write_str(out, text);
        }
        Value::List(items) => {
            let Ok(_) = encode::write_array_len(out, length(items.len()));
            items.iter().for_each(|item| write(out, item));
        }
        Value::Map(entries) => write_map(out, entries),
    }
}

/// Appends a map.
pub fn write_map<K: AsRef<str>>(out: &mut ByteBuf, entries: &[(K, Value)]) {
    let Ok(_) = encode::write_map_len(out, length(entries.len()));
    for (key, value) in entries {
        let Ok(()) = encode::write_str(out, key.as_ref());
        write(out, value);
    }
}

/// The head of a list of this many values, which follow it.
pub fn list_head(count: usize) -> Vec<u8> {
    let mut head = ByteBuf::new();
    let Ok(_) = encode::write_array_len(&mut head, length(count));
    head.into_vec()
}

fn write_int(out: &mut ByteBuf, number: i128) {
    if let Ok(signed) = i64::try_from(number) {
        let Ok(_) = encode::write_sint(out, signed);
    } else if let Ok(unsigned) = u64::try_from(number) {
        let Ok(_) = encode::write_uint(out, unsigned);
    } else {
        let Ok(()) = encode::write_str(out, &number.to_string());
    }
}

/// msgpack counts in 32 bits; what has more entries doesn't fit the memory of a node.
fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What the first bytes of a value say: a scalar as it is, the bytes of a string, or how many
/// values follow.
enum Head<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    /// Old raw strings, new strings and binaries: all of them are text here.
    Bytes(&'a [u8]),
    List(usize),
    Map(usize),
    /// Its bytes are already taken.
    Extension,
}

struct Decoder<'a> {
    rest: &'a [u8],
    /// How many more values the message being decoded may have.
    entries_left: usize,
}

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Decoder {
            rest: bytes,
            entries_left: 0,
        }
    }

    /// The length of the list that stands here, or None if something else does.
    fn list_header(&mut self) -> Result<Option<usize>, Refusal> {
        let before = self.rest;
        if let Head::List(count) = self.head()? {
            return Ok(Some(count));
        }
        self.rest = before;
        Ok(None)
    }

    /// The next message. A refusal inside leaves the decoder behind the message; the outer one
    /// means that its end can't be found.
    fn message(&mut self) -> Result<Result<Message<'a>, Refusal>, Refusal> {
        let start = self.rest;
        self.entries_left = ENTRIES_MAX;
        let message = match self.head()? {
            Head::Map(count) => self.entries(count, 0),
            _ => Err(Refusal::NotAMap),
        };
        if message.is_err() {
            self.rest = start;
            self.skip()?;
        }
        Ok(message)
    }

    /// Passes over one value without keeping anything of it and without recursion.
    fn skip(&mut self) -> Result<(), Refusal> {
        let mut pending: usize = 1;
        while pending > 0 {
            pending -= 1;
            pending = match self.head()? {
                Head::List(count) => pending.saturating_add(count),
                Head::Map(count) => pending.saturating_add(count.saturating_mul(2)),
                _ => pending,
            };
        }
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Value, Refusal> {
        Ok(match self.head()? {
            Head::Null => Value::Null,
            Head::Bool(truth) => Value::Bool(truth),
            Head::Int(number) => Value::Int(number),
            Head::Float(number) => Value::Float(number),
            Head::Bytes(bytes) => Value::Text(text(bytes)?.to_owned()),
            Head::List(count) => Value::List(self.list(count, depth)?),
            Head::Map(count) => Value::Map(self.entries(count, depth)?),
            Head::Extension => return Err(Refusal::UnsupportedType),
        })
    }

    fn list(&mut self, count: usize, depth: usize) -> Result<Vec<Value>, Refusal> {
        self.enter(count, depth)?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.value(depth + 1)?);
        }
        Ok(items)
    }

    fn entries<K>(&mut self, count: usize, depth: usize) -> Result<Vec<(K, Value)>, Refusal>
    where
        K: From<Cow<'a, str>> + Ord,
    {
        self.enter(count, depth)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let key = self.key()?;
            entries.push((K::from(key), self.value(depth + 1)?));
        }
        if has_twins(&entries) {
            return Err(Refusal::DuplicateKey);
        }
        Ok(entries)
    }

    /// Pays for the entries of a list or map before memory is reserved for them.
    fn enter(&mut self, count: usize, depth: usize) -> Result<(), Refusal> {
        if depth >= DEPTH_MAX {
            return Err(Refusal::TooDeep);
        }
        if count > self.rest.len() {
            return Err(Refusal::NotMsgpack);
        }
        self.entries_left = self
            .entries_left
            .checked_sub(count)
            .ok_or(Refusal::TooManyEntries)?;
        Ok(())
    }

    /// A key: text, or the text that Python gives a number, a truth value or None.
    fn key(&mut self) -> Result<Cow<'a, str>, Refusal> {
        let scalar = match self.head()? {
            Head::Bytes(bytes) => return text(bytes).map(Cow::Borrowed),
            Head::Null => Value::Null,
            Head::Bool(truth) => Value::Bool(truth),
            Head::Int(number) => Value::Int(number),
            Head::Float(number) => Value::Float(number),
            Head::List(_) | Head::Map(_) | Head::Extension => return Err(Refusal::UnsupportedType),
        };
        let mut key = String::new();
        pytext::write_str(&mut key, &scalar, Dialect::Current);
        Ok(Cow::Owned(key))
    }

    fn head(&mut self) -> Result<Head<'a>, Refusal> {
        let [marker] = self.number()?;
        Ok(match Marker::from_u8(marker) {
            Marker::FixStr(length) => Head::Bytes(self.take(length.into())?),
            Marker::FixPos(number) => Head::Int(number.into()),
            Marker::FixNeg(number) => Head::Int(number.into()),
            Marker::FixMap(count) => Head::Map(count.into()),
            Marker::FixArray(count) => Head::List(count.into()),
            Marker::Null => Head::Null,
            Marker::True => Head::Bool(true),
            Marker::False => Head::Bool(false),
            Marker::U8 => Head::Int(u8::from_be_bytes(self.number()?).into()),
            Marker::U16 => Head::Int(u16::from_be_bytes(self.number()?).into()),
            Marker::U32 => Head::Int(u32::from_be_bytes(self.number()?).into()),
            Marker::U64 => Head::Int(u64::from_be_bytes(self.number()?).into()),
            Marker::I8 => Head::Int(i8::from_be_bytes(self.number()?).into()),
            Marker::I16 => Head::Int(i16::from_be_bytes(self.number()?).into()),
            Marker::I32 => Head::Int(i32::from_be_bytes(self.number()?).into()),
            Marker::I64 => Head::Int(i64::from_be_bytes(self.number()?).into()),
            Marker::F32 => Head::Float(f32::from_be_bytes(self.number()?).into()),
            Marker::F64 => Head::Float(f64::from_be_bytes(self.number()?)),
            Marker::Str8 | Marker::Bin8 => Head::Bytes(self.sized::<1>(0)?),
            Marker::Str16 | Marker::Bin16 => Head::Bytes(self.sized::<2>(0)?),
            Marker::Str32 | Marker::Bin32 => Head::Bytes(self.sized::<4>(0)?),
            Marker::Array16 => Head::List(self.size::<2>()?),
            Marker::Array32 => Head::List(self.size::<4>()?),
            Marker::Map16 => Head::Map(self.size::<2>()?),
            Marker::Map32 => Head::Map(self.size::<4>()?),
            Marker::FixExt1 => extension(self.take(1 + TYPE_BYTES)?),
            Marker::FixExt2 => extension(self.take(2 + TYPE_BYTES)?),
            Marker::FixExt4 => extension(self.take(4 + TYPE_BYTES)?),
            Marker::FixExt8 => extension(self.take(8 + TYPE_BYTES)?),
            Marker::FixExt16 => extension(self.take(16 + TYPE_BYTES)?),
            Marker::Ext8 => extension(self.sized::<1>(TYPE_BYTES)?),
            Marker::Ext16 => extension(self.sized::<2>(TYPE_BYTES)?),
            Marker::Ext32 => extension(self.sized::<4>(TYPE_BYTES)?),
            Marker::Reserved => return Err(Refusal::NotMsgpack),
        })
    }

    /// The bytes behind a length of N bytes, and `more` of them.
    fn sized<const N: usize>(&mut self, more: usize) -> Result<&'a [u8], Refusal> {
        let length = self.size::<N>()?;
        self.take(length.saturating_add(more))
    }

    /// A length or a count of N bytes.
    fn size<const N: usize>(&mut self) -> Result<usize, Refusal> {
        let bytes: [u8; N] = self.number()?;
        let bytes = bytes.into_iter().map(usize::from);
        Ok(bytes.fold(0, |size, byte| size << 8 | byte))
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (number, rest) = self.rest.split_first_chunk().ok_or(Refusal::NotMsgpack)?;
        self.rest = rest;
        Ok(*number)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(Refusal::NotMsgpack)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// An extension's type stands between its length and its data.
const TYPE_BYTES: usize = 1;

/// An extension whose bytes are taken and of no interest.
fn extension(_data: &[u8]) -> Head<'static> {
    Head::Extension
}

fn text(bytes: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(bytes).map_err(|_| Refusal::BadText)
}

/// Whether two entries have the same key. Senders that sort their keys, as ours do, are done with
/// in one pass.
pub(super) fn has_twins<K: Ord>(entries: &[(K, Value)]) -> bool {
    if entries.is_sorted_by(|left, right| left.0 < right.0) {
        return false;
    }
    let mut keys: Vec<&K> = entries.iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    !keys.is_sorted_by(|left, right| left < right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The messages with keys of their own.
    fn owned(datagram: &[u8]) -> Vec<Result<Value, Refusal>> {
        let own = |message: Message<'_>| {
            let entries = message.into_iter();
            Value::Map(
                entries
                    .map(|(key, value)| (key.into_owned(), value))
                    .collect(),
            )
        };
        let messages = messages(datagram).into_iter();
        messages.map(|message| message.map(own)).collect()
    }

    fn only(datagram: &[u8]) -> Result<Value, Refusal> {
        let mut messages = owned(datagram);
        assert_eq!(messages.len(), 1);
        messages.remove(0)
    }

    /// The one value in a message.
    fn value(bytes: &[u8]) -> Result<Value, Refusal> {
        match only(&[b"\x81\xa1k", bytes].concat())? {
            Value::Map(mut entries) => Ok(entries.remove(0).1),
            other => panic!("{other:?}"),
        }
    }

    fn encoded(value: &Value) -> Vec<u8> {
        let mut out = ByteBuf::new();
        write(&mut out, value);
        out.into_vec()
    }

    #[test]
    fn every_format_is_read() {
        let int = |number: i128| Ok(Value::Int(number));
        let cases: Vec<(&[u8], Result<Value, Refusal>)> = vec![
            (b"\x7f", int(127)),
            (b"\xe0", int(-32)),
            (b"\xcc\xff", int(255)),
            (b"\xcd\xff\xfe", int(65_534)),
            (b"\xce\xff\xff\xff\xff", int(4_294_967_295)),
            (
                b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
                int(u64::MAX.into()),
            ),
            (b"\xd0\x80", int(-128)),
            (b"\xd1\x80\x00", int(-32_768)),
            (b"\xd2\x80\x00\x00\x00", int(-2_147_483_648)),
            (
                b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
                int(i64::MIN.into()),
            ),
            (b"\xca\x3f\x80\x00\x00", Ok(Value::Float(1.0))),
            (
                b"\xcb\xbf\xf8\x00\x00\x00\x00\x00\x00",
                Ok(Value::Float(-1.5)),
            ),
            (b"\xc0", Ok(Value::Null)),
            (b"\xc2", Ok(Value::Bool(false))),
            (b"\xc3", Ok(Value::Bool(true))),
            (b"\xa2ab", Ok(Value::from("ab"))),
            (b"\xd9\x02ab", Ok(Value::from("ab"))),
            (b"\xda\x00\x02ab", Ok(Value::from("ab"))),
            (b"\xdb\x00\x00\x00\x02ab", Ok(Value::from("ab"))),
            (b"\xc4\x02ab", Ok(Value::from("ab"))),
            (b"\xc5\x00\x02ab", Ok(Value::from("ab"))),
            (b"\xc6\x00\x00\x00\x02ab", Ok(Value::from("ab"))),
            (b"\xa2\xc5\x31", Err(Refusal::BadText)),
            (b"\xc1", Err(Refusal::NotMsgpack)),
            (b"", Err(Refusal::NotMsgpack)),
            (b"\xd4\x00\x01", Err(Refusal::UnsupportedType)),
            (b"\xc7\x02\x00\x01\x02", Err(Refusal::UnsupportedType)),
            (b"\x81\x90\x01", Err(Refusal::UnsupportedType)),
            (b"\x82\xa1a\x01\xa1a\x02", Err(Refusal::DuplicateKey)),
            (b"\x82\x01\x01\xa11\x02", Err(Refusal::DuplicateKey)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(value(bytes), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn keys_that_are_no_text_become_their_python_text() {
        let map =
            only(b"\x85\x01\xc0\xff\xc0\xc0\xc0\xc3\xc0\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xc0");
        let keys: Vec<String> = match map.unwrap() {
            Value::Map(entries) => entries.into_iter().map(|(key, _)| key).collect(),
            other => panic!("{other:?}"),
        };
        assert_eq!(keys, ["1", "-1", "None", "True", "1.5"]);
    }

    #[test]
    fn a_bad_message_costs_itself_alone() {
        let one = b"\x81\xa1a\x01".as_slice();
        let good = || Ok(Value::Map(vec![("a".to_owned(), Value::Int(1))]));
        let nested = [b"\x81\xa1k".to_vec(), vec![0x91; DEPTH_MAX], vec![0xc0]].concat();
        for (bad, refusal) in [
            (b"\x81\xa1a\xa1\xff".as_slice(), Refusal::BadText),
            (b"\x81\xa1a\xd4\x00\x01", Refusal::UnsupportedType),
            (b"\x82\xa1a\x01\xa1a\x01", Refusal::DuplicateKey),
            (&nested, Refusal::TooDeep),
        ] {
            let datagram = [b"\x93", one, bad, one].concat();
            assert_eq!(owned(&datagram), [good(), Err(refusal), good()]);
        }
        let cut = [b"\x93", one, b"\x82\xa1a"].concat();
        assert_eq!(owned(&cut), [good(), Err(Refusal::NotMsgpack)]);
        let with_more = [one, b"\xc0"].concat();
        assert_eq!(owned(&with_more), [good(), Err(Refusal::NotMsgpack)]);
        assert_eq!(owned(b"\x90"), []);
    }

    #[test]
    fn each_limit_holds_to_the_last_one() {
        let deep = |depth: usize| [b"\x81\xa1k".repeat(depth), vec![0xc0]].concat();
        assert!(only(&deep(DEPTH_MAX)).is_ok());
        assert_eq!(only(&deep(DEPTH_MAX + 1)), Err(Refusal::TooDeep));

        let map_of_lists = |count: usize| {
            let items = Value::List(vec![Value::Null; count]);
            encoded(&Value::Map(vec![("l".to_owned(), items)]))
        };
        assert!(only(&map_of_lists(ENTRIES_MAX - 1)).is_ok());
        let outcome = only(&map_of_lists(ENTRIES_MAX));
        assert_eq!(outcome, Err(Refusal::TooManyEntries));

        let list = |count: usize| encoded(&Value::List(vec![Value::Null; count]));
        assert_eq!(messages(&list(MESSAGES_MAX)).len(), MESSAGES_MAX);
        let outcome = only(&list(MESSAGES_MAX + 1));
        assert_eq!(outcome, Err(Refusal::TooManyMessages));

        let text = |length: usize| encoded(&Value::Text("x".repeat(length)));
        let smaller = only(&text(DATAGRAM_BYTES_MAX - 3));
        assert_eq!(smaller, Err(Refusal::NotAMap));
        assert_eq!(only(&text(DATAGRAM_BYTES_MAX)), Err(Refusal::TooLarge));
    }

    #[test]
    fn a_count_that_cannot_be_there_is_not_believed() {
        for head in [b"\xdd\x00\x00\x10\x00", b"\xdf\x00\x00\x10\x00"] {
            let mut decoder = Decoder {
                rest: head,
                entries_left: ENTRIES_MAX,
            };
            assert_eq!(decoder.value(0), Err(Refusal::NotMsgpack));
            assert_eq!(decoder.entries_left, ENTRIES_MAX, "nothing was reserved");
        }
    }

    #[test]
    fn many_keys_are_searched_for_twins_as_well() {
        let entries = |twin: &str| {
            let mut entries: Vec<_> = (0..100)
                .map(|number| (number.to_string(), Value::Null))
                .collect();
            entries.push((twin.to_owned(), Value::Null));
            Value::Map(entries)
        };
        assert!(only(&encoded(&entries("100"))).is_ok());
        assert_eq!(only(&encoded(&entries("7"))), Err(Refusal::DuplicateKey));
    }

    #[test]
    fn an_integer_beyond_64_bits_travels_as_its_digits() {
        let number = i128::from(u64::MAX) + 1;
        let outcome = value(&encoded(&Value::Int(number)));
        assert_eq!(outcome, Ok(Value::from("18446744073709551616")));
    }

    /// Bytes that the value keeps alive.
    fn weight(value: &Value) -> usize {
        match value {
            Value::Text(text) => text.capacity(),
            Value::List(items) => {
                items.capacity() * size_of::<Value>() + items.iter().map(weight).sum::<usize>()
            }
            Value::Map(entries) => {
                let inner = entries.iter();
                entries.capacity() * size_of::<(String, Value)>()
                    + inner
                        .map(|(key, value)| key.capacity() + weight(value))
                        .sum::<usize>()
            }
            _ => 0,
        }
    }

    /// Bytes that look like msgpack more often than any bytes do.
    fn plausible_bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            any::<u8>(),
            prop::sample::select(b"\x81\x91\xa1\xdc\xdd\xde\xdf\xda\xc4\x00\x01\xff".as_slice()),
        ];
        // Whole messages as well, in which room that was reserved for nothing would show.
        let whole =
            any_value().prop_map(|value| encoded(&Value::Map(vec![("v".to_owned(), value)])));
        prop_oneof![prop::collection::vec(byte, 0..400), whole]
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(|number| Value::Int(number.into())),
            any::<u64>().prop_map(Value::from),
            (-1e300f64..1e300).prop_map(Value::Float),
            any::<String>().prop_map(Value::Text),
        ];
        leaf.prop_recursive(4, 64, 40, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..40).prop_map(Value::List),
                prop::collection::btree_map(any::<String>(), inner, 0..40)
                    .prop_map(|map| Value::Map(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_cost_no_more_than_stated(bytes in plausible_bytes()) {
            for message in owned(&bytes).into_iter().flatten() {
                prop_assert!(weight(&message) <= 65 * bytes.len());
            }
        }

        #[test]
        fn what_is_encoded_decodes(value in any_value()) {
            let message = Value::Map(vec![("v".to_owned(), value)]);
            prop_assert_eq!(only(&encoded(&message)), Ok(message));
        }
    }
}
