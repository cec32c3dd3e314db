//! What moves a state and what doesn't: messages through the verifier and into a database of each
//! engine, the genuine and whatever somebody may make of them.

#![cfg(feature = "storage")]
// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ceilometer_ha::clock;
use ceilometer_ha::model::{
    Evidence, Identity, Metadata, Meter, Proof, Reading, Received, Sample, Secret, Standing,
    UtcTime, Value, Volume, meters,
};
use ceilometer_ha::storage::{Database, HeldBack, Reset, Resetting};
use ceilometer_ha::wire::keys::{HostKey, KeyRing, Lookup};
use ceilometer_ha::wire::{self, Policy, Proven, Signing, Verifier, Via, msgpack, signature};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use support::store::{Scratch, about, on_each_engine, reading_of};

const SECRET: &str = "a secret of the whole fleet";
const PATH: &str = "udp://192.0.2.6:4953";
const SECOND: i64 = 1_000_000;

fn arrived() -> Via<'static> {
    Via::Udp("192.0.2.6:4953".parse().unwrap())
}

fn hex(byte: u8) -> String {
    format!("{byte:02x}").repeat(32)
}

/// Masters 1 to 3, of which 3 is retired; host c may look at others.
fn policy() -> Policy {
    let masters: String = (1..=3)
        .map(|n| format!("master {n} {}\n", hex(n)))
        .collect();
    Policy {
        keys: KeyRing::parse(&format!("{masters}retired 3\n")).unwrap(),
        observers: BTreeSet::from(["c".to_owned()]),
        clock_tolerance: Some(Duration::from_secs(300)),
        ..Policy::default()
    }
}

fn verifier() -> Verifier {
    Verifier::with(Secret::new(SECRET), policy(), &Proven::default())
}

/// A host's key as the master of that number yields it, retired or not.
fn key(host: &str, number: u32) -> HostKey {
    let master = format!("master {number} {}", hex(u8::try_from(number).unwrap()));
    match KeyRing::parse(&master).unwrap().find(host, number) {
        Lookup::Key(key) => *key,
        other => panic!("{other:?}"),
    }
}

fn signing(key: Option<HostKey>) -> Signing {
    Signing::new("openstack", Secret::new(SECRET)).proving(key)
}

fn sample(meter: Meter, resource: &str, seconds_ago: i64) -> Sample {
    let at = clock::utc().unix_micros() - seconds_ago * SECOND;
    let metadata = Metadata::from([
        ("node".to_owned(), Value::from("n")),
        ("ratio".to_owned(), Value::Float(0.25)),
    ]);
    let at = UtcTime::from_unix_micros(at);
    Sample::new(meter, Volume::Int(1), resource, at, metadata)
}

fn reading(observer: &str, seq: u64, sample: Sample) -> Reading {
    Reading {
        identity: Identity {
            observer: observer.to_owned(),
            epoch: 7,
            seq,
        },
        message_id: format!("{observer}-{seq}"),
        sample,
    }
}

/// What n says of its storage.
fn storage(seq: u64, seconds_ago: i64) -> Reading {
    let sample = sample(meters::STORAGE_CONNECTIVITY, "n", seconds_ago);
    reading("n", seq, sample)
}

type Entries = Vec<(String, Value)>;

fn entries(reading: &Reading, signing: &Signing) -> Entries {
    let signed = wire::signed(reading, PATH, signing).into_iter();
    signed.map(|(key, value)| (key.to_owned(), value)).collect()
}

fn set(message: &mut Entries, key: &str, value: impl Into<Value>) {
    message
        .iter_mut()
        .find(|(known, _)| known == key)
        .unwrap()
        .1 = value.into();
}

fn bytes(message: &Entries) -> Vec<u8> {
    let mut out = rmp::encode::ByteBuf::new();
    msgpack::write_map(&mut out, message);
    out.into_vec()
}

/// Signed anew with the fleet's secret, as one of its hosts can.
fn signed_again(mut message: Entries) -> Entries {
    let signature = signature::sign(&message, &Secret::new(SECRET));
    set(&mut message, signature::KEY, signature);
    message
}

