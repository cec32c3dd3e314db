//! Pure. Reads `FIELD OP VALUE; …` as Ceilometer's client does.

use std::str::FromStr;

use super::{Comparison, Condition, Equality, Field, Filter, Order, Sought};
use crate::model::UtcTime;

/// How many conditions one query may have. Each is a part of one SQL statement; nobody writes so many
/// by hand, and a script that does is told.
pub const CONDITIONS_MAX: usize = 32;

/// How much of a wrong condition is repeated in a message.
const SHOWN_CHARS_MAX: usize = 60;

/// The operators; of two that begin alike the longer one comes first.
const OPERATORS: [(&str, Comparison); 7] = [
    ("!=", Comparison::Equality(Equality::IsNot)),
    ("<=", Comparison::Order(Order::LessOrEqual)),
    (">=", Comparison::Order(Order::MoreOrEqual)),
    ("==", Comparison::Equality(Equality::Is)),
    ("<", Comparison::Order(Order::Less)),
    (">", Comparison::Order(Order::More)),
    ("=", Comparison::Equality(Equality::Is)),
];

/// The names of fields, with the aliases of Ceilometer's API.
const FIELDS: [(&str, Field); 12] = [
    ("resource_id", Field::Resource),
    ("resource", Field::Resource),
    ("user_id", Field::User),
    ("user", Field::User),
    ("project_id", Field::Project),
    ("project", Field::Project),
    ("source", Field::Source),
    ("message_id", Field::Message),
    ("message", Field::Message),
    ("meter", Field::Meter),
    ("counter_name", Field::Meter),
    ("name", Field::Meter),
];

/// What stands before the key of a metadata's value.
const METADATA: [&str; 2] = ["resource_metadata.", "metadata."];

/// A query that can't be read: where, what was found and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}, {found:?}: {expected}")]
pub struct QueryError {
    at: usize,
    found: String,
    expected: String,
}

/// The types that a value may be given, as in `integer::8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Int,
    Float,
    Time,
    Truth,
}

const TYPES: [(&str, Type); 5] = [
    ("string", Type::Text),
    ("integer", Type::Int),
    ("float", Type::Float),
    ("datetime", Type::Time),
    ("boolean", Type::Truth),
];

impl FromStr for Filter {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let mut conditions = Vec::new();
        let mut at = 1;
        for part in text.split(';') {
            let blanks = part.chars().take_while(|c| c.is_whitespace()).count();
            let fail = |expected: String| QueryError {
                at: at + blanks,
                found: shown(part.trim()),
                expected,
            };
            if !part.trim().is_empty() {
                if conditions.len() == CONDITIONS_MAX {
                    return Err(fail(format!(
                        "expected {CONDITIONS_MAX} conditions at most"
                    )));
                }
                conditions.push(condition(part.trim()).map_err(fail)?);
            }
            at += part.chars().count() + 1;
        }
        Ok(Filter { conditions })
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

fn condition(text: &str) -> Result<Condition, String> {
    let (field, comparison, value) = split(text)?;
    if field.is_empty() {
        return Err("expected a field before the operator, such as resource_id=node-1".to_owned());
    }
    if value.is_empty() {
        return Err("expected a value behind the operator".to_owned());
    }
    let (kind, value) = typed(value);
    if let Some(key) = METADATA.iter().find_map(|start| field.strip_prefix(start)) {
        if key.is_empty() {
            return Err("expected a key behind metadata., such as metadata.cluster".to_owned());
        }
        return Ok(Condition::Metadata(
            key.to_owned(),
            sought(comparison, kind, value)?,
        ));
    }
    if field == "timestamp" {
        return moment(comparison, kind, value);
    }
    let Some((_, of)) = FIELDS.iter().find(|(name, _)| *name == field) else {
        return Err(
            "expected a field: resource_id, user_id, project_id, source, message_id, meter, \
             timestamp or metadata.KEY"
                .to_owned(),
        );
    };
    if !matches!(kind, None | Some(Type::Text)) {
        return Err(format!("{field} is a text: leave the type out"));
    }
    let equality = equality(comparison, field)?;
    Ok(Condition::Text(*of, equality, value.to_owned()))
}

/// Cuts at the first operator.
fn split(text: &str) -> Result<(&str, Comparison, &str), String> {
    for (at, _) in text.char_indices() {
        let Some((field, rest)) = text.split_at_checked(at) else {
            continue;
        };
        for (operator, comparison) in OPERATORS {
            if let Some(value) = rest.strip_prefix(operator) {
                return Ok((field.trim(), comparison, value.trim()));
            }
        }
    }
    let operators = OPERATORS.map(|(operator, _)| operator).join(" ");
    Err(format!("expected an operator, one of {operators}"))
}

/// The type that stands before a value, and the value. What is no type of ours belongs to the value.
fn typed(value: &str) -> (Option<Type>, &str) {
    let found = TYPES.iter().find_map(|(name, kind)| {
        let rest = value.strip_prefix(name)?.strip_prefix("::")?;
        (!rest.is_empty()).then_some((Some(*kind), rest))
    });
    found.unwrap_or((None, value))
}

fn moment(comparison: Comparison, kind: Option<Type>, value: &str) -> Result<Condition, String> {
    let Comparison::Order(order) = comparison else {
        return Err("timestamp takes <, <=, > or >=".to_owned());
    };
    if !matches!(kind, None | Some(Type::Time | Type::Text)) {
        return Err("timestamp is a datetime: leave the type out".to_owned());
    }
    let time = UtcTime::parse(value).or_else(|error| {
        // A day alone is its beginning.
        UtcTime::parse(&format!("{value}T00:00:00")).map_err(|_| error)
    });
    let time = time.map_err(|_| {
        "expected a time such as 2026-05-04T03:02:01, in UTC unless it names a zone".to_owned()
    })?;
    Ok(Condition::Taken(order, time))
}

fn equality(comparison: Comparison, of: &str) -> Result<Equality, String> {
    match comparison {
        Comparison::Equality(equality) => Ok(equality),
        Comparison::Order(_) => Err(format!("{of} takes = or !=")),
    }
}

fn sought(comparison: Comparison, kind: Option<Type>, value: &str) -> Result<Sought, String> {
    let text = |value: &str| {
        equality(comparison, "a text").map(|equality| Sought::Text(equality, value.to_owned()))
    };
    match kind {
        Some(Type::Text) => text(value),
        Some(Type::Int) => value
            .parse()
            .map(|number| Sought::Int(comparison, number))
            .map_err(|_| "expected an integer of 64 bits behind integer::".to_owned()),
        Some(Type::Float) => match value.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Sought::Float(comparison, number)),
            _ => Err("expected a finite number behind float::".to_owned()),
        },
        Some(Type::Truth) => truth(comparison, value),
        Some(Type::Time) => {
            Err("metadata hold no datetime: leave the type out, or say string::".to_owned())
        }
        None => match literal(value) {
            Literal::Int(number) => Ok(Sought::Int(comparison, number)),
            Literal::Float(number) => Ok(Sought::Float(comparison, number)),
            Literal::Truth(truth) => {
                equality(comparison, "a truth value").map(|equality| Sought::Truth(equality, truth))
            }
            Literal::None => equality(comparison, "None").map(Sought::None),
            Literal::Text(value) => text(value),
        },
    }
}

