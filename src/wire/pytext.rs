//! Pure. Python's `str()` of a value: the text that a metering message's signature covers.
//!
//! Rules from CPython's own formatting (`PyOS_double_to_string`, `string_repr`, `bytes_repr`),
//! held to the golden data of real senders.

use std::fmt;

use crate::model::Value;

/// Which Python made the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Python 2.7: doubles of twelve digits, strings in lists without a prefix, integers beyond
    /// 64 bits with sign in lists with an `L`.
    ///
    /// A map inside a list is printed in sorted order of its keys. Python 2 used the order of its
    /// hashes, which can't be known from here: with several keys such a message of an old sender
    /// may fail to verify.
    Old,
    /// Python 2.7 whose integers in lists were all of the type `long`, which prints with an `L`
    /// whatever its size and leaves no trace in msgpack.
    OldLong,
    /// Python 3, as Ceilometer signs with it: doubles in the shortest form that reads back,
    /// strings in lists as byte literals, maps in lists in sorted order of their keys.
    Current,
}

/// Appends `str(value)`.
pub fn write_str(out: &mut String, value: &Value, dialect: Dialect) {
    match value {
        Value::Text(text) => out.push_str(text),
        Value::Int(number) => write_int(out, *number),
        Value::Float(number) if dialect != Dialect::Current => {
            write_float_of_12_digits(out, *number);
        }
        other => write_repr(out, other, dialect),
    }
}

/// Whether all dialects print this value alike. False may be said of a value on which they agree;
/// true never of one on which they don't.
pub fn is_same_in_all(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Text(_) => true,
        Value::Float(number) => is_same_float(*number),
        Value::List(items) => items.iter().all(is_same_in_a_list),
        Value::Map(entries) => entries.is_empty(),
    }
}

fn is_same_in_a_list(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Float(_) => true,
        Value::Int(_) | Value::Text(_) => false,
        Value::List(items) => items.iter().all(is_same_in_a_list),
        Value::Map(entries) => entries.is_empty(),
    }
}

/// Up to twelve digits both texts are the same, but from 1e11 to 1e16, where only the old one is
/// scientific. Subnormals have less precision
/// than twelve digits, so their shortest form says nothing about the other one.
fn is_same_float(number: f64) -> bool {
    if !number.is_finite() || is_of_six_places(number) {
        return true;
    }
    let decimal = Decimal::shortest(number);
    let is_same_form = !(EXPONENT_MAX_OLD..EXPONENT_MAX_REPR).contains(&decimal.exponent);
    number.is_normal() && decimal.digits.len() <= 12 && is_same_form
}

/// Whether this is the double closest to a number of at most six places and twelve digits, as our
/// own senders' are. Found by arithmetic: a whole number of millionths below 1e12 is exact, and a
/// division yields the closest double.
fn is_of_six_places(number: f64) -> bool {
    let millionths = (number * 1e6).round();
    millionths.abs() < 1e12 && millionths / 1e6 == number
}

/// Appends `repr(value)`: how a value looks inside a list.
fn write_repr(out: &mut String, value: &Value, dialect: Dialect) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(number) => write_int_in_a_list(out, *number, dialect),
        Value::Float(number) => write_shortest_float(out, *number),
        Value::Text(text) => write_byte_literal(out, text, dialect),
        Value::List(items) => write_list(out, items, dialect),
        Value::Map(entries) => write_map(out, entries, dialect),
    }
}

fn write_list(out: &mut String, items: &[Value], dialect: Dialect) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_repr(out, item, dialect);
    }
    out.push(']');
}

fn write_map(out: &mut String, entries: &[(String, Value)], dialect: Dialect) {
    let mut sorted: Vec<&(String, Value)> = entries.iter().collect();
    sorted.sort_unstable_by(|left, right| left.0.cmp(&right.0));
    out.push('{');
    for (index, (key, value)) in sorted.into_iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_byte_literal(out, key, dialect);
        out.push_str(": ");
        write_repr(out, value, dialect);
    }
    out.push('}');
}