/// What can be done to a reading on its way, and by what reason it is known then.
const ATTACKS: [(&str, &str); 19] = [
    ("forged with another secret", "bad_signature"),
    ("not signed", "no_signature"),
    ("changed on the way", "bad_signature"),
    ("changed by a host of the fleet", "bad_proof"),
    ("moved between entries by a host of the fleet", "bad_proof"),
    ("proof with a flipped digit", "bad_proof"),
    ("proof that is none", "bad_proof"),
    ("proven by another host's key", "bad_proof"),
    ("downgraded to no proof", "no_proof"),
    ("proven by a retired key", "expired_key"),
    ("proven by an unknown key", "unknown_key"),
    ("about another host's storage", "wrong_host"),
    ("a look at another host by who mayn't", "wrong_host"),
    ("sent on by another way", "other_path"),
    ("replayed", "duplicate"),
    ("replayed by another path", "other_path"),
    ("reordered", "late"),
    ("from long ago", "ancient"),
    ("from the future", "future"),
];

/// The attack's bytes. `genuine` was taken in before; `salt` chooses where something is changed.
fn attack(name: &str, genuine: &Reading, seq: u64, salt: usize) -> Vec<u8> {
    let own = signing(Some(key("n", 1)));
    let next = storage(seq, 0);
    let good = || entries(&next, &own);
    let with = |key| bytes(&entries(&next, &signing(Some(key))));
    match name {
        "forged with another secret" => {
            let forger = Signing::new("openstack", Secret::new("another"));
            bytes(&entries(&next, &forger.proving(Some(key("n", 1)))))
        }
        "not signed" => {
            let mut message = good();
            set(&mut message, signature::KEY, "");
            bytes(&message)
        }
        "changed on the way" => {
            let mut message = good();
            set(&mut message, "counter_volume", Value::Int(0));
            bytes(&message)
        }
        "changed by a host of the fleet" => {
            let mut message = good();
            let changes: [(&str, Value); 6] = [
                ("counter_volume", Value::Int(0)),
                ("ha_seq", Value::Int((seq + 1000).into())),
                ("ha_epoch", Value::Int(8)),
                ("source", "elsewhere".into()),
                ("counter_volume", Value::Float(1.0)),
                ("resource_metadata", Value::Map(vec![])),
            ];
            let (key, value) = changes[salt % changes.len()].clone();
            set(&mut message, key, value);
            bytes(&signed_again(message))
        }
        "moved between entries by a host of the fleet" => {
            let mut message = good();
            let path = message
                .iter()
                .position(|(key, _)| key == "user_id")
                .unwrap();
            message.remove(path);
            set(
                &mut message,
                "timestamp",
                format!("{}user_idNone", next.sample.timestamp),
            );
            bytes(&signed_again(message))
        }
        "proof with a flipped digit" => {
            let mut message = good();
            let text = message.iter().find(|(key, _)| key == "ha_proof").unwrap();
            let mut text = text.1.as_str().unwrap().to_owned();
            let at = 2 + salt % 64;
            let other = if &text[at..=at] == "0" { "1" } else { "0" };
            text.replace_range(at..=at, other);
            set(&mut message, "ha_proof", text);
            bytes(&signed_again(message))
        }
        "proof that is none" => {
            let mut message = good();
            let texts = ["1", "1:", ":", "1:00", "01:00", "x", "1:zz"];
            set(&mut message, "ha_proof", texts[salt % texts.len()]);
            bytes(&signed_again(message))
        }
        "proven by another host's key" => {
            let stolen = HostKey::parse(&key("m", 1).issued().replace("m 1", "n 1")).unwrap();
            with(stolen)
        }
        "downgraded to no proof" => bytes(&entries(&next, &signing(None))),
        "proven by a retired key" => with(key("n", 3)),
        "proven by an unknown key" => with(key("n", 9)),
        "about another host's storage" => {
            let sample = sample(meters::STORAGE_CONNECTIVITY, "m", 0);
            bytes(&entries(&reading("n", seq, sample), &own))
        }
        "a look at another host by who mayn't" => {
            let sample = sample(meters::HOST_CONNECTIVITY, "m", 0);
            bytes(&entries(&reading("n", seq, sample), &own))
        }
        "sent on by another way" | "replayed by another path" => {
            let paths = [
                "udp://192.0.2.7:4953",
                "udp://192.0.2.6:4952",
                "notifier://?topic=t",
            ];
            let sent = if name == "replayed by another path" {
                genuine
            } else {
                &next
            };
            wire::encode(sent, paths[salt % paths.len()], &own)
        }
        "replayed" => bytes(&entries(genuine, &own)),
        "reordered" => bytes(&entries(&storage(seq % 1000 + 1, 0), &own)),
        "from long ago" => bytes(&entries(
            &storage(seq, 301 + i64::try_from(salt).unwrap()),
            &own,
        )),
        "from the future" => bytes(&entries(
            &storage(seq, -310 - i64::try_from(salt).unwrap()),
            &own,
        )),
        other => panic!("{other}"),
    }
}

