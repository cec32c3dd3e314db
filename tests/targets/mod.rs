//! What is done with bytes that somebody else wrote, and what must hold whatever they are. The same
//! bodies run twice: coverage-guided in `fuzz/` (see CONTRIBUTING.md), and over the kept inputs and over
//! damaged ones of them in `tests/fuzz.rs`.
//!
//! Each takes any bytes. A panic here or in the code below is a finding.

// The bodies fail loudly, like tests; not every program that includes this file runs all of them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    unreachable_pub
)]

mod files;
mod readings;
mod replies;
mod spool;

/// A name, which is also that of the folder with its inputs, and what is done with the bytes.
pub struct Target {
    /// As `scripts/fuzz` takes it.
    pub name: &'static str,
    /// What must hold for any bytes.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "datagram",
        run: readings::datagram,
    },
    Target {
        name: "amqp_body",
        run: readings::amqp_body,
    },
    Target {
        name: "message",
        run: readings::message,
    },
    Target {
        name: "ini",
        run: files::ini,
    },
    Target {
        name: "yaml",
        run: files::yaml,
    },
    Target {
        name: "nova_xml",
        run: readings::nova_xml,
    },
    Target {
        name: "hosts_file",
        run: files::hosts_file,
    },
    Target {
        name: "replies",
        run: replies::replies,
    },
    Target {
        name: "spool",
        run: spool::spool,
    },
];

/// Runs the target of this name.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    (target.run)(bytes);
}
