//! Whole programs on loopback, from the datagram to the operator's screen: what a collector takes
//! and what it refuses, restarts and kills, a database in trouble, the demo, and the command lines.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

mod intake {
    //! What comes in over UDP: authentic readings and everything else.

    use std::collections::{BTreeMap, BTreeSet};

    use ceilometer_ha::clock;
    use ceilometer_ha::model::{Secret, Value};
    use ceilometer_ha::wire::{self, msgpack, signature};
    use nix::sys::signal::Signal;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    use crate::support::process::Process;
    use crate::support::site::{
        Daemon, EPOCH, HOST, SECRET, Site, goldens, reading, signed, signed_with,
    };
    use crate::support::{query, wait_for, wait_until};

    /// Golden messages whose time has no meaning: refused before storing.
    const BAD_TIMES: &[&str] = &["timestamp_bad", "timestamp_empty"];
    /// Golden messages with an integer that no column holds: the original lost them too.
    const UNSTORABLE: &[&str] = &["md_ints", "md_list_long"];

    #[test]
    fn every_golden_datagram_of_our_secret_is_stored_once() {
        let site = Site::new();
        let _collector = site.collector();
        let goldens = goldens();
        let mut expected = BTreeSet::new();
        for golden in &goldens {
            // Twice, as two networks would bring it.
            site.send(&golden.datagram);
            site.send(&golden.datagram);
            let name = golden.name.as_str();
            if golden.secret == SECRET && !BAD_TIMES.contains(&name) && !UNSTORABLE.contains(&name)
            {
                expected.insert(golden.message_id.clone());
            }
        }
        assert_eq!((goldens.len(), expected.len()), (57, 50));
        wait_for("everything to be judged", || {
            let done =
                site.readings("stored") + site.readings("duplicate") + site.readings("refused");
            (done == 104).then_some(())
        });
        let stored = query(&site.database(), "SELECT message_id FROM sample");
        let ids: Vec<&str> = stored
            .iter()
            .map(|row| row["message_id"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), expected.len(), "each once");
        assert!(ids.iter().all(|id| expected.contains(*id)), "{ids:?}");
        let counted = ["stored", "duplicate", "refused"].map(|result| site.readings(result));
        assert_eq!(counted, [50, 50, 4]);
        let judged = ["accepted", "bad_field", "bad_signature", "no_signature"]
            .map(|verdict| site.messages(verdict));
        assert_eq!(judged, [104, 4, 4, 2]);
        assert_eq!(site.refused_messages(), 10, "and for no other reason");
    }

    /// Entries as one message, signed or not.
    fn message(entries: &[(&str, Value)]) -> Vec<u8> {
        let mut out = rmp::encode::ByteBuf::new();
        msgpack::write_map(&mut out, entries);
        out.into_vec()
    }

    fn list(messages: &[&[u8]]) -> Vec<u8> {
        let mut datagram = msgpack::list_head(messages.len());
        datagram.extend(messages.concat());
        datagram
    }

    /// An authentic message in which somebody has turned the 1 into a 0.
    fn forged(observer: &str, seq: u64) -> Vec<u8> {
        let mut datagram = signed(&reading(observer, seq));
        let name = b"counter_volume";
        let at = datagram
            .windows(name.len())
            .position(|window| window == name)
            .unwrap()
            + name.len();
        assert_eq!(std::mem::replace(&mut datagram[at], 0), 1);
        datagram
    }