/// Takes a datagram in as a collector does.
fn receive(verifier: &Verifier, datagram: &[u8]) -> Result<Received, wire::Refusal> {
    let (mut received, refusals) = wire::receive(datagram, verifier, arrived());
    match (received.pop(), refusals.first()) {
        (Some(mut message), None) => {
            verifier.judge_time(&mut message, clock::utc());
            Ok(message)
        }
        (None, Some(refusal)) => Err(*refusal),
        other => panic!("{other:?}"),
    }
}

/// Stores it by both doors, states ahead and as a batch; says by what it is counted.
async fn outcome(db: &Database, verifier: &Verifier, datagram: &[u8]) -> String {
    let message = match receive(verifier, datagram) {
        Ok(message) => message,
        Err(refusal) => return refusal.as_str().to_owned(),
    };
    let mut moved = db.store_states(&[Arc::new(message.clone())]).await.unwrap();
    let report = db.store(&[message]).await.unwrap();
    moved += report.moved;
    let mut counted = Vec::new();
    counted.extend((report.duplicates > 0).then_some("duplicate"));
    counted.extend((report.late > 0).then_some("late"));
    for (reason, count) in HeldBack::ALL.into_iter().zip(report.held_back) {
        counted.extend((count > 0).then_some(reason.as_str()));
    }
    counted.extend((moved > 0).then_some("moved"));
    counted.join(" ")
}

/// All that says something about now.
async fn present(scratch: &Scratch) -> Vec<String> {
    let mut all = Vec::new();
    for text in [
        "SELECT observer, meter, resource_id, epoch, seq, volume, quality, received_at, paths FROM ha_state",
        "SELECT observer, epoch, seq, received_at, rival_epoch FROM ha_observer",
        "SELECT observer, path, epoch, seq FROM ha_path",
        "SELECT observer, epoch, seq FROM ha_round",
    ] {
        all.extend(scratch.look(text).await);
    }
    all
}