/// A truth value in the words that OpenStack takes for one.
fn truth(comparison: Comparison, value: &str) -> Result<Sought, String> {
    let truth = match value.to_ascii_lowercase().as_str() {
        "true" | "t" | "on" | "yes" | "y" | "1" => true,
        "false" | "f" | "off" | "no" | "n" | "0" => false,
        _ => return Err("expected true or false behind boolean::".to_owned()),
    };
    equality(comparison, "a truth value").map(|equality| Sought::Truth(equality, truth))
}

/// What Python takes a value for that has no type before it.
enum Literal<'v> {
    Int(i64),
    Float(f64),
    Truth(bool),
    None,
    Text(&'v str),
}

fn literal(value: &str) -> Literal<'_> {
    match value {
        "True" => return Literal::Truth(true),
        "False" => return Literal::Truth(false),
        "None" => return Literal::None,
        _ => {}
    }
    for quote in ['\'', '"'] {
        let inner = value
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner.filter(|inner| !inner.contains([quote, '\\'])) {
            return Literal::Text(inner);
        }
    }
    if !is_number(value) {
        return Literal::Text(value);
    }
    if let Ok(number) = value.parse() {
        return Literal::Int(number);
    }
    match value.parse::<f64>() {
        Ok(number) if number.is_finite() && value.contains(['.', 'e', 'E']) => {
            Literal::Float(number)
        }
        // An integer that no column can hold is in none of them.
        _ => Literal::Text(value),
    }
}

