//! `notifier://`: signed messages in the bodies of a message broker, each confirmed by it.

pub mod undelivered;