on_each_engine! {
    async fn nothing_but_what_its_host_says_now_moves_a_state(scratch: Scratch) {
        let db = scratch.open().await;
        let verifier = verifier();
        let own = signing(Some(key("n", 1)));
        let mut runner = TestRunner::deterministic();
        let order = Just(ATTACKS.to_vec()).prop_shuffle();
        for round in 1..=4_u64 {
            let genuine = storage(round * 1000, 0);
            let said = outcome(&db, &verifier, &wire::encode(&genuine, PATH, &own)).await;
            assert_eq!(said, "moved");
            let before = present(&scratch).await;
            assert!(before[0].contains("host_key"), "{before:?}");
            let attacks = order.new_tree(&mut runner).unwrap().current();
            for (seq, (name, reason)) in (round * 1000 + 1..).zip(attacks) {
                let salt = (0..200_usize).new_tree(&mut runner).unwrap().current();
                let datagram = attack(name, &genuine, seq, salt);
                assert_eq!(outcome(&db, &verifier, &datagram).await, reason, "{name}, {salt}");
                assert_eq!(present(&scratch).await, before, "{name}, {salt}");
            }
        }
    }

    async fn waiting_readings_move_no_state_and_open_nothing(scratch: Scratch) {
        let db = scratch.open().await;
        let backlog = |received: Received| with_standing(received, Standing::Backlog);
        let report = db
            .store(&[
                backlog(about("instance.state", "a", 1.0, reading_of("n", 5, 1))),
                backlog(about("instance.round", "n", 1.0, reading_of("n", 5, 2))),
                backlog(reading_of("n", 5, 3)),
            ])
            .await
            .unwrap();
        assert_eq!((report.stored, report.moved, report.held_back[0]), (3, 0, 3));
        assert_eq!(present(&scratch).await, Vec::<String>::new());

        db.store(&[reading_of("n", 6, 1)]).await.unwrap();
        scratch.change("UPDATE ha_observer SET began_received_at = 0, began_observed_at = 0").await;
        let before = present(&scratch).await;
        for standing in [Standing::Backlog, Standing::Ancient, Standing::Future] {
            let rival = with_standing(reading_of("n", 5, 10 + standing as u64), standing);
            let report = db.store(std::slice::from_ref(&rival)).await.unwrap();
            assert_eq!((report.stored, report.conflicts), (1, vec![]));
            assert_eq!(db.store_states(&[Arc::new(rival)]).await.unwrap(), 0);
        }
        assert_eq!(present(&scratch).await, before);
    }

    async fn a_state_moves_whether_its_history_comes_before_or_after(scratch: Scratch) {
        for history_first in [true, false] {
            let scratch = scratch.another();
            let db = scratch.open().await;
            let live = [
                about("instance.state", "a", 1.0, reading_of("n", 5, 1)),
                about("instance.state", "b", 1.0, reading_of("n", 5, 2)),
                about("instance.round", "n", 2.0, reading_of("n", 5, 3)),
            ];
            let history = live.clone().map(|one| with_standing(one, Standing::Backlog));
            let states: Vec<_> = live.into_iter().map(Arc::new).collect();
            if history_first {
                db.store(&history).await.unwrap();
            }
            assert_eq!(db.store_states(&states).await.unwrap(), 3);
            if !history_first {
                let waiting = scratch.look("SELECT seq, completed_at IS NULL FROM ha_round").await;
                assert_eq!(waiting, ["3|1"]);
                db.store(&history).await.unwrap();
            }
            let rounds = scratch.look("SELECT seq, completed_at IS NULL FROM ha_round").await;
            assert_eq!(rounds, ["3|0"], "history first: {history_first}");
            let confirmed = "SELECT count(*) FROM ha_state WHERE confirmed_at IS NOT NULL";
            assert_eq!(scratch.look(confirmed).await, ["2"]);
            let before = present(&scratch).await;
            assert_eq!(db.store_states(&states).await.unwrap(), 0, "it is shown already");
            assert_eq!(present(&scratch).await, before);
        }
    }

    async fn a_forgotten_host_stays_so_whatever_door_its_copies_take(scratch: Scratch) {
        let db = scratch.open().await;
        let ahead = Arc::new(reading_of("n", 6, 2));
        db.store(&[reading_of("n", 5, 1), reading_of("n", 6, 1)]).await.unwrap();
        // Shown, and its history never came.
        assert_eq!(db.store_states(&[Arc::clone(&ahead)]).await.unwrap(), 1);
        let force = ceilometer_ha::storage::ForgetOptions { force: true, dry_run: false };
        db.forget("n", force).await.unwrap();
        for (epoch, seq) in [(5, 1), (6, 1), (6, 2)] {
            let copy = reading_of("n", epoch, seq);
            assert_eq!(db.store_states(&[Arc::new(copy.clone())]).await.unwrap(), 0);
            assert_eq!(db.store(&[copy]).await.unwrap().moved, 0);
        }
        assert_eq!(present(&scratch).await, Vec::<String>::new());
        assert_eq!(db.store(&[reading_of("n", 6, 3)]).await.unwrap().moved, 1);
    }

    async fn a_lower_epoch_is_the_present_once_the_identity_is_reset(scratch: Scratch) {
        let db = scratch.open().await;
        let unknown = db.reset_identity("n", false).await.unwrap();
        assert_eq!(unknown, Resetting::Unknown { nearest: vec![] });
        db.store(&[reading_of("n", 3, 1), reading_of("n", 9, 1), reading_of("n", 9, 2)])
            .await
            .unwrap();
        assert!(matches!(
            db.reset_identity("n", false).await.unwrap(),
            Resetting::NotNeeded { epoch: 9, .. }
        ));
        scratch.change("UPDATE ha_seen SET seen_at = seen_at - 50000000").await;
        assert_eq!(db.store(&[reading_of("n", 4, 1)]).await.unwrap().moved, 0);
        assert!(matches!(
            db.reset_identity("n", false).await.unwrap(),
            Resetting::StillThere { epoch: 9, .. }
        ));
        scratch.change("UPDATE ha_seen SET seen_at = seen_at - 50000000 WHERE epoch <> 4").await;
        let before = present(&scratch).await;
        let expected = |outcome| match outcome {
            Resetting::Reset(Reset { epoch: 4, was_epoch: 9, retired: 2, states: 1, .. }) => {}
            other => panic!("{other:?}"),
        };
        expected(db.reset_identity("n", true).await.unwrap());
        assert_eq!(present(&scratch).await, before, "only asked");
        expected(db.reset_identity("n", false).await.unwrap());
        assert_eq!(present(&scratch).await, Vec::<String>::new());

        assert_eq!(db.store(&[reading_of("n", 4, 2)]).await.unwrap().moved, 1);
        let before = present(&scratch).await;
        let retired = HeldBack::ALL.iter().position(|one| *one == HeldBack::Retired).unwrap();
        for (epoch, seq) in [(9, 3), (9, 99), (3, 2)] {
            let old = reading_of("n", epoch, seq);
            assert_eq!(db.store_states(&[Arc::new(old.clone())]).await.unwrap(), 0);
            let report = db.store(&[old]).await.unwrap();
            assert_eq!((report.stored, report.held_back[retired]), (1, 1));
        }
        let copy = db.store(&[reading_of("n", 9, 2)]).await.unwrap();
        assert_eq!((copy.stored, copy.duplicates), (0, 1), "copies are still known");
        assert_eq!(present(&scratch).await, before);
        assert!(matches!(
            db.reset_identity("n", false).await.unwrap(),
            Resetting::NotNeeded { epoch: 4, .. }
        ));
        // The next start, and the one after it, are lives like any other.
        assert_eq!(db.store(&[reading_of("n", 5, 1)]).await.unwrap().moved, 1);
    }

    async fn the_use_of_a_key_is_written_once_a_minute(scratch: Scratch) {
        let db = scratch.open().await;
        let proven = |host: &str, seq, number| Received {
            evidence: Evidence { proof: Proof::HostKey(number), standing: Standing::Live },
            ..reading_of(host, 5, seq)
        };
        let uses = "SELECT observer, number, last_used_at - first_used_at FROM ha_host_key ORDER BY observer, number";
        db.store(&[proven("n", 1, 1), proven("n", 2, 1), proven("n", 3, 2), reading_of("m", 5, 1)])
            .await
            .unwrap();
        db.store(&[with_standing(proven("o", 1, 1), Standing::Backlog)]).await.unwrap();
        assert_eq!(scratch.look(uses).await, ["n|1|0", "n|2|0"]);
        // Whatever another program writes meanwhile.
        scratch.change("UPDATE ha_host_key SET last_used_at = first_used_at + 7").await;
        db.store(&[proven("n", 4, 1)]).await.unwrap();
        assert_eq!(scratch.look(uses).await, ["n|1|7", "n|2|7"]);
        let listed = db.host_key_uses().await.unwrap();
        let listed: Vec<_> = listed.iter().map(|one| (one.host.as_str(), one.number)).collect();
        assert_eq!(listed, [("n", 1), ("n", 2)]);
        let force = ceilometer_ha::storage::ForgetOptions { force: true, dry_run: false };
        db.forget("n", force).await.unwrap();
        assert_eq!(db.host_key_uses().await.unwrap(), []);
    }
}

