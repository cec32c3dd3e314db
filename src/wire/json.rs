//! Pure. JSON to values: as much of it as Python's `json` reads and writes, which includes NaN and the
//! infinities. What can be read is bounded as msgpack is: in depth, and in values of one message.

use std::borrow::Cow;
use std::ops::Range;

use super::Refusal;
use super::msgpack::{self, DEPTH_MAX, ENTRIES_MAX, Message};
use crate::model::Value;

/// How deep a whole body may nest: what its deepest message may, and the notification around it. A deeper
/// one is refused whole, before any message of it is read.
pub(super) const BODY_DEPTH_MAX: usize = 2 * DEPTH_MAX;

/// Reads a text from its begin to its end.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// How many more values the message being read may have.
    entries_left: usize,
}

/// A string as it was written.
#[derive(Clone, Copy)]
struct Written<'a> {
    /// What stands between the quotes.
    inside: &'a str,
    has_escapes: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Reader {
            text,
            at: 0,
            entries_left: ENTRIES_MAX,
        }
    }

    /// Reads the one map that the text is. `take` sees each key before its value, and reads the value if
    /// it wants it; otherwise that is passed over.
    pub(super) fn whole_map(
        mut self,
        mut take: impl FnMut(&str, &mut Self) -> Result<bool, Refusal>,
    ) -> Result<(), Refusal> {
        if self.next_is(b'{') {
            self.members(|key, reader| {
                let key = key.text()?;
                if !take(&key, reader)? {
                    reader.skip(1)?;
                }
                Ok(())
            })?;
        } else {
            self.skip(0)?;
            self.end()?;
            return Err(Refusal::NotAnEnvelope);
        }
        self.end()
    }

    /// A string, or what else stands here as None.
    pub(super) fn string_or_other(&mut self) -> Result<Option<Cow<'a, str>>, Refusal> {
        if !self.next_is(b'"') {
            self.skip(1)?;
            return Ok(None);
        }
        self.written()?.text().map(Some)
    }

    /// Where the value that comes next stands, its syntax checked.
    pub(super) fn place(&mut self) -> Result<Range<usize>, Refusal> {
        self.blank();
        let start = self.at;
        self.skip(1)?;
        Ok(start..self.at)
    }

    /// The values of the list that the text is, as they were written; the text itself where it is another
    /// value. Its syntax was checked before.
    pub(super) fn items(text: &'a str) -> Items<'a> {
        let mut reader = Reader::new(text);
        let is_list = reader.next_is(b'[');
        if is_list {
            reader.at += 1;
        }
        Items { reader, is_list }
    }

    /// The message that the text is.
    pub(super) fn message(text: &'a str) -> Result<Message<'a>, Refusal> {
        let mut reader = Reader::new(text);
        if !reader.next_is(b'{') {
            return Err(Refusal::NotAMap);
        }
        reader.entries(0)
    }

    fn value(&mut self, depth: usize) -> Result<Value, Refusal> {
        self.blank();
        Ok(match self.peek() {
            Some(b'"') => Value::Text(self.written()?.text()?.into_owned()),
            Some(b'[') => Value::List(self.list(depth)?),
            Some(b'{') => Value::Map(self.entries(depth)?),
            _ => match self.scalar()? {
                Scalar::Null => Value::Null,
                Scalar::Bool(truth) => Value::Bool(truth),
                Scalar::Int(digits) => int(digits),
                Scalar::Float(text) => Value::Float(text.parse().map_err(|_| Refusal::NotJson)?),
                Scalar::Double(number) => Value::Float(number),
            },
        })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Value>, Refusal> {
        enter(depth)?;
        let mut items = Vec::new();
        self.elements(b']', |reader| {
            reader.pay()?;
            items.push(reader.value(depth + 1)?);
            Ok(())
        })?;
        Ok(items)
    }

    fn entries<K>(&mut self, depth: usize) -> Result<Vec<(K, Value)>, Refusal>
    where
        K: From<Cow<'a, str>> + Ord,
    {
        enter(depth)?;
        let mut entries = Vec::new();
        self.members(|key, reader| {
            reader.pay()?;
            entries.push((K::from(key.text()?), reader.value(depth + 1)?));
            Ok(())
        })?;
        if msgpack::has_twins(&entries) {
            return Err(Refusal::DuplicateKey);
        }
        Ok(entries)
    }

    fn pay(&mut self) -> Result<(), Refusal> {
        let left = self.entries_left.checked_sub(1);
        self.entries_left = left.ok_or(Refusal::TooManyEntries)?;
        Ok(())
    }

    /// Passes over one value without keeping anything of it.
    fn skip(&mut self, depth: usize) -> Result<(), Refusal> {
        if depth > BODY_DEPTH_MAX {
            return Err(Refusal::TooDeep);
        }
        self.blank();
        match self.peek() {
            Some(b'"') => self.written().map(drop),
            Some(b'[') => self.elements(b']', |reader| reader.skip(depth + 1)),
            Some(b'{') => self.members(|_, reader| reader.skip(depth + 1)),
            _ => self.scalar().map(drop),
        }
    }

    /// The members of the map that begins here: `each` reads the value behind the key.
    fn members(
        &mut self,
        mut each: impl FnMut(Written<'a>, &mut Self) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        self.elements(b'}', |reader| {
            reader.blank();
            let key = reader.written()?;
            reader.blank();
            reader.expect(b':')?;
            each(key, reader)
        })
    }

    /// What stands between the bracket here and its counterpart, divided by commas.
    fn elements(
        &mut self,
        close: u8,
        mut each: impl FnMut(&mut Self) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        self.at += 1;
        if self.next_is(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            each(self)?;
            self.blank();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Refusal::NotJson),
            }
        }
    }

    fn written(&mut self) -> Result<Written<'a>, Refusal> {
        self.expect(b'"')?;
        let start = self.at;
        let mut has_escapes = false;
        loop {
            let rest = self.rest();
            let run = rest
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
            self.at += run.ok_or(Refusal::NotJson)?;
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.pass_escape()?,
                _ => return Err(Refusal::NotJson),
            }
            has_escapes = true;
        }
        let inside = self.slice(start)?;
        self.at += 1;
        Ok(Written {
            inside,
            has_escapes,
        })
    }

    fn pass_escape(&mut self) -> Result<(), Refusal> {
        let rest = self.rest();
        self.at += match rest.get(1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => {
                let digits = rest.get(2..6).ok_or(Refusal::NotJson)?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(Refusal::NotJson);
                }
                6
            }
            _ => return Err(Refusal::NotJson),
        };
        Ok(())
    }

    fn scalar(&mut self) -> Result<Scalar<'a>, Refusal> {
        let words = [
            ("null", Scalar::Null),
            ("true", Scalar::Bool(true)),
            ("false", Scalar::Bool(false)),
            ("NaN", Scalar::Double(f64::NAN)),
            ("Infinity", Scalar::Double(f64::INFINITY)),
            ("-Infinity", Scalar::Double(f64::NEG_INFINITY)),
        ];
        for (word, scalar) in words {
            if self.rest().starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(scalar);
            }
        }
        self.number()
    }

    fn number(&mut self) -> Result<Scalar<'a>, Refusal> {
        let start = self.at;
        self.pass(|byte| byte == b'-');
        match self.digits() {
            0 => return Err(Refusal::NotJson),
            1 => {}
            // Nothing but a zero begins with a zero.
            _ if self.slice(start)?.trim_start_matches('-').starts_with('0') => {
                return Err(Refusal::NotJson);
            }
            _ => {}
        }
        let mut is_int = true;
        if self.pass(|byte| byte == b'.') {
            is_int = false;
            self.at_least_one_digit()?;
        }
        if self.pass(|byte| matches!(byte, b'e' | b'E')) {
            is_int = false;
            self.pass(|byte| matches!(byte, b'+' | b'-'));
            self.at_least_one_digit()?;
        }
        let text = self.slice(start)?;
        Ok(if is_int {
            Scalar::Int(text)
        } else {
            Scalar::Float(text)
        })
    }

    fn at_least_one_digit(&mut self) -> Result<(), Refusal> {
        match self.digits() {
            0 => Err(Refusal::NotJson),
            _ => Ok(()),
        }
    }

    fn digits(&mut self) -> usize {
        let rest = self.rest().iter();
        let count = rest.take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    /// Passes over the byte here if it is such a one.
    fn pass(&mut self, is_such: impl Fn(u8) -> bool) -> bool {
        let is_there = self.peek().is_some_and(is_such);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, byte: u8) -> Result<(), Refusal> {
        if self.pass(|found| found == byte) {
            Ok(())
        } else {
            Err(Refusal::NotJson)
        }
    }

    fn next_is(&mut self, byte: u8) -> bool {
        self.blank();
        self.peek() == Some(byte)
    }

    fn end(&mut self) -> Result<(), Refusal> {
        self.blank();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(Refusal::NotJson),
        }
    }

    fn blank(&mut self) {
        while self.pass(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {}
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn slice(&self, start: usize) -> Result<&'a str, Refusal> {
        self.text.get(start..self.at).ok_or(Refusal::NotJson)
    }
}