    /// Numbers without a pattern, the same in every run.
    fn noise(length: usize) -> Vec<u8> {
        let mut state: u32 = 2_463_534_242;
        let mut next = || {
            // Marsaglia's xorshift.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_be_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    }

    /// Datagrams that must not leave a trace in a table, with the verdicts that they earn. Whatever of
    /// them speaks of a host speaks of `evil`.
    fn refused() -> Vec<(&'static str, Vec<u8>)> {
        let evil = reading("evil", 1);
        let authentic = signed(&evil);
        let foreign = goldens()
            .into_iter()
            .filter(|golden| golden.secret != SECRET);
        let mut cases: Vec<(&str, Vec<u8>)> = foreign
            .map(|golden| match golden.name.as_str() {
                "no_secret" => ("no_signature", golden.datagram),
                _ => ("bad_signature", golden.datagram),
            })
            .collect();
        assert_eq!(cases.len(), 3);
        let of_a_map = |entries: &[(&str, Value)]| {
            let signature = signature::sign(entries, &Secret::new(SECRET));
            let mut entries = entries.to_vec();
            entries.push((signature::KEY, signature.into()));
            message(&entries)
        };
        cases.extend([
            ("no_signature", signed_with(&evil, "udp://test", "")),
            ("no_signature", message(&[("resource_id", "evil".into())])),
            (
                "bad_signature",
                signed_with(&evil, "udp://test", "another secret"),
            ),
            ("bad_signature", forged("evil", 1)),
            ("missing_field", of_a_map(&[("resource_id", "evil".into())])),
            ("not_msgpack", vec![]),
            ("not_msgpack", vec![0xc1]),
            ("not_msgpack", authentic[..authentic.len() - 1].to_vec()),
            ("not_a_map", vec![0x01]),
            ("unsupported_type", vec![0x81, 0xa1, b'a', 0xd4, 0x00, 0x00]),
            ("bad_text", vec![0x81, 0xa1, 0xff, 0x01]),
            (
                "duplicate_key",
                vec![0x82, 0xa1, b'a', 0x01, 0xa1, b'a', 0x02],
            ),
            (
                "too_deep",
                [vec![0x81, 0xa1, b'a'], vec![0x91; 60_000], vec![0x01]].concat(),
            ),
            ("too_many_messages", vec![0xdd, 0xff, 0xff, 0xff, 0xff]),
            ("not_msgpack", vec![0xdf, 0xff, 0xff, 0xff, 0xff]),
            ("not_a_map not_msgpack", noise(60_000)),
        ]);
        cases
    }

    /// Invariant 4: an unsigned or wrongly signed message never reaches a table, and costs the good
    /// ones nothing.
    #[test]
    fn nothing_but_authentic_messages_reaches_a_table() {
        let site = Site::new();
        let _collector = site.collector();
        let mut good = 0;
        let mut next_good = || {
            good += 1;
            reading("good", good)
        };
        let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
        for (verdicts, datagram) in refused() {
            site.send(&datagram);
            site.store_one(&next_good());
            for verdict in verdicts.split(' ') {
                *expected.entry(verdict).or_default() += 1;
            }
            for (verdict, count) in &expected {
                assert_eq!(site.messages(verdict), *count, "{verdict} after {verdicts}");
            }
        }
        // One bad message costs itself alone.
        let (first, second) = (next_good(), next_good());
        site.send(&list(&[
            &signed(&first),
            &forged("evil", 2),
            &signed(&second),
        ]));
        wait_for("the good ones of a list", || {
            (site.number("SELECT max(seq) FROM ha_state") == second.identity.seq).then_some(())
        });
        let before = site.refused_messages();
        assert_eq!(before, expected.values().sum::<u64>() + 1);

        // No byte of an authentic message can be changed unnoticed.
        let authentic = signed(&reading("evil", 3));
        for at in 0..authentic.len() {
            let mut changed = authentic.clone();
            changed[at] ^= 1;
            site.send(&changed);
        }
        site.store_one(&next_good());
        let changed = u64::try_from(authentic.len()).unwrap();
        assert!(site.refused_messages() >= before + changed);

        assert_eq!(site.messages("accepted"), good);
        assert_eq!(site.readings("stored"), good);
        assert_eq!(site.samples_of("good"), good);
        for (table, rows) in [
            ("sample", good),
            ("resource", 1),
            ("meter", 1),
            ("metadata_text", 1),
            ("metadata_int", 0),
            ("ha_state", 1),
            ("ha_path", 1),
            ("ha_seen", 1),
            ("ha_seen_message", 0),
        ] {
            assert_eq!(
                site.number(&format!("SELECT count(*) FROM {table}")),
                rows,
                "{table}"
            );
        }
    }

    /// Sends datagrams in portions that the receive buffer holds, each waited for.
    fn send_all<'a>(site: &Site, datagrams: impl IntoIterator<Item = &'a Vec<u8>>) {
        let (received, dropped) = site.datagrams();
        let mut sent = received + dropped;
        for datagram in datagrams {
            site.send(datagram);
            sent += 1;
            if sent.is_multiple_of(256) {
                site.wait_for_datagrams(sent);
            }
        }
        site.wait_for_datagrams(sent);
    }

    /// The counts of events that each line about forged messages speaks for.
    fn spoken_for(collector: &Process) -> Vec<u64> {
        let lines = collector.log();
        let lines = lines
            .lines()
            .filter(|line| line.contains("reason=\"bad_signature\""));
        lines
            .map(|line| {
                assert!(
                    line.contains("message refused") && line.contains("127."),
                    "{line}"
                );
                let kept_back = line.split("kept_back=").nth(1).unwrap();
                kept_back.split(' ').next().unwrap().parse::<u64>().unwrap() + 1
            })
            .collect()
    }

    #[test]
    fn thousands_of_forged_datagrams_are_a_handful_of_log_lines() {
        const FORGED: u64 = 5000;
        let site = Site::new();
        let collector = site.collector();
        let began = clock::now();
        let datagrams: Vec<Vec<u8>> = (1..=FORGED).map(|seq| forged("evil", seq)).collect();
        send_all(&site, &datagrams);
        assert_eq!(site.messages("bad_signature"), FORGED);
        site.store_one(&reading("good", 1));
        // One more now and then, until a line speaks for those kept back.
        let mut sent = FORGED;
        let spoken_for = wait_until("a line that counts those kept back", || {
            site.send(&datagrams[0]);
            sent += 1;
            let counts = spoken_for(&collector);
            if counts.len() > 1 && counts.iter().sum::<u64>() > FORGED {
                Ok(counts)
            } else {
                Err(format!("{counts:?}"))
            }
        });
        let seconds = clock::now().duration_since(began).as_secs();
        let most = usize::try_from(seconds / 10 + 2).unwrap();
        assert!(spoken_for.len() <= most, "{spoken_for:?} in {seconds} s");
        assert!(spoken_for.iter().sum::<u64>() <= sent);
        let lines = collector.log().lines().count();
        assert!(lines < 20, "{lines} lines");
    }

    #[test]
    fn a_reading_is_readable_at_once() {
        let site = Site::new();
        let _collector = site.collector();
        let mut seconds: Vec<f64> = (1..=9)
            .map(|seq| {
                let mut heartbeat = reading(HOST, 2 * seq);
                heartbeat.sample.meter = ceilometer_ha::model::meters::HEARTBEAT;
                heartbeat
                    .sample
                    .metadata
                    .insert("interval".into(), Value::Int(1));
                let storage = reading(HOST, 2 * seq - 1);
                let sent_at = clock::now();
                site.send(&list(&[&signed(&storage), &signed(&heartbeat)]));
                site.wait_for_host(HOST, "the reading", |host| {
                    host["storage"]["verdict"] == "reachable"
                        && host["heartbeat"]["seq"] == heartbeat.identity.seq
                        && host["heartbeat"]["epoch"] == EPOCH
                });
                clock::now().duration_since(sent_at).as_secs_f64()
            })
            .collect();
        seconds.sort_by(f64::total_cmp);
        // 0.2 s, and as much again for the program that looks, unoptimised on a busy machine.
        assert!(seconds[4] < 0.4, "{seconds:?}");
    }

    /// What may become of a datagram on its way, or be made of it by somebody who means harm.
    #[derive(Debug, Clone)]
    enum Damage {
        Flip(Index, u8),
        Cut(Index),
        Insert(Index, Vec<u8>),
        Repeat(Index, Index),
        Splice(Index, Index),
        InAList(u8),
    }

    fn damage() -> impl Strategy<Value = Damage> {
        let at = any::<Index>;
        prop_oneof![
            6 => (at(), any::<u8>()).prop_map(|(at, bits)| Damage::Flip(at, bits)),
            2 => at().prop_map(Damage::Cut),
            2 => (at(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
            1 => (at(), at()).prop_map(|(from, to)| Damage::Repeat(from, to)),
            1 => (at(), at()).prop_map(|(other, at)| Damage::Splice(other, at)),
            1 => (1..4u8).prop_map(Damage::InAList),
        ]
    }

    fn apply(mut datagram: Vec<u8>, damage: &Damage, originals: &[Vec<u8>]) -> Vec<u8> {
        if datagram.is_empty() {
            return datagram;
        }
        match damage {
            Damage::Flip(at, bits) => {
                let at = at.index(datagram.len());
                datagram[at] ^= bits;
            }
            Damage::Cut(at) => datagram.truncate(at.index(datagram.len())),
            Damage::Insert(at, bytes) => {
                let at = at.index(datagram.len());
                datagram.splice(at..at, bytes.iter().copied());
            }
            Damage::Repeat(from, to) => {
                let (from, to) = (from.index(datagram.len()), to.index(datagram.len()));
                let part = datagram[from.min(to)..from.max(to)].repeat(8);
                datagram.splice(from..from, part);
            }
            Damage::Splice(other, at) => {
                let other = other.get(originals);
                datagram.truncate(at.index(datagram.len()));
                datagram.extend_from_slice(&other[at.index(other.len())..]);
            }
            Damage::InAList(count) => {
                let copies = vec![datagram.as_slice(); usize::from(*count)];
                datagram = list(&copies);
            }
        }
        // The most that one datagram can hold over IPv4.
        datagram.truncate(65_507);
        datagram
    }

    /// A value of a process's status in kB, such as `VmHWM`, the most memory it ever had.
    fn kilobytes(process: &Process, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn no_damaged_datagram_hurts_a_live_collector() {
        const DATAGRAMS: u64 = 4000;
        /// What a datagram costs is bounded by its size, and what waits by a number of messages, of
        /// which few are authentic here; so little is added to what the program has anyway.
        const GROWTH_MAX_KB: u64 = 8 * 1024;
        let site = Site::new();
        let collector = site.collector();
        site.store_one(&reading("good", 1));
        let before = kilobytes(&collector, "VmRSS");

        let originals: Vec<Vec<u8>> = goldens()
            .into_iter()
            .map(|golden| golden.datagram)
            .collect();
        let strategy = (any::<Index>(), prop::collection::vec(damage(), 1..5));
        let mut runner = TestRunner::deterministic();
        let datagrams: Vec<Vec<u8>> = (0..DATAGRAMS)
            .map(|_| {
                let (which, damages) = strategy.new_tree(&mut runner).unwrap().current();
                damages
                    .iter()
                    .fold(which.get(&originals).clone(), |datagram, damage| {
                        apply(datagram, damage, &originals)
                    })
            })
            .collect();
        send_all(&site, &datagrams);

        let secret = Secret::new(SECRET);
        let (mut accepted, mut refused) = (1, 0);
        for datagram in &datagrams {
            let (messages, refusals) = wire::receive(
                datagram,
                &wire::Verifier::new(secret.clone()),
                wire::Via::Anywhere,
            );
            accepted += u64::try_from(messages.len()).unwrap();
            refused += u64::try_from(refusals.len()).unwrap();
        }
        assert!(refused > DATAGRAMS / 2, "most are damaged: {refused}");
        assert_eq!(
            site.messages("accepted"),
            accepted,
            "as the verifier alone says"
        );
        assert_eq!(site.refused_messages(), refused);
        site.store_one(&reading("good", 2));
        let foreign = "SELECT count(*) FROM sample WHERE message_id NOT LIKE '00000000-0000-11e6-8000-%' AND message_id NOT LIKE 'good-%'";
        assert_eq!(site.number(foreign), 0, "only what was authentic is stored");
        let most = kilobytes(&collector, "VmHWM");
        assert!(
            most < before + GROWTH_MAX_KB,
            "{before} kB before, {most} kB at most"
        );
    }

    #[test]
    fn a_flood_is_stored_exactly_once_and_counted_to_the_last_message() {
        const OBSERVERS: u64 = 100;
        const EACH: u64 = 100;
        let site = Site::new();
        let _collector = site.collector();
        // Each by two paths, in an order in which all observers take turns: 20,000 datagrams.
        let mut sent = 0;
        for seq in 1..=EACH {
            for observer in 1..=OBSERVERS {
                let reading = reading(&format!("node-{observer}"), seq);
                for path in ["udp://storage", "udp://management"] {
                    site.send(&signed_with(&reading, path, SECRET));
                    sent += 1;
                }
            }
        }
        // The kernel tells what it dropped with the next datagram that it takes.
        site.store_one(&reading("last", 1));
        site.wait_for_datagrams(sent + 1);
        let accepted = site.messages("accepted");
        let (received, _) = site.datagrams();
        assert_eq!(accepted, received, "all that came is authentic");
        let (stored, duplicates) = wait_until("the queue to be empty", || {
            let results = ["stored", "duplicate", "refused"].map(|result| site.readings(result));
            if results.iter().sum::<u64>() == accepted {
                Ok((results[0], results[1]))
            } else {
                Err(format!("of {accepted}: {results:?}"))
            }
        });
        assert_eq!(site.readings("refused"), 0);
        assert_eq!(site.number("SELECT count(*) FROM sample"), stored);
        site.assert_nothing_twice();
        if received == sent + 1 {
            assert_eq!(
                (stored, duplicates),
                (OBSERVERS * EACH + 1, OBSERVERS * EACH)
            );
            let states = format!("SELECT count(*) FROM ha_state WHERE seq = {EACH}");
            assert_eq!(site.number(&states), OBSERVERS);
        }
    }

    #[test]
    fn what_the_kernel_drops_is_counted() {
        let site = Site::new();
        let collector = site.collector();
        let buffer = site.metric(Daemon::Collector, "receive_buffer_bytes");
        let datagram = noise(60_000);
        let sent = buffer / 60_000 * 2;
        collector.signal(Signal::SIGSTOP);
        for _ in 0..sent {
            site.send(&datagram);
        }
        collector.signal(Signal::SIGCONT);
        wait_for("what fitted into the buffer", || {
            site.get(Daemon::Collector, "/healthz")?;
            (site.datagrams().0 > 0).then_some(())
        });
        site.store_one(&reading("good", 1));
        site.wait_for_datagrams(sent + 1);
        let (received, dropped) = site.datagrams();
        assert!(
            received > 1 && dropped > sent / 4,
            "{received} received, {dropped} dropped"
        );
        assert!(collector.log().contains("the kernel dropped datagrams"));
    }
}

mod lifecycle {
    //! Starts, ends and kills of agent and collector, and a database that somebody else has locked.

    use std::time::Duration;

    use ceilometer_ha::clock;
    use ceilometer_ha::daemons::DRAIN_LIMIT;
    use nix::sys::signal::Signal;

    use crate::support::process::Process;
    use crate::support::site::{Daemon, HOST, Lock, SECRET, Site, reading, signed, signed_with};
    use crate::support::{wait_for, wait_until};

    /// What ending may take beyond the drain on a busy machine.
    const SLACK: Duration = Duration::from_secs(2);

    /// SIGTERM: it ends with 0, in time.
    fn assert_ends_in_time(daemon: Process) {
        let told_at = clock::now();
        assert_eq!(daemon.terminate().code(), Some(0));
        let took = clock::now().duration_since(told_at);
        assert!(took < DRAIN_LIMIT + SLACK, "{took:?}");
    }

    /// The agent's readings are numbered without a hole, and so they are stored.
    fn assert_no_hole(site: &Site) {
        let holes = format!(
            "SELECT (SELECT max(seq) FROM ha_state WHERE observer = '{HOST}') - (SELECT count(*) FROM sample s JOIN resource r ON r.internal_id = s.resource_id WHERE r.resource_id LIKE '{HOST}%')"
        );
        assert_eq!(site.number(&holes), 0);
    }

    /// Waits for so many rounds of the agent that have ended since it started.
    fn wait_for_rounds(site: &Site, count: u64) {
        let rounds = "rounds_total{pollster=\"storage_connectivity\",source=\"ha_source\"}";
        wait_for("rounds", || {
            (site.metric(Daemon::Agent, rounds) >= count).then_some(())
        });
    }

    #[test]
    fn an_agent_that_was_killed_goes_on_in_a_new_epoch() {
        let site = Site::new();
        let _collector = site.collector();
        let mut epoch = 0;
        for _ in 0..3 {
            let agent = site.agent();
            epoch = site.wait_for_agent(epoch);
            wait_for_rounds(&site, 3);
            agent.kill();
        }
        let epochs = format!("SELECT count(*) FROM ha_seen WHERE observer = '{HOST}'");
        assert_eq!(site.number(&epochs), 3);
        site.assert_nothing_twice();
        site.assert_intact();
    }

    #[test]
    fn a_collector_that_was_killed_while_storing_goes_on_with_a_whole_database() {
        const READINGS: u64 = 10_000;
        let site = Site::new();
        // Small batches, so that there is much to be interrupted.
        let collector = site.collector_with("batch_size = 20");
        let _agent = site.agent();
        let epoch = site.wait_for_agent(0);
        for seq in 1..=READINGS {
            site.send(&signed(&reading("flood", seq)));
        }
        wait_for("storing to begin", || {
            (site.samples_of("flood") > 0).then_some(())
        });
        collector.kill();
        site.assert_intact();
        let stored = site.samples_of("flood");
        assert!(stored < READINGS, "killed too late: all was stored");
        let state = site.number("SELECT seq FROM ha_state WHERE observer = 'flood'");
        assert!(
            state >= stored,
            "the state {state} may be ahead of the history {stored}, never behind"
        );

        let _collector = site.collector();
        for seq in 1..=READINGS {
            site.send(&signed_with(&reading("flood", seq), "udp://again", SECRET));
        }
        site.wait_for_samples("flood", READINGS);
        assert_eq!(site.readings("duplicate"), stored);
        // The agent noticed nothing but that its datagrams were refused for a while.
        let beat = |host: &serde_json::Value| host["heartbeat"]["seq"].as_u64();
        let before = site.host(HOST).as_ref().and_then(beat);
        site.wait_for_host(HOST, "a further heartbeat", |host| {
            beat(host) > before
                && host["heartbeat"]["epoch"] == epoch
                && host["storage"]["verdict"] == "reachable"
        });
        site.assert_nothing_twice();
        site.assert_intact();
    }

    #[test]
    fn sigterm_ends_the_agent_after_sending_what_it_has() {
        let site = Site::new();
        let _collector = site.collector();
        let agent = site.agent();
        site.wait_for_agent(0);
        wait_for_rounds(&site, 2);
        assert_ends_in_time(agent);
        site.store_one(&reading("afterwards", 1));
        assert_no_hole(&site);
        let log = std::fs::read_to_string(site.path("agent.log")).unwrap();
        assert!(
            log.contains("SIGTERM: draining") && log.contains("agent stopped"),
            "{log}"
        );
    }

    #[test]
    fn sigterm_ends_the_collector_after_storing_what_it_has() {
        const QUEUED: u64 = 3000;
        const IN_THE_SOCKET: u64 = 5000;
        let site = Site::new();
        let collector = site.collector();
        site.store_one(&reading("queued", 1));
        let lock = Lock::hold(&site.database());
        for seq in 2..=QUEUED {
            site.send(&signed(&reading("queued", seq)));
        }
        wait_for("all to be received", || {
            (site.messages("accepted") == QUEUED).then_some(())
        });
        // What the kernel has taken for it counts as received too.
        collector.signal(Signal::SIGSTOP);
        for seq in 1..=IN_THE_SOCKET {
            site.send(&signed(&reading("in the socket", seq)));
        }
        collector.signal(Signal::SIGTERM);
        collector.signal(Signal::SIGCONT);
        wait_for("the signal to be heard", || {
            collector.log().contains("draining").then_some(())
        });
        assert_eq!(site.samples_of("queued"), 1, "the database is still locked");
        lock.release();
        let mut collector = collector;
        assert_eq!(collector.wait().code(), Some(0));
        assert_eq!(site.samples_of("queued"), QUEUED);
        assert_eq!(site.samples_of("in the socket"), IN_THE_SOCKET);
        site.assert_nothing_twice();
    }

    #[test]
    fn sigterm_ends_the_collector_although_the_database_stays_locked() {
        let site = Site::new();
        let collector = site.collector();
        let _lock = Lock::hold(&site.database());
        site.send(&signed(&reading("lost", 1)));
        wait_for("it to be received", || {
            (site.messages("accepted") == 1).then_some(())
        });
        let log = site.path("collector.log");
        assert_ends_in_time(collector);
        let log = std::fs::read_to_string(log).unwrap();
        assert!(log.contains("messages not stored"), "{log}");
        assert!(log.contains("messages=1"), "{log}");
    }

    #[test]
    fn an_agent_without_a_collector_keeps_trying() {
        let site = Site::new();
        let agent = site.agent();
        wait_for_rounds(&site, 4);
        let refused = format!("publisher_refused_total{{publisher=\"{}\"}}", site.url());
        assert!(site.metric(Daemon::Agent, &refused) > 0);
        let log = agent.log();
        let complaints = log
            .lines()
            .filter(|line| line.contains("is the collector running?"));
        assert_eq!(
            complaints.count(),
            1,
            "said, and not with every round: {log}"
        );
        site.wait_for_health(Daemon::Agent);
        let _collector = site.collector();
        site.wait_for_agent(0);
        assert_ends_in_time(agent);
    }

    #[test]
    fn a_collector_without_an_agent_is_healthy() {
        let site = Site::new();
        let collector = site.collector();
        for path in ["/healthz", "/readyz"] {
            assert_eq!(site.get(Daemon::Collector, path).unwrap().0, 200, "{path}");
        }
        assert_eq!(site.fleet().unwrap()["hosts"], serde_json::json!([]));
        assert_ends_in_time(collector);
    }

    #[test]
    fn a_locked_database_delays_readings_and_loses_none() {
        const HELD_UP: u64 = 500;
        let site = Site::new();
        let collector = site.collector();
        let _agent = site.agent();
        site.wait_for_agent(0);
        let lock = Lock::hold(&site.database());
        let locked_at = clock::now();
        let before = site.number("SELECT count(*) FROM sample");
        let accepted = site.messages("accepted");
        for seq in 1..=HELD_UP {
            site.send(&signed(&reading("held up", seq)));
        }
        wait_for("receiving to go on", || {
            (site.messages("accepted") >= accepted + HELD_UP).then_some(())
        });
        assert_eq!(
            site.number("SELECT count(*) FROM sample"),
            before,
            "storing can't"
        );
        let words = wait_until("the trouble to be told", || {
            match site.get(Daemon::Collector, "/healthz") {
                Some((503, words)) => Ok(words),
                other => Err(format!("{other:?}")),
            }
        });
        let told_after = clock::now().duration_since(locked_at).as_secs_f64();
        assert!(
            (5.0..8.0).contains(&told_after),
            "told after {told_after} s"
        );
        assert!(words.contains("nothing could be stored for"), "{words}");
        assert_eq!(site.get(Daemon::Collector, "/readyz").unwrap().0, 503);

        wait_for("a failed try", || {
            (site.metric(Daemon::Collector, "store_errors_total") > 0).then_some(())
        });
        assert!(collector.log().contains("storing failed, trying again"));

        lock.release();
        site.wait_for_samples("held up", HELD_UP);
        site.wait_for_health(Daemon::Collector);
        site.wait_for_agent(0);
        site.assert_nothing_twice();
        assert_no_hole(&site);
    }
}

mod standalone {
    //! The demo: the shipped files, one process, and a table on the screen.

    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use crate::support::process::Process;
    use crate::support::site::{Daemon, Site};
    use crate::support::{program, wait_for, wait_until};

    fn shipped(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
    }

    /// What the shipped configuration needs to run beside other tests: a folder and ports of its
    /// own, and so a pipeline that leads there.
    fn environment(site: &Site) -> Vec<(&'static str, String)> {
        let pipeline = fs::read_to_string(shipped("pipeline_ha.yaml")).unwrap();
        let own = pipeline.replace("- udp://127.0.0.1:4953", &format!("- {}", site.url()));
        assert_ne!(own, pipeline, "the shipped pipeline publishes on loopback");
        fs::write(site.path("pipeline_ha.yaml"), own).unwrap();
        let mut environment = site.environment();
        environment.extend([
            (
                "OS_DEFAULT__STATE_PATH",
                site.path("collector").display().to_string(),
            ),
            (
                "OS_DEFAULT__PIPELINE_CFG_FILE",
                site.path("pipeline_ha.yaml").display().to_string(),
            ),
        ]);
        environment
    }

    fn command(site: &Site) -> Command {
        let mut command = Command::new(program("ceilometer-ha-standalone"));
        command
            .args([
                "--config-file".as_ref(),
                shipped("ceilometer_ha.conf").as_os_str(),
            ])
            .envs(environment(site));
        command
    }

    /// Whether a text shows a table in which both gateways answer.
    fn has_table(text: &str) -> bool {
        ["127.0.0.1", "127.0.0.2"].iter().all(|gateway| {
            text.lines()
                .any(|line| line.contains(gateway) && line.contains("answers"))
        }) && text.contains("reachable")
    }

    #[test]
    fn the_shipped_files_show_both_gateways_answering() {
        let site = Site::new();
        let standalone = Process::start(&mut command(&site), &site.path("standalone.out"));
        wait_until("a table", || {
            let log = standalone.log();
            if has_table(&log) { Ok(()) } else { Err(log) }
        });
        for daemon in [Daemon::Agent, Daemon::Collector] {
            site.wait_for_health(daemon);
        }
        let log = site.path("standalone.out");
        assert_eq!(standalone.terminate().code(), Some(0));
        let log = fs::read_to_string(log).unwrap();
        assert!(
            log.contains("agent stopped") && log.contains("collector stopped"),
            "{log}"
        );
        assert!(!log.contains('\x1b'), "no colours and no cursor in a log");
        site.assert_nothing_twice();
    }

    #[test]
    fn on_a_terminal_the_screen_belongs_to_the_table() {
        let site = Site::new();
        let (screen, pid_file) = (site.path("screen"), site.path("pid"));
        let line = format!(
            "echo $$ >{} && exec {} --config-file {}",
            pid_file.display(),
            program("ceilometer-ha-standalone").display(),
            shipped("ceilometer_ha.conf").display()
        );
        let mut script = Command::new("script");
        script
            .args(["--quiet", "--return", "--flush", "--command", &line])
            .arg(&screen)
            .envs(environment(&site));
        let mut script = Process::start(&mut script, &site.path("script.out"));
        let shown = wait_until("a table", || {
            let shown = fs::read_to_string(&screen).unwrap_or_default();
            if has_table(&shown) {
                Ok(shown)
            } else {
                Err(shown)
            }
        });
        assert!(
            shown.contains("\x1b[H\x1b[2J"),
            "each table in the place of the last"
        );
        assert!(!shown.contains("agent started"), "{shown}");
        let log = fs::read_to_string(site.path("collector/standalone.log")).unwrap();
        assert!(
            log.contains("agent started") && log.contains("listening for UDP"),
            "{log}"
        );

        let pid = fs::read_to_string(&pid_file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        assert_eq!(
            script.wait().code(),
            Some(0),
            "script ends as its command does"
        );
    }

    /// Watching is worth more than being watched.
    #[test]
    fn it_goes_on_when_nobody_reads_its_table() {
        let site = Site::new();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command(&site);
        command
            .env("OS_DEFAULT__LOG_FILE", site.path("log"))
            .env("OS_DEFAULT__USE_STDERR", "false");
        let standalone = Process::start_with_stdout(&mut command, writer.into(), &site.path("err"));
        wait_for("the table to fail", || {
            let log = fs::read_to_string(site.path("log")).unwrap_or_default();
            log.contains("no more tables").then_some(())
        });
        for daemon in [Daemon::Agent, Daemon::Collector] {
            site.wait_for_health(daemon);
        }
        assert_eq!(standalone.terminate().code(), Some(0));
        assert_eq!(fs::read_to_string(site.path("err")).unwrap(), "");
    }
}

mod command_line {
    //! What the programs say and return to whoever calls them.

    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output};

    use crate::support::process::Process;
    use crate::support::site::{Daemon, Site, reading};
    use crate::support::{program, query, run, run_unchecked, wait_for};

    const DAEMONS: [&str; 3] = [
        "ceilometer-polling-ha",
        "ceilometer-collector-ha",
        "ceilometer-ha-standalone",
    ];

    fn call(name: &str, args: &[&str], config: &Path) -> Output {
        let mut command = Command::new(program(name));
        run_unchecked(command.args(args).arg("--config-file").arg(config))
    }

    fn stderr(output: &Output) -> String {
        String::from_utf8(output.stderr.clone()).unwrap()
    }

    fn stdout(output: &Output) -> String {
        String::from_utf8(output.stdout.clone()).unwrap()
    }

    /// The agent's file with the collector's own section.
    fn config_of_both(site: &Site) -> PathBuf {
        let [agent, collector] = [site.agent_config(), site.collector_config("")]
            .map(|path| fs::read_to_string(path).unwrap());
        let (_, section) = collector.split_once("[collector]").unwrap();
        let both = site.path("both.conf");
        // With a secret that nobody warns about.
        let text = format!("{agent}[collector]{section}")
            .replace(crate::support::site::SECRET, "b6f2a87f5e9c41d6ac0b3d27");
        fs::write(&both, text).unwrap();
        both
    }

    /// Every program with arguments that make it read its configuration.
    fn calls() -> Vec<(&'static str, Vec<&'static str>)> {
        let mut calls: Vec<(&str, Vec<&str>)> = DAEMONS.map(|name| (name, vec![])).into();
        calls.extend(DAEMONS.map(|name| (name, vec!["--check-config"])));
        calls.push(("ceilometer-collector-ha", vec!["dbsync"]));
        calls.push(("compute-ha", vec!["status"]));
        calls.push(("compute-ha", vec!["forget", "node-1"]));
        calls.push(("compute-ha", vec!["reset-identity", "node-1"]));
        calls.push(("compute-ha", vec!["key", "list"]));
        calls.push(("compute-ha", vec!["quarantine", "list"]));
        calls.push(("ceilometer-collector-ha", vec!["expire", "--check-config"]));
        calls.push(("compute-ha", vec!["samples"]));
        calls.push(("compute-ha", vec!["meters"]));
        calls.push(("compute-ha", vec!["resources"]));
        calls.push(("compute-ha", vec!["statistics", "-m", "m"]));
        calls
    }

    #[test]
    fn help_and_version_end_with_0() {
        for name in DAEMONS.into_iter().chain(["compute-ha"]) {
            let help = run(Command::new(program(name)).arg("--help"));
            assert!(
                help.contains("Usage:") && help.contains("Exit codes:"),
                "{help}"
            );
            let version = run(Command::new(program(name)).arg("--version"));
            assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
        }
        let help = run(Command::new(program("compute-ha")).args(["status", "--help"]));
        assert!(help.contains("--watch"), "{help}");
    }

    #[test]
    fn wrong_use_ends_with_2() {
        for name in DAEMONS.into_iter().chain(["compute-ha"]) {
            let output = run_unchecked(Command::new(program(name)).arg("--no-such-option"));
            assert_eq!(output.status.code(), Some(2), "{name}");
            assert!(stderr(&output).contains("--no-such-option"));
        }
    }

    #[test]
    fn a_missing_file_ends_with_2_and_is_named() {
        for (name, args) in calls() {
            let output = call(name, &args, "/nowhere/ceilometer_ha.conf".as_ref());
            assert_eq!(output.status.code(), Some(2), "{name} {args:?}");
            let words = stderr(&output);
            assert!(
                words.starts_with("error: ") && words.contains("/nowhere/ceilometer_ha.conf"),
                "{words}"
            );
        }
        let site = Site::new();
        let config = site.agent_config();
        fs::remove_file(site.path("pipeline_ha.yaml")).unwrap();
        let output = call("ceilometer-polling-ha", &[], &config);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(&site.path("pipeline_ha.yaml").display().to_string()));
    }

    #[test]
    fn every_wrong_value_is_named_with_its_line() {
        let site = Site::new();
        let config = site.path("wrong.conf");
        fs::write(&config, "[DEFAULT]\nverbose = perhaps\n[compute]\nping_count = four\n[collector]\nudp_port = 70000\n[database]\nconnection = sqlite:////x\n").unwrap();
        for arguments in [vec![], vec!["--check-config"]] {
            let output = call("ceilometer-ha-standalone", &arguments, &config);
            assert_eq!(output.status.code(), Some(2));
            let words = stderr(&output);
            for (line, option) in [
                (2, "[DEFAULT] verbose"),
                (4, "[compute] ping_count"),
                (6, "[collector] udp_port"),
            ] {
                let expected = format!("{}:{line}: {option}: ", config.display());
                assert!(words.contains(&expected), "{expected} is not in {words}");
            }
        }
        // And each program by what it needs alone.
        for (name, args) in calls() {
            let output = call(name, &args, &config);
            assert_eq!(output.status.code(), Some(2), "{name} {args:?}");
        }
    }

    #[test]
    fn a_missing_database_ends_with_1_and_says_what_to_do() {
        let site = Site::new();
        let config = site.collector_config("");
        let status = || call("compute-ha", &["status"], &config);
        let output = status();
        assert_eq!(
            (output.status.code(), stdout(&output)),
            (Some(1), String::new())
        );
        let words = stderr(&output);
        assert!(
            words.contains(&site.database().display().to_string()),
            "{words}"
        );
        assert!(
            words.contains("run ceilometer-collector-ha dbsync"),
            "{words}"
        );
        // As it says.
        let dbsync = call("ceilometer-collector-ha", &["dbsync"], &config);
        assert_eq!(dbsync.status.code(), Some(0));
        assert_eq!(status().status.code(), Some(0));
    }

    #[test]
    fn check_config_ends_with_0_and_changes_nothing() {
        let site = Site::new();
        let both = config_of_both(&site);
        let of_daemons = DAEMONS.map(|name| (name, vec!["--check-config"]));
        let of_commands = [
            ("compute-ha", vec!["status", "--check-config"]),
            ("ceilometer-collector-ha", vec!["dbsync", "--check-config"]),
            ("ceilometer-collector-ha", vec!["expire", "--check-config"]),
            ("compute-ha", vec!["samples", "--check-config"]),
        ];
        for (name, args) in of_daemons.into_iter().chain(of_commands) {
            let output = call(name, &args, &both);
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            assert!(
                !stdout(&output).is_empty(),
                "{name} says what would be in force"
            );
            assert!(!stdout(&output).contains(crate::support::site::SECRET));
        }
        assert!(!site.path("agent").exists(), "its state_path");
    }

    #[test]
    fn dbsync_makes_the_tables_once_and_refuses_newer_ones() {
        let site = Site::new();
        let config = site.collector_config("");
        let dbsync = || call("ceilometer-collector-ha", &["dbsync"], &config);
        let first = dbsync();
        assert_eq!(first.status.code(), Some(0));
        assert!(
            stdout(&first).contains("created database file"),
            "{}",
            stdout(&first)
        );
        let second = dbsync();
        assert_eq!(second.status.code(), Some(0));
        assert!(
            stdout(&second).starts_with("nothing to do"),
            "{}",
            stdout(&second)
        );
        assert_eq!(stdout(&second).lines().count(), 1);

        let tables = "SELECT group_concat(sql) AS sql FROM sqlite_master";
        let before = query(&site.database(), tables);
        run(Command::new("sqlite3").arg(site.database()).arg(
            "INSERT INTO ha_schema (version, what, applied_at) VALUES (9999, 'from the future', 0)",
        ));
        for refused in [
            dbsync(),
            call("ceilometer-collector-ha", &[], &config),
            call("compute-ha", &["status"], &config),
        ] {
            assert_eq!(refused.status.code(), Some(1));
            let words = stderr(&refused);
            assert!(words.contains("9999") && words.contains("newer"), "{words}");
        }
        assert_eq!(
            query(&site.database(), tables),
            before,
            "and is left as it was"
        );
    }

    #[test]
    fn watching_shows_what_comes_and_ends_with_0_when_told() {
        let site = Site::new();
        let config = site.collector_config("");
        let mut command = Command::new(program("compute-ha"));
        command
            .args(["status", "--watch", "--format", "json", "--config-file"])
            .arg(config);
        let watch = Process::start(&mut command, &site.path("watch.out"));
        // A database that isn't there yet is said, and looked for again.
        wait_for("the missing database to be said", || {
            watch.log().contains("does not exist").then_some(())
        });
        let _collector = site.collector();
        site.store_one(&reading("watched", 1));
        wait_for("the host to be shown", || {
            watch.log().contains("\"watched\"").then_some(())
        });
        assert_eq!(watch.terminate().code(), Some(0));
    }

    #[test]
    fn the_log_goes_to_stderr_and_to_a_file_as_configured() {
        for (use_stderr, with_file) in [(true, true), (false, true), (true, false), (false, false)]
        {
            let site = Site::new();
            let mut command = Command::new(program("ceilometer-collector-ha"));
            command
                .arg("--config-file")
                .arg(site.collector_config(""))
                .env("OS_DEFAULT__USE_STDERR", use_stderr.to_string());
            if with_file {
                command.env("OS_DEFAULT__LOG_FILE", site.path("log"));
            }
            let collector = Process::start(&mut command, &site.path("stderr"));
            site.wait_for_health(Daemon::Collector);
            assert_eq!(collector.terminate().code(), Some(0));
            let is_in = |name: &str| {
                fs::read_to_string(site.path(name))
                    .is_ok_and(|text| text.contains("collector stopped"))
            };
            // A log that goes nowhere would help nobody.
            assert_eq!(is_in("stderr"), use_stderr || !with_file);
            assert_eq!(is_in("log"), with_file);
        }
    }

    /// A pipe that nobody reads any more, as `| head` leaves it.
    fn closed_pipe() -> std::io::PipeWriter {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    }

    #[test]
    fn a_closed_stdout_ends_quietly() {
        let site = Site::new();
        let both = config_of_both(&site);
        let mut calls = calls().split_off(DAEMONS.len());
        // There is nobody to forget, and there are no keys.
        calls.retain(|(_, args)| !["forget", "reset-identity", "key"].contains(&args[0]));
        calls.insert(0, ("ceilometer-collector-ha", vec!["dbsync"]));
        calls.push(("compute-ha", vec!["status", "--format", "json"]));
        calls.push(("compute-ha", vec!["status", "--watch"]));
        calls.extend(DAEMONS.map(|name| (name, vec!["--help"])));
        for (name, args) in calls {
            let mut command = Command::new(program(name));
            command.args(&args);
            if !args.contains(&"--help") {
                command.arg("--config-file").arg(&both);
            }
            let errors = site.path("errors");
            let _ = fs::remove_file(&errors);
            let mut process =
                Process::start_with_stdout(&mut command, closed_pipe().into(), &errors);
            assert_eq!(
                process.wait().code(),
                Some(0),
                "{name} {args:?}: {}",
                process.log()
            );
            assert_eq!(process.log(), "", "{name} {args:?}");
        }
    }

    #[test]
    fn a_closed_stderr_stops_nothing() {
        let site = Site::new();
        let config = site.collector_config("no_such_option = 1");
        for (args, code) in [
            (vec!["--check-config"], 0),
            (vec!["--check-config", "--strict"], 2),
        ] {
            let mut command = Command::new(program("ceilometer-collector-ha"));
            command
                .args(&args)
                .arg("--config-file")
                .arg(&config)
                .stderr(closed_pipe());
            let output = run_unchecked(command.stdout(std::process::Stdio::null()));
            assert_eq!(output.status.code(), Some(code), "{args:?}");
        }
    }
}