fn with_standing(received: Received, standing: Standing) -> Received {
    let evidence = Evidence {
        standing,
        ..received.evidence
    };
    Received {
        evidence,
        ..received
    }
}

#[test]
fn who_never_proved_itself_is_taken_as_weaker_evidence_unless_proofs_are_required() {
    let unproven = wire::encode(&storage(1, 0), PATH, &signing(None));
    let taken = receive(&verifier(), &unproven).unwrap();
    assert_eq!(taken.evidence.proof, Proof::SharedSecret);
    let policy = Policy {
        require_proof: true,
        ..policy()
    };
    let strict = Verifier::with(Secret::new(SECRET), policy, &Proven::default());
    assert_eq!(receive(&strict, &unproven), Err(wire::Refusal::NoProof));
}

#[test]
fn who_proved_itself_before_a_start_or_a_reload_has_to_go_on() {
    let unproven = wire::encode(&storage(1, 0), PATH, &signing(None));
    let proven = Proven::default();
    proven.add(["n"]);
    let after = Verifier::with(Secret::new(SECRET), policy(), &proven);
    assert_eq!(receive(&after, &unproven), Err(wire::Refusal::NoProof));
    let learnt = Proven::default();
    let before = Verifier::with(Secret::new(SECRET), policy(), &learnt);
    let good = wire::encode(&storage(1, 0), PATH, &signing(Some(key("n", 2))));
    let taken = receive(&before, &good).unwrap();
    assert_eq!(taken.evidence.proof, Proof::HostKey(2));
    let after = Verifier::with(Secret::new(SECRET), policy(), &learnt);
    assert_eq!(receive(&after, &unproven), Err(wire::Refusal::NoProof));
}