/// Whether it is written as Python writes a number. `007` isn't one, and neither are `inf` and `nan`.
fn is_number(value: &str) -> bool {
    let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
    let is_octal = digits.len() > 1
        && digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && digits.bytes().any(|byte| byte != b'0');
    let is_begun = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    is_begun && !is_octal
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IS: Comparison = Comparison::Equality(Equality::Is);

    fn only(text: &str) -> Condition {
        let filter: Filter = text.parse().unwrap();
        assert_eq!(filter.conditions.len(), 1, "{text}");
        filter.conditions[0].clone()
    }

    #[test]
    fn fields_operators_and_types_are_those_of_ceilometers_client() {
        let text = |field, equality, value: &str| Condition::Text(field, equality, value.into());
        for (query, expected) in [
            (
                "resource_id=node-1",
                text(Field::Resource, Equality::Is, "node-1"),
            ),
            (
                "resource == node-1",
                text(Field::Resource, Equality::Is, "node-1"),
            ),
            (
                "project!=admin",
                text(Field::Project, Equality::IsNot, "admin"),
            ),
            ("user_id=string::7", text(Field::User, Equality::Is, "7")),
            ("source=a=b<c", text(Field::Source, Equality::Is, "a=b<c")),
            (
                "message_id=foo::bar",
                text(Field::Message, Equality::Is, "foo::bar"),
            ),
        ] {
            assert_eq!(only(query), expected, "{query}");
        }
        let at = UtcTime::parse("2016-05-04T03:02:01").unwrap();
        let day = UtcTime::parse("2016-05-04T00:00:00").unwrap();
        for (query, order, at) in [
            ("timestamp>2016-05-04T03:02:01", Order::More, at),
            ("timestamp>=2016-05-04 03:02:01", Order::MoreOrEqual, at),
            (
                "timestamp<datetime::2016-05-04T05:02:01+02:00",
                Order::Less,
                at,
            ),
            ("timestamp <= 2016-05-04", Order::LessOrEqual, day),
        ] {
            assert_eq!(only(query), Condition::Taken(order, at), "{query}");
        }
    }

    #[test]
    fn metadata_are_looked_up_by_the_type_that_python_takes_a_value_for() {
        let text = |value: &str| Sought::Text(Equality::Is, value.into());
        for (value, expected) in [
            ("8", Sought::Int(IS, 8)),
            ("-8", Sought::Int(IS, -8)),
            ("007", text("007")),
            ("8.0", Sought::Float(IS, 8.0)),
            ("1e3", Sought::Float(IS, 1000.0)),
            ("inf", text("inf")),
            ("True", Sought::Truth(Equality::Is, true)),
            ("true", text("true")),
            ("boolean::true", Sought::Truth(Equality::Is, true)),
            ("string::8", text("8")),
            ("'8'", text("8")),
            ("integer::8", Sought::Int(IS, 8)),
            ("float::8", Sought::Float(IS, 8.0)),
            ("None", Sought::None(Equality::Is)),
            ("9223372036854775808", text("9223372036854775808")),
        ] {
            for start in METADATA {
                let query = format!("{start}user_metadata.cluster={value}");
                let key = "user_metadata.cluster".to_owned();
                assert_eq!(only(&query), Condition::Metadata(key, expected.clone()));
            }
        }
        let more = Sought::Int(Comparison::Order(Order::MoreOrEqual), 8);
        assert_eq!(
            only("metadata.vcpus>=8"),
            Condition::Metadata("vcpus".into(), more)
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_what_would_be_right() {
        for (query, expected) in [
            (
                "resource_id",
                "at character 1, \"resource_id\": expected an operator, one of != <= >= == < > =",
            ),
            (
                "user_id=a; timestamp=2016-05-04",
                "at character 12, \"timestamp=2016-05-04\": timestamp takes <, <=, > or >=",
            ),
            (
                "timestamp>noon",
                "at character 1, \"timestamp>noon\": expected a time such as 2026-05-04T03:02:01, in \
                 UTC unless it names a zone",
            ),
            (
                "żółw=1",
                "at character 1, \"żółw=1\": expected a field: resource_id, user_id, project_id, \
                 source, message_id, meter, timestamp or metadata.KEY",
            ),
            (
                "source>a",
                "at character 1, \"source>a\": source takes = or !=",
            ),
            (
                "source=integer::1",
                "at character 1, \"source=integer::1\": source is a text: leave the type out",
            ),
            (
                "metadata.a=integer::b",
                "at character 1, \"metadata.a=integer::b\": expected an integer of 64 bits behind \
                 integer::",
            ),
            (
                "metadata.a<True",
                "at character 1, \"metadata.a<True\": a truth value takes = or !=",
            ),
            (
                "=a",
                "at character 1, \"=a\": expected a field before the operator, such as \
                 resource_id=node-1",
            ),
            (
                "source=",
                "at character 1, \"source=\": expected a value behind the operator",
            ),
        ] {
            let error = query.parse::<Filter>().unwrap_err();
            assert_eq!(error.to_string(), expected, "{query}");
        }
    }

    #[test]
    fn so_many_conditions_and_no_more() {
        let query = |count| vec!["source=a"; count].join(";");
        let most: Filter = query(CONDITIONS_MAX).parse().unwrap();
        assert_eq!(most.conditions.len(), CONDITIONS_MAX);
        let error = query(CONDITIONS_MAX + 1).parse::<Filter>().unwrap_err();
        assert_eq!(error.at, CONDITIONS_MAX * "source=a;".len() + 1);
    }

    proptest! {
        #[test]
        fn any_text_is_a_query_or_an_error_that_points_into_it(text in "(\\PC|[;=<>!:.'a-z_])*") {
            match text.parse::<Filter>() {
                Ok(filter) => prop_assert!(filter.conditions.len() <= CONDITIONS_MAX),
                Err(error) => {
                    prop_assert!(error.at >= 1 && error.at <= text.chars().count());
                    prop_assert!(error.found.chars().count() <= SHOWN_CHARS_MAX);
                }
            }
        }

        #[test]
        fn a_quoted_metadata_text_is_found_as_it_is(value in "[a-z0-9 .:<=>]{1,20}") {
            let query = format!("metadata.k='{value}'");
            let expected = Sought::Text(Equality::Is, value);
            prop_assert_eq!(only(&query), Condition::Metadata("k".into(), expected));
        }
    }
}