/// The values of a list, one after the other.
pub(super) struct Items<'a> {
    reader: Reader<'a>,
    is_list: bool,
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let reader = &mut self.reader;
        reader.blank();
        if self.is_list {
            reader.pass(|byte| byte == b',');
            if reader.next_is(b']') {
                return None;
            }
        }
        // At the end of the text, and behind a value that isn't a list.
        reader.peek()?;
        let place = reader.place().ok()?;
        reader.text.get(place)
    }
}

enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(&'a str),
    Float(&'a str),
    Double(f64),
}

/// An integer. One that is greater than any database's stays the text that it is: its signed text is the
/// same.
fn int(digits: &str) -> Value {
    match digits.parse() {
        Ok(number) => Value::Int(number),
        Err(_) => Value::from(digits),
    }
}

fn enter(depth: usize) -> Result<(), Refusal> {
    if depth >= DEPTH_MAX {
        return Err(Refusal::TooDeep);
    }
    Ok(())
}

impl<'a> Written<'a> {
    fn text(self) -> Result<Cow<'a, str>, Refusal> {
        if !self.has_escapes {
            return Ok(Cow::Borrowed(self.inside));
        }
        let mut text = String::with_capacity(self.inside.len());
        let mut rest = self.inside;
        while let Some((plain, escaped)) = rest.split_once('\\') {
            text.push_str(plain);
            rest = unescape(&mut text, escaped)?;
        }
        text.push_str(rest);
        Ok(Cow::Owned(text))
    }
}