fn write_int_in_a_list(out: &mut String, number: i128, dialect: Dialect) {
    write_int(out, number);
    let is_long = match dialect {
        Dialect::Old => i64::try_from(number).is_err(),
        Dialect::OldLong => true,
        Dialect::Current => false,
    };
    if is_long {
        out.push('L');
    }
}

fn write_int(out: &mut String, number: i128) {
    match i64::try_from(number) {
        // The usual case, and much faster to print.
        Ok(short) => write(out, format_args!("{short}")),
        Err(_) => write(out, format_args!("{number}")),
    }
}

/// Strings inside lists are printed as their UTF-8 bytes.
fn write_byte_literal(out: &mut String, text: &str, dialect: Dialect) {
    if dialect == Dialect::Current {
        out.push('b');
    }
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for byte in text.bytes() {
        match byte {
            b'\t' => out.push_str("\\t"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\\' => out.push_str("\\\\"),
            0x20..=0x7e if char::from(byte) == quote => {
                out.push('\\');
                out.push(quote);
            }
            0x20..=0x7e => out.push(char::from(byte)),
            other => write(out, format_args!("\\x{other:02x}")),
        }
    }
    out.push(quote);
}

/// From this exponent on Python 2's `str()` of a double uses the scientific form.
const EXPONENT_MAX_OLD: i32 = 11;
/// From this exponent on `repr()` of a double uses the scientific form, in both Pythons.
const EXPONENT_MAX_REPR: i32 = 16;
/// Below this exponent every form is scientific.
const EXPONENT_MIN: i32 = -4;

/// Python 2's `str(float)`: `%.12g`, and `.0` behind a whole number.
fn write_float_of_12_digits(out: &mut String, number: f64) {
    write_float(out, number, EXPONENT_MAX_OLD, Decimal::of_12_digits);
}

/// `repr(float)` in both Pythons, and Python 3's `str(float)`.
fn write_shortest_float(out: &mut String, number: f64) {
    if (1e-4..1e16).contains(&number.abs()) {
        // Where Python uses the positional form, Rust's `{:?}` is the same text.
        return write(out, format_args!("{number:?}"));
    }
    write_float(out, number, EXPONENT_MAX_REPR, Decimal::shortest);
}

fn write_float(
    out: &mut String,
    number: f64,
    exponent_max: i32,
    to_decimal: impl Fn(f64) -> Decimal,
) {
    if number.is_nan() {
        out.push_str("nan");
        return;
    }
    if number.is_sign_negative() {
        out.push('-');
    }
    if number.is_infinite() {
        out.push_str("inf");
        return;
    }
    let decimal = to_decimal(number);
    if (EXPONENT_MIN..exponent_max).contains(&decimal.exponent) {
        decimal.write_positional(out);
    } else {
        decimal.write_scientific(out);
    }
}

/// The absolute value of a finite double: its digits without trailing zeros, the first of them
/// standing before the point, times ten to the exponent.
struct Decimal {
    digits: String,
    exponent: i32,
}

impl Decimal {
    /// As few digits as read back to the same double.
    fn shortest(number: f64) -> Self {
        Decimal::read(&format!("{:e}", number.abs()))
    }

    /// Correctly rounded to twelve digits.
    fn of_12_digits(number: f64) -> Self {
        let decimal = Decimal::read(&format!("{:.11e}", number.abs()));
        match zeros_kept(number, decimal.exponent) {
            Some(digits) => Decimal { digits, ..decimal },
            None => decimal,
        }
    }

    /// Takes Rust's scientific form apart, such as `1.25e-7`.
    fn read(scientific: &str) -> Self {
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
        let mut digits = mantissa.replace('.', "");
        digits.truncate(digits.trim_end_matches('0').len().max(1));
        Decimal {
            digits,
            exponent: exponent.parse().unwrap_or(0),
        }
    }

    fn write_positional(&self, out: &mut String) {
        let Ok(before_point) = usize::try_from(self.exponent + 1) else {
            return self.write_below_one(out);
        };
        match self.digits.split_at_checked(before_point) {
            Some(("", fraction)) => write(out, format_args!("0.{fraction}")),
            Some((whole, "")) => write(out, format_args!("{whole}.0")),
            Some((whole, fraction)) => write(out, format_args!("{whole}.{fraction}")),
            None => write(out, format_args!("{:0<before_point$}.0", self.digits)),
        }
    }

    fn write_below_one(&self, out: &mut String) {
        out.push_str("0.");
        for _ in self.exponent + 1..0 {
            out.push('0');
        }
        out.push_str(&self.digits);
    }

    fn write_scientific(&self, out: &mut String) {
        let (first, rest) = self.digits.split_at_checked(1).unwrap_or(("0", ""));
        let point = if rest.is_empty() { "" } else { "." };
        write(
            out,
            format_args!("{first}{point}{rest}e{:+03}", self.exponent),
        );
    }
}

/// The one case in which CPython's `dtoa.c` leaves trailing zeros standing: a whole number of 13 to
/// 15 digits, exactly halfway between two of twelve, rounded down to the one that ends in zero.
/// 1923030537105.0 prints as `1.92303053710e+12`.
fn zeros_kept(number: f64, exponent: i32) -> Option<String> {
    if !(12..15).contains(&exponent) || number.fract() != 0.0 {
        return None;
    }
    let whole = format!("{:.0}", number.abs());
    let (kept, rest) = whole.split_at_checked(12)?;
    let is_halfway = rest.trim_end_matches('0') == "5";
    (is_halfway && kept.ends_with('0')).then(|| kept.to_owned())
}

/// Formats into a String, which can't fail.
fn write(out: &mut String, text: fmt::Arguments<'_>) {
    let _ = fmt::Write::write_fmt(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text_of(value: &Value, dialect: Dialect) -> String {
        let mut out = String::new();
        write_str(&mut out, value, dialect);
        out
    }

    fn golden(file: &str) -> Vec<serde_json::Value> {
        file.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn doubles_print_as_the_old_sender_printed_them() {
        let cases = golden(include_str!("../../tests/fixtures/float-text-old.jsonl"));
        assert_eq!(cases.len(), 684);
        for case in cases {
            let bits = u64::from_str_radix(case["bits"].as_str().unwrap(), 16).unwrap();
            let alone = Value::Float(f64::from_bits(bits));
            assert_eq!(text_of(&alone, Dialect::Old), case["scalar_text"], "{case}");
            let list = Value::List(vec![alone]);
            let expected = format!("[{}]", case["in_list_text"].as_str().unwrap());
            assert_eq!(text_of(&list, Dialect::Old), expected, "{case}");
            assert_eq!(text_of(&list, Dialect::Current), expected, "{case}");
        }
    }

    #[test]
    fn strings_in_lists_print_as_the_old_sender_printed_them() {
        let cases = golden(include_str!("../../tests/fixtures/list-text-old.jsonl"));
        assert_eq!(cases.len(), 200);
        for case in cases {
            let list = Value::List(vec![Value::from(case["value"].as_str().unwrap())]);
            assert_eq!(
                text_of(&list, Dialect::Old),
                case["in_list_text"].as_str().unwrap()
            );
        }
    }

    /// Texts seen in CPython 2.7 and 3.11.
    #[test]
    fn values_print_as_each_python_prints_them() {
        let strings = |texts: &[&str]| texts.iter().map(|text| Value::from(*text)).collect();
        let map = |entries: &[(&str, i128)]| {
            let entries = entries.iter();
            Value::Map(
                entries
                    .map(|(key, number)| ((*key).to_owned(), Value::Int(*number)))
                    .collect(),
            )
        };
        let cases = [
            (Value::Null, "None", "None"),
            (Value::Bool(true), "True", "True"),
            (Value::Bool(false), "False", "False"),
            (
                Value::Int(i128::from(u64::MAX)),
                "18446744073709551615",
                "18446744073709551615",
            ),
            (Value::from("it's"), "it's", "it's"),
            (Value::Float(0.1 + 0.2), "0.3", "0.30000000000000004"),
            (Value::Float(1e11), "1e+11", "100000000000.0"),
            (
                Value::Float(99_999_999_999.0),
                "99999999999.0",
                "99999999999.0",
            ),
            (Value::Float(1e16), "1e+16", "1e+16"),
            (
                Value::Float(-123_456_789_000_500.0),
                "-1.23456789000e+14",
                "-123456789000500.0",
            ),
            (
                Value::Float(1_923_030_537_115.0),
                "1.92303053712e+12",
                "1923030537115.0",
            ),
            (Value::Float(-0.0), "-0.0", "-0.0"),
            (Value::Float(0.0001), "0.0001", "0.0001"),
            (Value::Float(0.00001), "1e-05", "1e-05"),
            (Value::Float(5e-324), "4.94065645841e-324", "5e-324"),
            (Value::Float(-f64::NAN), "nan", "nan"),
            (Value::Float(f64::NEG_INFINITY), "-inf", "-inf"),
            (Value::List(vec![]), "[]", "[]"),
            (
                Value::List(vec![Value::Int(1 << 63), Value::Int(i128::from(i64::MIN))]),
                "[9223372036854775808L, -9223372036854775808]",
                "[9223372036854775808, -9223372036854775808]",
            ),
            (
                Value::List(strings(&["a\t\n\r\\", "it's", "'\"", "\u{7f}"])),
                r#"['a\t\n\r\\', "it's", '\'"', '\x7f']"#,
                r#"[b'a\t\n\r\\', b"it's", b'\'"', b'\x7f']"#,
            ),
            (
                Value::List(vec![map(&[("b", 2), ("a", 1)]), Value::Null]),
                "[{'a': 1, 'b': 2}, None]",
                "[{b'a': 1, b'b': 2}, None]",
            ),
        ];
        for (value, old, current) in cases {
            assert_eq!(text_of(&value, Dialect::Old), old);
            assert_eq!(text_of(&value, Dialect::Current), current);
            assert!(!is_same_in_all(&value) || old == current, "{value:?}");
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(|number| Value::Int(number.into())),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::Float),
            any::<String>().prop_map(Value::Text),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::vec((any::<String>(), inner), 0..4).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_called_the_same_is_the_same(value in any_value()) {
            if is_same_in_all(&value) {
                let current = text_of(&value, Dialect::Current);
                prop_assert_eq!(&text_of(&value, Dialect::Old), &current);
                prop_assert_eq!(&text_of(&value, Dialect::OldLong), &current);
            }
        }

        #[test]
        fn normal_doubles_are_called_the_same_exactly_when_they_are(
            number in prop_oneof![
                any::<f64>(),
                (any::<i64>(), -12i32..12).prop_map(|(mantissa, places)| mantissa as f64 * 10f64.powi(places)),
                (0i64..1_000_000_000_000, 0i32..8).prop_map(|(mantissa, places)| mantissa as f64 / 10f64.powi(places)),
            ]
        ) {
            let value = Value::Float(number);
            let same = text_of(&value, Dialect::Old) == text_of(&value, Dialect::Current);
            prop_assert!(is_same_in_all(&value) == same || number.is_subnormal());
        }

        #[test]
        fn the_shortest_text_reads_back(number in any::<f64>()) {
            let text = text_of(&Value::Float(number), Dialect::Current);
            let back: f64 = text.parse().unwrap();
            prop_assert!(back == number || number.is_nan());
        }
    }
}
