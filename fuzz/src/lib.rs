//! The bodies of the targets, which the main test suite runs as well.

#[path = "../../tests/targets/mod.rs"]
pub mod targets;