#[test]
fn a_key_that_was_replaced_is_believed_no_more_after_a_reload() {
    let good = wire::encode(&storage(1, 0), PATH, &signing(Some(key("n", 1))));
    let proven = Proven::default();
    let verifier = Verifier::with(Secret::new(SECRET), policy(), &proven);
    receive(&verifier, &good).unwrap();
    for (keys, refusal) in [
        (format!("master 1 {}", hex(8)), wire::Refusal::BadProof),
        (
            format!("master 1 {}\nretired 1 n", hex(1)),
            wire::Refusal::ExpiredKey,
        ),
        (format!("key m 1 {}", hex(1)), wire::Refusal::UnknownKey),
    ] {
        let policy = Policy {
            keys: KeyRing::parse(&keys).unwrap(),
            ..policy()
        };
        let after = Verifier::with(Secret::new(SECRET), policy, &proven);
        assert_eq!(receive(&after, &good), Err(refusal), "{keys}");
    }
}

#[test]
fn who_is_listed_may_look_at_others_and_nothing_else() {
    let own = signing(Some(key("c", 1)));
    let look = reading("c", 1, sample(meters::HOST_CONNECTIVITY, "n", 0));
    receive(&verifier(), &wire::encode(&look, PATH, &own)).unwrap();
    let storage = reading("c", 1, sample(meters::STORAGE_CONNECTIVITY, "n", 0));
    let refused = receive(&verifier(), &wire::encode(&storage, PATH, &own));
    assert_eq!(refused, Err(wire::Refusal::WrongHost));
}

/// Without keys nobody is held to them, and a proof by whatever key is no better than none.
#[test]
fn a_collector_without_keys_takes_what_it_always_took() {
    let verifier = Verifier::new(Secret::new(SECRET));
    for key in [None, Some(key("n", 9))] {
        let datagram = wire::encode(&storage(1, 0), PATH, &signing(key));
        let taken = receive(&verifier, &datagram).unwrap();
        assert_eq!(taken.evidence, Evidence::default());
    }
}

/// Old and current Ceilometer number nothing and prove nothing: their samples are history, whatever
/// is asked of hosts.
#[test]
fn senders_of_ceilometer_are_taken_where_proofs_are_required() {
    let lines = include_str!("fixtures/udp.jsonl").lines();
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("\"{name}\": \"")).unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let mut taken = 0;
    for line in lines {
        let digits = field(line, "datagram_hex");
        let bytes: Vec<u8> = (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect();
        let secret = Secret::new(field(line, "secret"));
        let policy = Policy {
            require_proof: true,
            ..policy()
        };
        let strict = Verifier::with(secret.clone(), policy, &Proven::default());
        let (received, refusals) = wire::receive(&bytes, &strict, arrived());
        let (expected, _) = wire::receive(&bytes, &Verifier::new(secret), Via::Anywhere);
        assert_eq!(received.len(), expected.len(), "{refusals:?}");
        for mut message in received {
            strict.judge_time(&mut message, clock::utc());
            assert_eq!(
                (message.identity, message.evidence),
                (None, Evidence::default())
            );
            taken += 1;
        }
    }
    assert!(taken > 40, "{taken}");
}

proptest! {
    /// Whatever is flipped or cut off, nothing is taken that isn't the message that was sent.
    #[test]
    fn no_damage_passes(flips in prop::collection::vec(any::<prop::sample::Index>(), 0..3), cut in any::<prop::sample::Index>(), is_cut in any::<bool>()) {
        let good = wire::encode(&storage(5, 0), PATH, &signing(Some(key("n", 1))));
        let mut damaged = good.clone();
        for flip in flips {
            let bit = flip.index(damaged.len() * 8);
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
        if is_cut {
            damaged.truncate(cut.index(damaged.len()));
        }
        let verifier = verifier();
        let (sent, _) = wire::receive(&good, &verifier, arrived());
        let (taken, _) = wire::receive(&damaged, &verifier, arrived());
        for message in taken {
            prop_assert_eq!(&message, &sent[0]);
        }
    }
}
