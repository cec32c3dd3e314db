//! Pure. A filter as a part of a statement. What an operator wrote gets into a statement as a value and
//! never as its text.

use super::engine::Bind;
use super::sql::Dialect;
use crate::query::{Comparison, Condition, Equality, Field, Filter, Order, Sought};

/// Conditions on `sample`, `meter` and `resource`, to follow an AND, and their values.
#[derive(Debug, Default)]
pub(crate) struct Conditions<'f> {
    /// Each begins with AND.
    pub(crate) text: String,
    /// As many as the text asks for.
    pub(crate) binds: Vec<Bind<'f>>,
}

impl<'f> Conditions<'f> {
    /// Those of a filter.
    pub(crate) fn of(filter: &'f Filter, dialect: &'static Dialect) -> Self {
        let mut all = Conditions::default();
        for condition in &filter.conditions {
            match condition {
                Condition::Text(field, equality, text) => {
                    let compare = equals(*equality);
                    all.add(&format!("{} {compare} ?", column(*field)));
                    all.binds.push((dialect.text)(text).into());
                }
                Condition::Taken(order, at) => {
                    all.add(&format!("sample.timestamp {} ?", orders(*order)));
                    all.binds.push((dialect.moment)(*at).into());
                }
                Condition::Metadata(key, sought) => all.metadata(key, sought, dialect),
            }
        }
        all
    }

    fn add(&mut self, condition: &str) {
        self.text.push_str(" AND ");
        self.text.push_str(condition);
    }

    fn metadata(&mut self, key: &'f str, sought: &'f Sought, dialect: &'static Dialect) {
        let (table, compare, value) = match sought {
            Sought::Text(equality, text) => (
                "metadata_text",
                format!("{} ?", equals(*equality)),
                Some((dialect.text)(text).into()),
            ),
            Sought::None(Equality::Is) => ("metadata_text", "IS NULL".to_owned(), None),
            Sought::None(Equality::IsNot) => ("metadata_text", "IS NOT NULL".to_owned(), None),
            Sought::Truth(equality, truth) => (
                "metadata_bool",
                format!("{} ?", equals(*equality)),
                Some((*truth).into()),
            ),
            Sought::Int(comparison, number) => (
                "metadata_int",
                format!("{} ?", compares(*comparison)),
                Some((*number).into()),
            ),
            Sought::Float(comparison, number) => (
                "metadata_float",
                format!("{} ?", compares(*comparison)),
                Some((*number).into()),
            ),
        };
        self.add(&format!(
            "EXISTS (SELECT 1 FROM {table} WHERE {table}.id = resource.internal_id \
             AND {table}.meta_key = ? AND {table}.value {compare})"
        ));
        self.binds.push((dialect.text)(key).into());
        self.binds.extend(value);
    }
}

fn column(field: Field) -> &'static str {
    match field {
        Field::Resource => "resource.resource_id",
        Field::User => "resource.user_id",
        Field::Project => "resource.project_id",
        Field::Source => "resource.source_id",
        Field::Message => "sample.message_id",
        Field::Meter => "meter.name",
    }
}

fn compares(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equality(equality) => equals(equality),
        Comparison::Order(order) => orders(order),
    }
}

fn equals(equality: Equality) -> &'static str {
    match equality {
        Equality::Is => "=",
        Equality::IsNot => "<>",
    }
}

fn orders(order: Order) -> &'static str {
    match order {
        Order::Less => "<",
        Order::LessOrEqual => "<=",
        Order::More => ">",
        Order::MoreOrEqual => ">=",
    }
}
