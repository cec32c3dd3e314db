//! Pure. What an operator asks of history, in the words of Ceilometer's own client, and what the
//! answers look like.

mod columns;
mod parse;
mod render;

pub use columns::{Cell, Column, METERS, RESOURCES, SAMPLES, STATISTICS};
pub use parse::{CONDITIONS_MAX, QueryError};
pub use render::{Format, Page};

use crate::model::UtcTime;

/// Which samples are meant: those that all conditions hold for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// In the order in which they were written.
    pub conditions: Vec<Condition>,
}

/// One thing that must be so.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// A text of a sample's is this one, or isn't.
    Text(Field, Equality, String),
    /// It was taken before or after a moment.
    Taken(Order, UtcTime),
    /// Its metadata have this key with such a value.
    Metadata(String, Sought),
}

/// The texts of a sample that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// What it is about.
    Resource,
    /// Whose it is.
    User,
    /// Whose it is, in groups.
    Project,
    /// The sender's own `source`.
    Source,
    /// The message that brought it.
    Message,
    /// What was measured.
    Meter,
}

/// Whether a text is to be this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Equality {
    /// `=`
    Is,
    /// `!=`
    IsNot,
}

/// How something that can be less or more is to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    More,
    /// `>=`
    MoreOrEqual,
}

/// What a value of metadata is to be. A value is looked for among those of its own type only, as
/// Ceilometer keeps them apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Sought {
    /// A text, or another one.
    Text(Equality, String),
    /// A truth value, or the other one.
    Truth(Equality, bool),
    /// An integer.
    Int(Comparison, i64),
    /// A floating-point number.
    Float(Comparison, f64),
    /// Python's None, or a text.
    None(Equality),
}

/// How a number is to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=` or `!=`
    Equality(Equality),
    /// Any of the others.
    Order(Order),
}

/// What statistics can be grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// By `resource_id`.
    Resource,
    /// By `user_id`.
    User,
    /// By `project_id`.
    Project,
    /// By `source`.
    Source,
}

impl Group {
    /// Every member.
    pub const ALL: [Group; 4] = [Group::Resource, Group::User, Group::Project, Group::Source];

    /// The name in Ceilometer's API.
    pub fn as_str(self) -> &'static str {
        match self {
            Group::Resource => "resource_id",
            Group::User => "user_id",
            Group::Project => "project_id",
            Group::Source => "source",
        }
    }
}

impl std::str::FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Group::ALL.into_iter().find(|group| group.as_str() == text);
        found.ok_or_else(|| {
            let names = Group::ALL.map(Group::as_str).join(", ");
            format!("expected one of {names}")
        })
    }
}