/// Appends what the escape stands for whose begin was taken off; returns what follows it.
fn unescape<'t>(text: &mut String, escaped: &'t str) -> Result<&'t str, Refusal> {
    let mut rest = escaped.chars();
    let plain = match rest.next() {
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('u') => return code_point(text, rest.as_str()),
        Some(itself) => itself,
        None => return Err(Refusal::NotJson),
    };
    text.push(plain);
    Ok(rest.as_str())
}

/// A character outside the basic plane comes as two halves. One half alone is in Python's strings and in
/// no text.
fn code_point<'t>(text: &mut String, escaped: &'t str) -> Result<&'t str, Refusal> {
    let (first, rest) = unit(escaped)?;
    let (second, rest) = match rest.strip_prefix("\\u") {
        Some(second) if (0xd800..0xdc00).contains(&first) => {
            let (second, rest) = unit(second)?;
            (Some(second), rest)
        }
        _ => (None, rest),
    };
    for character in char::decode_utf16(std::iter::once(first).chain(second)) {
        text.push(character.map_err(|_| Refusal::BadText)?);
    }
    Ok(rest)
}

fn unit(escaped: &str) -> Result<(u16, &str), Refusal> {
    let (digits, rest) = escaped.split_at_checked(4).ok_or(Refusal::NotJson)?;
    let unit = u16::from_str_radix(digits, 16).map_err(|_| Refusal::NotJson)?;
    Ok((unit, rest))
}
