//! The targets of `fuzz/` without guidance: over the inputs that are kept, findings of the past among
//! them, and over damaged ones of them. So the inputs don't rot, and what must hold for any bytes is
//! asked of every change.

#![cfg(feature = "agent")]
// The helpers of a test may fail loudly like the tests themselves.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use targets::{TARGETS, Target};

/// Damaged inputs for each target: a second or two of unoptimised code for all of them.
const CASES: u32 = 200;

fn folder(target: &Target) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/fixtures/fuzz").join(target.name)
}

/// What is kept for a target, in the order of the names.
fn kept(target: &Target) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder(target)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, fs::read(path).unwrap())
    };
    paths.iter().map(read).collect()
}

#[test]
fn every_kept_input_does_no_harm() {
    for target in TARGETS {
        let inputs = kept(target);
        assert!(inputs.len() > 5, "{} has few inputs", target.name);
        for (name, bytes) in inputs {
            let outcome = std::panic::catch_unwind(|| (target.run)(&bytes));
            assert!(outcome.is_ok(), "{}: {name}", target.name);
        }
    }
}

#[test]
fn what_is_kept_stays_small() {
    let sizes = TARGETS.iter().flat_map(kept).map(|(_, bytes)| bytes.len());
    let bytes: usize = sizes.sum();
    assert!(bytes < 200_000, "{bytes} bytes");
    let names: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    let root = folder(&TARGETS[0]);
    for entry in fs::read_dir(root.parent().unwrap()).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(
            names.contains(name.to_str().unwrap()),
            "{name:?} is of no target"
        );
    }
}

/// One change to an input.
#[derive(Debug, Clone)]
enum Damage {
    Replace(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    /// A piece of another input comes here.
    Splice(
        prop::sample::Index,
        prop::sample::Index,
        prop::sample::Index,
        usize,
    ),
}

fn a_damage() -> impl Strategy<Value = Damage> {
    use prop::sample::Index;
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (any::<Index>(), 1..40usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        (any::<Index>(), any::<Index>(), any::<Index>(), 1..200usize)
            .prop_map(|(at, other, from, count)| Damage::Splice(at, other, from, count)),
    ]
}

fn damaged(bytes: &[u8], damage: &Damage, all: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let (at, removed, put) = match damage {
        Damage::Replace(at, byte) => (at, 1, vec![*byte]),
        Damage::Insert(at, put) => (at, 0, put.clone()),
        Damage::Remove(at, count) => (at, *count, Vec::new()),
        Damage::Splice(at, other, from, count) => {
            let other = other.get(all);
            let from = from.index(other.len() + 1);
            let until = (from + count).min(other.len());
            (at, 0, other[from..until].to_vec())
        }
    };
    let at = at.index(bytes.len() + 1);
    let until = (at + removed).min(bytes.len());
    bytes.splice(at..until, put);
    bytes
}

/// The same properties for inputs near the kept ones and for any bytes at all.
fn check_damaged(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let inputs: Vec<Vec<u8>> = kept(target).into_iter().map(|(_, bytes)| bytes).collect();
    let near = (
        any::<prop::sample::Index>(),
        prop::collection::vec(a_damage(), 1..4),
    );
    let near = near.prop_map(|(which, damages)| {
        let undamaged = which.get(&inputs).clone();
        let damages = damages.iter();
        damages.fold(undamaged, |bytes, damage| damaged(&bytes, damage, &inputs))
    });
    let strategy = prop_oneof![4 => near, 1 => prop::collection::vec(any::<u8>(), 0..200)];
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&strategy, |bytes| {
        (target.run)(&bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[test]
fn no_datagram_is_too_strange() {
    check_damaged("datagram");
}

#[test]
fn no_body_is_too_strange() {
    check_damaged("amqp_body");
}

#[test]
fn no_message_is_too_strange() {
    check_damaged("message");
}

#[test]
fn no_configuration_is_too_strange() {
    check_damaged("ini");
}

#[test]
fn no_pipeline_is_too_strange() {
    check_damaged("yaml");
}

#[test]
fn no_domain_is_too_strange() {
    check_damaged("nova_xml");
}

#[test]
fn no_list_of_hosts_is_too_strange() {
    check_damaged("hosts_file");
}

#[test]
fn no_reply_is_too_strange() {
    check_damaged("replies");
}

#[test]
fn no_spool_is_too_strange() {
    check_damaged("spool");
}
