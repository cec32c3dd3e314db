//! The view and the table together: rows in, text out.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::text::columns;
use super::*;
use crate::model::{
    CompleteRoundRow, Fleet, Metadata, Meter, ObserverRow, PathRow, Rival, RoundRow, StateRow,
    UtcTime, Value, meters,
};

/// 2026-03-01 03:00:00 UTC.
const NOW_MICROS: i64 = 1_772_334_000_000_000;

const EPOCH: u64 = 1_772_330_000_000;

fn now() -> UtcTime {
    UtcTime::from_unix_micros(NOW_MICROS)
}

fn ago(seconds: f64) -> UtcTime {
    #[allow(clippy::cast_possible_truncation)] // test ages are small
    let micros = (seconds * 1e6) as i64;
    UtcTime::from_unix_micros(NOW_MICROS - micros)
}

/// A reading of `host` about `part` of itself (empty: the host), that many seconds old.
fn row(host: &str, meter: &Meter, part: &str, seq: u64, volume: f64, age_seconds: f64) -> StateRow {
    let resource_id = match part {
        "" => host.to_owned(),
        part => format!("{host}/{part}"),
    };
    StateRow {
        observer: host.to_owned(),
        meter: meter.name.to_string(),
        resource_id,
        epoch: EPOCH,
        seq,
        volume,
        quality: "shared_secret".to_owned(),
        observed_at: ago(age_seconds),
        received_at: ago(age_seconds),
        metadata: Metadata::new(),
        paths: BTreeSet::new(),
        confirmed_at: None,
    }
}

fn storage(host: &str, seq: u64, volume: f64, age_seconds: f64) -> StateRow {
    row(
        host,
        &meters::STORAGE_CONNECTIVITY,
        "",
        seq,
        volume,
        age_seconds,
    )
    .with("cluster", "prod")
}

fn heartbeat(host: &str, seq: u64, age_seconds: f64) -> StateRow {
    row(host, &meters::HEARTBEAT, "", seq, 7.0, age_seconds)
        .with("epoch", EPOCH)
        .with("version", "0.1.0")
        .with("interval", "1")
}

fn gateway(host: &str, address: &str, seq: u64, code: f64, age_seconds: f64) -> StateRow {
    row(
        host,
        &meters::GATEWAY_STATUS,
        address,
        seq,
        code,
        age_seconds,
    )
}

fn failed(host: &str, pollster: &str, seq: u64, code: f64, age_seconds: f64) -> StateRow {
    row(
        host,
        &meters::POLLSTER_FAILED,
        pollster,
        seq,
        code,
        age_seconds,
    )
}

fn path(host: &str, path: &str, age_seconds: f64) -> PathRow {
    PathRow {
        observer: host.to_owned(),
        path: path.to_owned(),
        received_at: ago(age_seconds),
    }
}

/// A view where nothing is known about the numbers of rounds.
fn view(now: UtcTime, states: &[StateRow], paths: &[PathRow]) -> FleetView {
    super::view(&Fleet {
        now,
        states: states.to_vec(),
        paths: paths.to_vec(),
        rounds: Vec::new(),
        complete_rounds: Vec::new(),
        observers: Vec::new(),
    })
}

/// An instance of `host`, named after its UUID.
fn instance(host: &str, uuid: &str, seq: u64, state: f64, reason: &str) -> StateRow {
    StateRow {
        resource_id: uuid.to_owned(),
        ..row(host, &meters::INSTANCE_STATE, "", seq, state, 0.4)
    }
    .with("interval", "30")
    .with("name", format!("web-{uuid}").as_str())
    .with("reason", reason)
}

fn round(host: &str, seq: u64, instances: f64, age_seconds: f64) -> StateRow {
    row(
        host,
        &meters::INSTANCE_ROUND,
        "",
        seq,
        instances,
        age_seconds,
    )
    .with("interval", "30")
}

fn libvirt(host: &str, seq: u64, volume: f64) -> StateRow {
    row(host, &meters::HYPERVISOR_CONNECTIVITY, "", seq, volume, 0.4)
}

/// A reading of an observer about another host, or about `host/network`.
fn outside(
    observer: &str,
    meter: &Meter,
    about: &str,
    seq: u64,
    volume: f64,
    age_seconds: f64,
) -> StateRow {
    StateRow {
        resource_id: about.to_owned(),
        ..row(observer, meter, "", seq, volume, age_seconds)
    }
    .with("interval", "1")
}

/// One round's look at a host over networks with these codes; all that answer answer.
fn look(
    observer: &str,
    host: &str,
    seq: u64,
    age_seconds: f64,
    networks: &[(&str, f64)],
) -> Vec<StateRow> {
    let answers = |code: f64| f64::from(u8::from(code == 0.0));
    let any = networks.iter().any(|(_, code)| *code == 0.0);
    let whole = f64::from(u8::from(any));
    let mut rows = vec![outside(
        observer,
        &meters::HOST_CONNECTIVITY,
        host,
        seq,
        whole,
        age_seconds,
    )];
    for (seq, (network, code)) in (seq + 1..).step_by(2).zip(networks) {
        let about = format!("{host}/{network}");
        let connectivity = &meters::HOST_NETWORK_CONNECTIVITY;
        let status = &meters::HOST_NETWORK_STATUS;
        rows.push(
            outside(
                observer,
                connectivity,
                &about,
                seq,
                answers(*code),
                age_seconds,
            )
            .with("address", "10.1.0.7"),
        );
        rows.push(outside(
            observer,
            status,
            &about,
            seq + 1,
            *code,
            age_seconds,
        ));
    }
    rows
}

impl StateRow {
    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }

    fn of_epoch(mut self, epoch: u64) -> Self {
        self.epoch = epoch;
        self
    }
}

fn table(states: &[StateRow], paths: &[PathRow], width: usize) -> String {
    let options = TableOptions {
        width,
        colour: false,
    };
    render_table(&view(now(), states, paths), &options)
}

fn only_host(states: &[StateRow]) -> HostView {
    let mut hosts = view(now(), states, &[]).hosts;
    assert_eq!(hosts.len(), 1);
    hosts.remove(0)
}

/// A fleet with one host of each kind.
fn mixed_fleet() -> (Vec<StateRow>, Vec<PathRow>) {
    let states = vec![
        // All is well, by two gateways.
        heartbeat("node-1", 9, 0.4),
        storage("node-1", 10, 1.0, 0.4),
        gateway("node-1", "10.0.0.10", 11, 0.0, 0.4),
        row(
            "node-1",
            &meters::GATEWAY_LOSS_RATIO,
            "10.0.0.10",
            12,
            0.25,
            0.4,
        ),
        row("node-1", &meters::GATEWAY_RTT, "10.0.0.10", 13, 412.0, 0.4),
        gateway("node-1", "10.0.0.9", 14, 0.0, 0.4),
        row(
            "node-1",
            &meters::GATEWAY_LOSS_RATIO,
            "10.0.0.9",
            15,
            0.0,
            0.4,
        ),
        row(
            "node-1",
            &meters::GATEWAY_RTT,
            "10.0.0.9",
            16,
            12_600.0,
            0.4,
        ),
        // Storage is gone; the round-trip time in the database is of the last good round.
        heartbeat("node-2", 9, 0.2),
        storage("node-2", 10, 0.0, 0.2),
        gateway("node-2", "fd00::1", 11, 4.0, 0.2),
        row(
            "node-2",
            &meters::GATEWAY_LOSS_RATIO,
            "fd00::1",
            12,
            1.0,
            0.2,
        ),
        row("node-2", &meters::GATEWAY_RTT, "fd00::1", 3, 400.0, 5.0),
        // The host died 12 s ago.
        heartbeat("node-3", 9, 12.0),
        storage("node-3", 10, 1.0, 12.0),
        gateway("node-3", "10.0.0.9", 11, 0.0, 12.0),
        // Nothing can be probed.
        heartbeat("node-4", 12, 0.3),
        storage("node-4", 10, 1.0, 2.3),
        failed("node-4", "storage_connectivity", 11, 1.0, 0.3).with("reason", "no_permission"),
        // One gateway of it doesn't answer; of the other a newer agent says what we don't know.
        heartbeat("node-5", 9, 0.4),
        storage("node-5", 10, 1.0, 0.4),
        gateway("node-5", "10.0.0.9", 11, 17.0, 0.4),
        gateway("node-5", "10.0.0.10", 11, 1.0, 0.4),
    ];
    let paths = vec![
        path("node-1", "udp://192.168.0.6:4953", 0.4),
        path("node-1", "udp://10.1.0.6:4953", 0.5),
        path("node-5", "udp://192.168.0.6:4953", 240.0),
        path("node-5", "udp://10.1.0.6:4953", 0.4),
    ];
    (states, paths)
}

#[test]
fn a_mixed_fleet_at_80_columns() {
    let (states, paths) = mixed_fleet();
    assert_eq!(
        table(&states, &paths, 80),
        "\
5 hosts at 2026-03-01 03:00:00 UTC: 1 lost, 2 unknown, 2 reachable

HOST    STORAGE         AGE  HEARTBEAT       CLUSTER
node-2  LOST          0.2 s  0.2 s           prod
  fd00::1    100 %         -  own link, address or route to it is gone
node-3  unknown        12 s  silent 12 s     prod
  ? no heartbeat for 12 s
  10.0.0.9       -         -  stale, 12 s ago: answers
node-4  unknown       2.3 s  0.3 s           prod
  ! storage_connectivity: no permission for ICMP: grant CAP_NET_RAW or widen
    net.ipv4.ping_group_range
node-5  reachable     0.4 s  0.4 s           prod
  10.0.0.9       -         -  code 17
  10.0.0.10      -         -  silent
  via udp://10.1.0.6:4953 0.4 s, udp://192.168.0.6:4953 quiet 4 min
node-1  reachable     0.4 s  0.4 s           prod
  10.0.0.9     0 %     13 ms  answers
  10.0.0.10   25 %   0.41 ms  answers
  via udp://10.1.0.6:4953 0.5 s, udp://192.168.0.6:4953 0.4 s
"
    );
}

#[test]
fn names_are_never_cut_but_get_a_line_of_their_own() {
    let host = "compute-0017.rack-12.row-b.datacentre-north.cloud.example.internal";
    let gateway_name = "storage-gateway-0002.storage.datacentre-north.cloud.example.internal";
    let states = [
        heartbeat(host, 2, 0.4),
        storage(host, 1, 1.0, 0.4).with("cluster", "a-cluster-tag-that-is-longer-than-the-room"),
        gateway(host, gateway_name, 3, 7.0, 0.4),
    ];
    assert_eq!(
        table(&states, &[path(host, "a", 0.0)], 80),
        "\
1 host at 2026-03-01 03:00:00 UTC: 1 reachable

HOST                             STORAGE         AGE  HEARTBEAT       CLUSTER
compute-0017.rack-12.row-b.datacentre-north.cloud.example.internal
                                 reachable     0.4 s  0.4 s           a-cluster…
  storage-gateway-0002.storage.datacentre-north.cloud.example.internal
                                               -         -  answers only through
                                                            another interface
  via a 0.0 s
"
    );
    assert!(
        table(&states, &[], 120).contains(&format!("\n{host}  reachable")),
        "there is room"
    );
}

#[test]
fn an_empty_fleet_says_what_to_check() {
    let text = table(&[], &[], 80);
    assert!(text.starts_with("No host has reported yet. Check that ceilometer-polling-ha runs"));
    assert!(text.contains("telemetry_secret"));
}

#[test]
fn colour_is_added_only_where_asked_and_changes_no_text() {
    let (states, paths) = mixed_fleet();
    let fleet = view(now(), &states, &paths);
    let plain = render_table(
        &fleet,
        &TableOptions {
            width: 80,
            colour: false,
        },
    );
    let coloured = render_table(
        &fleet,
        &TableOptions {
            width: 80,
            colour: true,
        },
    );
    assert!(!plain.contains('\u{1b}'));
    assert!(coloured.contains("\u{1b}[31mLOST     \u{1b}[0m"));
    let mut stripped = coloured;
    for code in ["\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m", "\u{1b}[0m"] {
        stripped = stripped.replace(code, "");
    }
    let without_trailing_blanks: Vec<_> = stripped.lines().map(str::trim_end).collect();
    assert_eq!(without_trailing_blanks, plain.lines().collect::<Vec<_>>());
}

#[test]
fn nothing_from_the_network_steers_a_terminal() {
    let evil = "no\u{1b}]0;pwn\u{7}de\u{9b}2J\n\u{202e}1";
    let states = [
        heartbeat(evil, 2, 0.4).with("version", "\u{1b}[2J"),
        storage(evil, 1, 1.0, 0.4).with("cluster", "\u{1b}[31mprod"),
        gateway(evil, "10.0.0.1\r\u{1b}[A", 3, 0.0, 0.4),
        failed(evil, "p\u{8}\u{8}", 4, 99.0, 0.4)
            .with("reason", "\u{1b}c")
            .with("detail", "\u{85}"),
    ];
    let fleet = view(now(), &states, &[path(evil, "udp\u{0}", 0.4)]);
    let json = serde_json::to_string(&fleet).unwrap();
    let text = render_table(
        &fleet,
        &TableOptions {
            width: 80,
            colour: false,
        },
    );
    for shown in [json, text.replace('\n', "")] {
        let steering = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!shown.contains(steering), "{shown:?}");
        assert!(
            !shown.contains("\\u00"),
            "JSON hides none behind an escape: {shown}"
        );
    }
    assert_eq!(
        text.lines().filter(|line| line.contains("]0;pwn")).count(),
        1,
        "one line a host"
    );
}

/// Readings of `node-1`, the verdict, and why it is unknown.
#[test]
fn a_verdict_is_given_only_on_evidence_about_now() {
    use UnknownReason::*;
    let beat = || heartbeat("node-1", 50, 0.4);
    let told = |seconds| vec![beat(), storage("node-1", 20, 0.0, seconds)];
    let failing = |seq, age| {
        let failure =
            failed("node-1", "storage_connectivity", seq, 8.0, age).with("detail", "3 of 4");
        vec![beat(), storage("node-1", 20, 0.0, 0.4), failure]
    };
    let probe_failed = "the probe failed: not all probes could be sent (3 of 4)";
    let earlier = EPOCH - 1;
    type Judged<'a> = Result<Verdict, (UnknownReason, &'a str)>;
    let cases: Vec<(&str, Vec<StateRow>, Judged<'_>)> = vec![
        (
            "reachable",
            vec![beat(), storage("node-1", 20, 1.0, 0.4)],
            Ok(Verdict::Reachable),
        ),
        ("lost", told(0.4), Ok(Verdict::Lost)),
        ("just believed", told(3.0), Ok(Verdict::Lost)),
        (
            "too old",
            told(3.2),
            Err((Stale, "the last reading is 3.2 s old")),
        ),
        (
            "no reading",
            vec![beat()],
            Err((NoReading, "no reading of its storage has arrived")),
        ),
        (
            "the host is silent",
            vec![
                heartbeat("node-1", 50, 12.0),
                storage("node-1", 49, 0.0, 0.4),
            ],
            Err((Silent, "no heartbeat for 12 s")),
        ),
        (
            "a newer failure",
            failing(21, 0.2),
            Err((ProbeFailed, probe_failed)),
        ),
        ("an older failure", failing(19, 0.6), Ok(Verdict::Lost)),
        (
            "a newer failure, but stale",
            failing(21, 3.5),
            Ok(Verdict::Lost),
        ),
        (
            "a failure of an earlier life",
            vec![
                beat(),
                storage("node-1", 1, 0.0, 0.4),
                failed("node-1", "storage_connectivity", 99, 8.0, 0.6).of_epoch(earlier),
            ],
            Ok(Verdict::Lost),
        ),
        (
            "a failure of another pollster",
            vec![
                beat(),
                storage("node-1", 20, 0.0, 0.4),
                failed("node-1", "other", 21, 8.0, 0.4),
            ],
            Ok(Verdict::Lost),
        ),
        (
            "a reading of an earlier life",
            vec![beat(), storage("node-1", 99, 0.0, 0.8).of_epoch(earlier)],
            Err((
                EarlierLife,
                "the last reading is from before the agent's restart",
            )),
        ),
        (
            "restarted, no heartbeat yet",
            vec![
                heartbeat("node-1", 99, 40.0).of_epoch(earlier),
                storage("node-1", 1, 0.0, 0.1),
            ],
            Ok(Verdict::Lost),
        ),
        (
            "a pipeline without heartbeat",
            vec![storage("node-1", 1, 0.0, 89.0)],
            Ok(Verdict::Lost),
        ),
        (
            "the same, too old",
            vec![storage("node-1", 1, 0.0, 91.0)],
            Err((Stale, "the last reading is 91 s old")),
        ),
        (
            "neither 0 nor 1",
            vec![beat(), storage("node-1", 20, 0.5, 0.4)],
            Err((StrangeValue, "the last reading is 5e-1, neither 0 nor 1")),
        ),
        (
            "from the future",
            told(-600.0),
            Err((
                ClockWentBack,
                "the last reading is from 10 min ahead: the database's clock went back",
            )),
        ),
        (
            "another host's",
            vec![
                beat(),
                StateRow {
                    observer: "node-1".into(),
                    ..storage("node-2", 20, 0.0, 0.4)
                },
            ],
            Err((NoReading, "no reading of its storage has arrived")),
        ),
    ];
    for (case, states, expected) in cases {
        let storage = only_host(&states).storage;
        let verdict = match (&storage.reason, &storage.words) {
            (Some(reason), Some(words)) if storage.verdict == Verdict::Unknown => {
                Err((*reason, words.as_str()))
            }
            _ => Ok(storage.verdict),
        };
        assert_eq!(verdict, expected, "{case}");
    }
}

#[test]
fn a_gateway_that_cannot_be_judged_does_not_answer() {
    let beat = || heartbeat("node-1", 50, 0.4);
    let seen = |age| gateway("node-1", "fd00::1", 20, 0.0, age);
    let failure = |seq| failed("node-1", "storage_gateway/fd00::1", seq, 8.0, 0.2);
    for (case, states, stale, failures) in [
        ("it answers", vec![beat(), seen(0.4)], false, 0),
        (
            "taken out of the configuration",
            vec![beat(), seen(300.0)],
            true,
            0,
        ),
        (
            "of an earlier life",
            vec![beat(), seen(0.8).of_epoch(EPOCH - 1)],
            true,
            0,
        ),
        (
            "could not be probed since",
            vec![beat(), seen(1.4), failure(21)],
            true,
            1,
        ),
        (
            "could be probed again",
            vec![beat(), seen(0.1), failure(19)],
            false,
            0,
        ),
    ] {
        let host = only_host(&states);
        let gateway = &host.gateways[0];
        assert_eq!(gateway.address, "fd00::1", "{case}");
        assert_eq!((gateway.stale, gateway.answers), (stale, !stale), "{case}");
        assert_eq!(host.failures.len(), failures, "{case}");
    }
}

#[test]
fn the_newest_reading_speaks() {
    let newest = storage("node-1", 9, 0.0, 0.4).with("cluster", "new");
    let older = storage("node-1", 8, 1.0, 0.1).with("cluster", "old");
    for states in [[newest.clone(), older.clone()], [older, newest]] {
        assert_eq!(only_host(&states).storage.verdict, Verdict::Lost);
    }
    let retagged = heartbeat("node-1", 10, 0.4).with("cluster", "new");
    let states = [
        retagged,
        storage("node-1", 9, 1.0, 0.4),
        heartbeat("node-2", 11, 0.4),
    ];
    let clusters: Vec<_> = view(now(), &states, &[])
        .hosts
        .into_iter()
        .map(|host| (host.host, host.cluster))
        .collect();
    assert_eq!(
        clusters,
        [
            ("node-2".to_owned(), None),
            ("node-1".to_owned(), Some("new".to_owned()))
        ]
    );
}

#[test]
fn codes_of_a_newer_agent_are_shown_as_they_are() {
    let host = only_host(&[
        heartbeat("node-1", 50, 0.4),
        gateway("node-1", "10.0.0.1", 20, 99.0, 0.4),
        gateway("node-1", "10.0.0.2", 20, 0.5, 0.4),
        failed("node-1", "a", 21, 98.0, 0.4).with("reason", "moon_phase"),
        failed("node-1", "b", 21, f64::NAN, 0.4),
        failed("node-1", "c", 21, 8.0, 0.4).with("reason", "ignored"),
    ]);
    let gateways: Vec<_> = host
        .gateways
        .iter()
        .flat_map(|gateway| &gateway.status)
        .collect();
    let failures: Vec<_> = host
        .failures
        .iter()
        .map(|failure| &failure.reason)
        .collect();
    let shown: Vec<_> = gateways
        .into_iter()
        .chain(failures)
        .map(|code| (code.code, code.name.as_deref(), code.words.as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            (Some(99), None, "code 99"),
            (None, None, "code 5e-1"),
            (Some(98), Some("moon_phase"), "code 98, moon_phase"),
            (None, None, "code NaN"),
            (
                Some(8),
                Some("probes_not_sent"),
                "not all probes could be sent"
            ),
        ]
    );
}

#[test]
fn json_is_a_contract() {
    let states = [
        heartbeat("node-1", 12, 0.5),
        storage("node-1", 10, 1.0, 2.5),
        failed("node-1", "storage_connectivity", 11, 1.0, 0.5),
        gateway("node-1", "10.0.0.9", 7, 1.0, 2.5),
        row(
            "node-1",
            &meters::GATEWAY_LOSS_RATIO,
            "10.0.0.9",
            8,
            1.0,
            2.5,
        ),
        libvirt("node-1", 20, 1.0),
        instance("node-1", "a", 30, 1.0, "booted"),
        instance("node-1", "b", 31, 3.0, "ioerror").with("project", "p1"),
        instance("node-1", "c", 15, 5.0, "user"),
        round("node-1", 33, 3.0, 0.5),
    ];
    let networks = [("management", 0.0)];
    let mut states = [
        &states[..],
        &look("controller-1", "node-1", 5, 0.5, &networks),
    ]
    .concat();
    let heard = RoundRow {
        observer: "node-1".to_owned(),
        epoch: EPOCH,
        seq: 33,
        heard: 2,
    };
    let complete = CompleteRoundRow {
        observer: "node-1".to_owned(),
        epoch: EPOCH,
        seq: 29,
        instances: 2,
        completed_at: ago(30.5),
    };
    let observer = ObserverRow {
        observer: "node-1".to_owned(),
        epoch: EPOCH,
        seq: 33,
        observed_at: ago(2.5),
        received_at: ago(0.5),
        rival: None,
    };
    for row in states.iter_mut().filter(|row| row.resource_id == "c") {
        row.confirmed_at = Some(ago(30.5));
    }
    let fleet = super::view(&Fleet {
        now: now(),
        states,
        paths: vec![path("node-1", "udp://192.168.0.6:4953", 0.5)],
        rounds: vec![heard],
        complete_rounds: vec![complete],
        observers: vec![observer],
    });
    let expected = serde_json::json!({
        "now": "2026-03-01T03:00:00.000000",
        "hosts": [{
            "host": "node-1",
            "cluster": "prod",
            "hypervisor": { "value": 1.0, "age_seconds": 0.4, "stale": false, "answers": true },
            "instances": {
                "there": 2,
                "by_state": { "paused": 1, "running": 1 },
                "troubled": [{
                    "uuid": "b",
                    "name": "web-b",
                    "project": "p1",
                    "state": { "code": 3, "name": "paused", "words": "paused" },
                    "reason": "ioerror",
                    "trouble": "io_error",
                    "age_seconds": 0.4,
                    "confirmed_age_seconds": null,
                }],
                "unconfirmed": [{
                    "uuid": "c",
                    "name": "web-c",
                    "project": null,
                    "state": { "code": 5, "name": "shutoff", "words": "shutoff" },
                    "reason": "user",
                    "trouble": null,
                    "age_seconds": 0.4,
                    "confirmed_age_seconds": 30.5,
                }],
                "round": { "instances": 3, "missing_readings": 1 },
                "complete_round": { "instances": 2, "age_seconds": 30.5 },
                "age_seconds": 0.5,
                "stale": false,
            },
            "outside": [{
                "observer": "controller-1",
                "answers": true,
                "age_seconds": 0.5,
                "stale": false,
                "networks": [{
                    "network": "management",
                    "address": "10.1.0.7",
                    "status": { "code": 0, "name": "answered", "words": "answers" },
                    "age_seconds": 0.5,
                    "stale": false,
                    "answers": true,
                }],
            }],
            "storage": {
                "verdict": "unknown",
                "reason": "probe_failed",
                "words": "the probe failed: no permission for ICMP: grant CAP_NET_RAW or widen \
                          net.ipv4.ping_group_range",
                "value": 1.0,
                "age_seconds": 2.5,
            },
            "conflict": null,
            "clock_behind_seconds": 2.0,
            "quality": "shared_secret",
            "heartbeat": {
                "epoch": EPOCH,
                "seq": 12,
                "age_seconds": 0.5,
                "interval_seconds": 1.0,
                "version": "0.1.0",
                "fresh": true,
                "silent": false,
                "earlier_life": false,
            },
            "gateways": [{
                "address": "10.0.0.9",
                "status": { "code": 1, "name": "silent", "words": "silent" },
                "loss_ratio": 1.0,
                "rtt_us": null,
                "age_seconds": 2.5,
                "stale": false,
                "answers": false,
            }],
            "failures": [{
                "pollster": "storage_connectivity",
                "reason": {
                    "code": 1,
                    "name": "no_permission",
                    "words": "no permission for ICMP: grant CAP_NET_RAW or widen \
                              net.ipv4.ping_group_range",
                },
                "detail": null,
                "age_seconds": 0.5,
            }],
            "paths": [{ "path": "udp://192.168.0.6:4953", "age_seconds": 0.5, "fresh": true }],
        }],
        "observers": [{
            "observer": "controller-1",
            "is_host": false,
            "hosts_answering": 1,
            "hosts_silent": 0,
            "hosts_unknown": 0,
            "age_seconds": 0.5,
            "stale": false,
            "conflict": null,
            "clock_behind_seconds": null,
            "heartbeat": null,
            "failures": [],
            "outside": [],
            "paths": [],
        }],
        "instances": [
            {
                "uuid": "a",
                "name": "web-a",
                "project": null,
                "host": "node-1",
                "place": "there",
                "state": { "code": 1, "name": "running", "words": "running" },
                "age_seconds": 0.4,
                "confirmed_age_seconds": null,
            },
            {
                "uuid": "b",
                "name": "web-b",
                "project": "p1",
                "host": "node-1",
                "place": "there",
                "state": { "code": 3, "name": "paused", "words": "paused" },
                "age_seconds": 0.4,
                "confirmed_age_seconds": null,
            },
            {
                "uuid": "c",
                "name": "web-c",
                "project": null,
                "host": "node-1",
                "place": "unconfirmed",
                "state": { "code": 5, "name": "shutoff", "words": "shutoff" },
                "age_seconds": 0.4,
                "confirmed_age_seconds": 30.5,
            },
        ],
    });
    assert_eq!(serde_json::to_value(&fleet).unwrap(), expected);
}

fn any_volume() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0), Just(2.0), Just(3.0), any::<f64>()]
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<f64>().prop_map(Value::Float),
        any::<i128>().prop_map(Value::Int),
        ".{0,12}".prop_map(Value::Text),
        Just(Value::from("1")),
        Just(Value::from("ioerror")),
        "\\PC{300}".prop_map(Value::Text),
    ]
}

/// Mostly near enough to now to be believed, sometimes anywhere in time.
fn any_time() -> impl Strategy<Value = UtcTime> {
    prop_oneof![
        4 => (-4_000_000..20_000_000_i64).prop_map(|age| UtcTime::from_unix_micros(NOW_MICROS - age)),
        1 => any::<i64>().prop_map(UtcTime::from_unix_micros),
    ]
}

fn any_row() -> impl Strategy<Value = StateRow> {
    let host = prop_oneof![Just("n1".to_owned()), Just("n2".to_owned()), ".{0,90}"];
    let about = prop_oneof![
        Just((meters::STORAGE_CONNECTIVITY.name.to_string(), String::new())),
        Just((meters::HEARTBEAT.name.to_string(), String::new())),
        Just((
            meters::POLLSTER_FAILED.name.to_string(),
            "/storage_connectivity".to_owned()
        )),
        Just((
            meters::POLLSTER_FAILED.name.to_string(),
            "/storage_gateway/fd00::1".to_owned()
        )),
        Just((
            meters::GATEWAY_STATUS.name.to_string(),
            "/fd00::1".to_owned()
        )),
        Just((
            meters::POLLSTER_FAILED.name.to_string(),
            "/host_network/net".to_owned()
        )),
        (
            prop::sample::select(vec![
                meters::INSTANCE_STATE,
                meters::INSTANCE_ROUND,
                meters::HYPERVISOR_CONNECTIVITY,
                meters::HOST_CONNECTIVITY,
                meters::HOST_NETWORK_CONNECTIVITY,
                meters::HOST_NETWORK_STATUS,
            ]),
            prop::sample::select(vec!["", "/net", "9", "9/net"]),
        )
            .prop_map(|(meter, part)| (meter.name.to_string(), part.to_owned())),
        ("/.{0,90}").prop_map(|part| (meters::GATEWAY_RTT.name.to_string(), part)),
        ("/.{0,9}").prop_map(|part| (meters::GATEWAY_LOSS_RATIO.name.to_string(), part)),
        (".{0,9}", ".{0,9}"),
    ];
    let order = (prop_oneof![4 => 7..9_u64, 1 => any::<u64>()], 0..50_u64);
    let metadata = prop::collection::btree_map(
        prop::sample::select(vec![
            "cluster", "interval", "version", "reason", "detail", "name",
        ])
        .prop_map(str::to_owned),
        any_value(),
        0..4,
    );
    (
        host,
        about,
        order,
        any_volume(),
        any_time(),
        any_time(),
        metadata,
    )
        .prop_map(
            |(host, (meter, part), (epoch, seq), volume, observed_at, received_at, metadata)| {
                StateRow {
                    resource_id: format!("{host}{part}"),
                    observer: host,
                    meter,
                    epoch,
                    seq,
                    volume,
                    quality: String::new(),
                    observed_at,
                    received_at,
                    metadata,
                    paths: BTreeSet::new(),
                    confirmed_at: None,
                }
            },
        )
}

fn any_path() -> impl Strategy<Value = PathRow> {
    (
        prop_oneof![Just("n1".to_owned()), ".{0,9}"],
        ".{0,300}",
        any_time(),
    )
        .prop_map(|(observer, path, received_at)| PathRow {
            observer,
            path,
            received_at,
        })
}

proptest! {
    /// Whatever the rows hold, it is drawn within the terminal and steers nothing.
    #[test]
    fn any_rows_can_be_shown(
        states in prop::collection::vec(any_row(), 0..24),
        paths in prop::collection::vec(any_path(), 0..4),
        at in any_time(),
        width in 0_usize..140,
    ) {
        let fleet = view(at, &states, &paths);
        prop_assert!(serde_json::to_string(&fleet).is_ok());
        let text = render_table(&fleet, &TableOptions { width, colour: false });
        for line in text.lines() {
            prop_assert!(columns(line) <= width.max(60), "{line:?}");
            prop_assert!(!line.contains(char::is_control), "{line:?}");
        }
    }

    /// What others see of a host never changes what is said about its storage, nor the reverse.
    #[test]
    fn the_outside_never_touches_the_verdict(
        states in prop::collection::vec(any_row(), 0..24),
        code in prop_oneof![Just(0.0), Just(1.0)],
        age in prop_oneof![Just(0.4), Just(60.0)],
    ) {
        let before = view(now(), &states, &[]);
        let looks = ["n1", "n2"].into_iter();
        let looks = looks.flat_map(|host| look("c", host, 1, age, &[("net", code)]));
        let after = view(now(), &looks.chain(states.clone()).collect::<Vec<_>>(), &[]);
        for host in &before.hosts {
            let same = after.hosts.iter().find(|other| other.host == host.host);
            prop_assert!(same.is_some_and(|other| other.storage == host.storage), "{}", host.host);
            prop_assert!(host.host != "n1" || same.is_some_and(|other| !other.outside.is_empty()));
        }
    }

    /// Lost is said only on a 0 that is believed, of a host that isn't silent and could probe:
    /// everything else is unknown, and stays so in the table.
    #[test]
    fn unknown_is_never_shown_as_lost(states in prop::collection::vec(any_row(), 0..24)) {
        let fleet = view(now(), &states, &[]);
        for host in &fleet.hosts {
            let storage = &host.storage;
            let beat = host.heartbeat.as_ref();
            if storage.verdict == Verdict::Lost {
                let interval = beat.and_then(|beat| beat.interval_seconds).unwrap_or(30.0);
                let believed = -3.0..=(3.0 * interval).max(3.0);
                prop_assert_eq!(storage.value, Some(0.0));
                prop_assert!(storage.age_seconds.is_some_and(|age| believed.contains(&age)));
                prop_assert!(beat.is_none_or(|beat| beat.fresh || beat.earlier_life));
                prop_assert!(host.failures.iter().all(|f| f.pollster != "storage_connectivity"));
            }
            prop_assert_eq!(storage.verdict == Verdict::Unknown, storage.reason.is_some());
        }
        let text = render_table(&fleet, &TableOptions { width: 80, colour: false });
        let lost = fleet.hosts.iter().filter(|host| host.storage.verdict == Verdict::Lost).count();
        let shown = text.lines().filter(|line| line.contains("  LOST  ")).count();
        prop_assert_eq!(shown, lost, "{}", text);
    }
}

/// A source may be slower than the one that carries the heartbeat.
#[test]
fn a_reading_is_overdue_by_the_interval_that_it_declares_itself() {
    for (interval, age_seconds, expected) in [
        ("30", 89.0, Verdict::Lost),
        ("30", 91.0, Verdict::Unknown),
        ("1", 4.0, Verdict::Unknown),
    ] {
        let reading = storage("n", 1, 0.0, age_seconds).with("interval", interval);
        let states = [reading, heartbeat("n", 2, 0.5)];
        let verdict = view(now(), &states, &[]).hosts[0].storage.verdict;
        assert_eq!(verdict, expected, "{interval} {age_seconds}");
    }
}

/// A fleet at night: one host of each kind that instances and the outside can make.
fn night() -> Vec<StateRow> {
    let both = |code| [("management", code), ("storage", code)];
    let well = |host: &str| vec![heartbeat(host, 90, 0.4), storage(host, 91, 1.0, 0.4)];
    let look_of = look;
    let look =
        |host: &str, seq, networks: &[(&str, f64)]| look_of("ctl-1", host, seq, 0.6, networks);
    let mut states = Vec::new();
    // All is well; one of the two observers lost its witnesses.
    states.extend(well("node-1"));
    states.extend([
        instance("node-1", "a", 1, 1.0, "booted"),
        instance("node-1", "b", 2, 5.0, "user"),
    ]);
    states.extend([
        instance("node-1", "c", 3, 1.0, "booted"),
        round("node-1", 4, 3.0, 20.0),
    ]);
    states.extend(look("node-1", 10, &both(0.0)));
    states.extend(look_of("ctl-2", "node-1", 10, 0.5, &both(0.0)));
    // Dead: silent inside, no answer outside.
    states.extend([
        heartbeat("node-2", 9, 12.0),
        storage("node-2", 10, 1.0, 12.0),
    ]);
    states.extend([
        instance("node-2", "d", 1, 1.0, "booted"),
        round("node-2", 2, 1.0, 40.0),
    ]);
    states.extend(look("node-2", 20, &both(1.0)));
    states.extend(look_of("ctl-2", "node-2", 2, 8.0, &both(0.0)));
    states.push(failed("ctl-2", "host_network/management", 40, 24.0, 0.5).with("interval", "1"));
    // Silent inside for the agent alone.
    states.extend([
        heartbeat("node-3", 9, 50.0),
        storage("node-3", 10, 1.0, 50.0),
    ]);
    states.extend(look("node-3", 30, &both(0.0)));
    // Guests in trouble; one network is gone.
    states.extend(well("node-4"));
    states.extend([
        instance("node-4", "e", 1, 3.0, "ioerror"),
        instance("node-4", "f", 9, 6.0, "panicked"),
    ]);
    states.extend([
        round("node-4", 3, 2.0, 20.0),
        instance("node-4", "old", 0, 1.0, "booted"),
    ]);
    states.extend(look("node-4", 40, &[("management", 0.0), ("storage", 2.0)]));
    // libvirt hangs.
    states.extend(well("node-5"));
    states.extend([
        instance("node-5", "g", 1, 1.0, "booted"),
        round("node-5", 2, 1.0, 45.0),
    ]);
    states.extend([
        libvirt("node-5", 70, 0.0),
        failed("node-5", "instance.round", 71, 16.0, 0.4),
    ]);
    // Never reported: a witness, or a host whose agent was never started.
    states.extend(look("router", 50, &[("management", 0.0)]));
    states
}

#[test]
fn instances_and_the_outside_at_80_columns() {
    assert_eq!(
        table(&night(), &[path("ctl-1", "udp://10.1.0.6:4953", 0.6)], 80),
        "\
6 hosts at 2026-03-01 03:00:00 UTC: 3 unknown, 3 reachable; 1 observer impaired

HOST    STORAGE         AGE  HEARTBEAT       CLUSTER
node-2  unknown        12 s  silent 12 s     prod
  ? no heartbeat for 12 s
  outside ctl-1 0.6 s: no answer: management silent, storage silent
  outside ctl-2, stale, 8.0 s ago: management answers, storage answers
  instances 1: 1 running
node-3  unknown        50 s  silent 50 s     prod
  ? no heartbeat for 50 s
  outside answers ctl-1 0.6 s
node-4  reachable     0.4 s  0.4 s           prod
  outside ctl-1 0.6 s: management answers, storage unreachable, says the network
  ! instance web-e (e): paused by an I/O error
  ! instance web-f (f): crashed
  instances 2: 1 crashed, 1 paused; 1 of the last round's 2 readings missing, 1
            not confirmed
node-5  reachable     0.4 s  0.4 s           prod
  ! libvirt hangs or is dead: its instances can't be looked at
  instances 1, stale, 45 s ago: 1 running
router  unknown           -  none yet        -
  ? only seen from outside: nothing has arrived from an agent of its own
  outside answers ctl-1 0.6 s
node-1  reachable     0.4 s  0.4 s           prod
  instances 3: 2 running, 1 shutoff
  outside answers ctl-1 0.6 s, ctl-2 0.5 s

observer ctl-2 0.5 s, 2 hosts: 1 answering, 1 unknown
  ! host_network/management: no host of this network answers: the fault may be
    our own
observer ctl-1 0.6 s, 5 hosts: 4 answering, 1 silent
  via udp://10.1.0.6:4953 0.6 s
"
    );
}

#[test]
fn instances_that_cannot_be_looked_at_are_stale_and_never_none() {
    let well = || vec![heartbeat("n", 50, 0.4), storage("n", 51, 1.0, 0.4)];
    let told = |age| {
        let mut rows = well();
        rows.extend([
            instance("n", "a", 8, 1.0, "booted"),
            round("n", 9, 1.0, age),
        ]);
        rows
    };
    let and = |mut rows: Vec<StateRow>, row: StateRow| {
        rows.push(row);
        rows
    };
    let failing = |seq| failed("n", "instance.round", seq, 16.0, 0.4);
    type Case<'a> = (&'a str, Vec<StateRow>, Option<(u64, bool)>, usize);
    let cases: Vec<Case<'_>> = vec![
        ("seen", told(20.0), Some((1, false)), 0),
        ("no round for long", told(91.0), Some((1, true)), 0),
        (
            "libvirt hangs",
            and(told(20.0), failing(60)),
            Some((1, true)),
            1,
        ),
        (
            "it hung before",
            and(told(20.0), failing(5)),
            Some((1, false)),
            0,
        ),
        (
            "the agent was started anew",
            and(told(20.0), heartbeat("n", 1, 0.1).of_epoch(EPOCH + 1)),
            Some((1, true)),
            0,
        ),
        (
            "there are none",
            and(well(), round("n", 9, 0.0, 0.4)),
            Some((0, false)),
            0,
        ),
        ("none was ever looked at", well(), None, 0),
        ("nor could be", and(well(), failing(60)), None, 1),
    ];
    for (case, states, expected, failures) in cases {
        let host = only_host(&states);
        let instances = host.instances.as_ref();
        let shown = instances.map(|instances| (instances.there, instances.stale));
        assert_eq!(shown, expected, "{case}");
        assert_eq!(host.failures.len(), failures, "{case}");
    }
}

#[test]
fn a_libvirt_is_dead_only_on_a_fresh_reading() {
    let failing = failed("n", "hypervisor.connectivity", 61, 13.0, 0.4);
    for (case, rows, stale, answers, problem) in [
        ("answers", vec![libvirt("n", 60, 1.0)], false, true, false),
        ("hangs", vec![libvirt("n", 60, 0.0)], false, false, true),
        (
            "hung before a restart",
            vec![libvirt("n", 60, 0.0).of_epoch(EPOCH - 1)],
            true,
            false,
            false,
        ),
        (
            "we may not ask",
            vec![libvirt("n", 60, 1.0), failing],
            true,
            false,
            true,
        ),
    ] {
        let host = only_host(
            &[
                rows,
                vec![heartbeat("n", 50, 0.4), storage("n", 51, 1.0, 0.4)],
            ]
            .concat(),
        );
        let hypervisor = host.hypervisor.as_ref().unwrap();
        let shown = (hypervisor.stale, hypervisor.answers, host.has_problem());
        assert_eq!(shown, (stale, answers, problem), "{case}");
    }
}

/// All instances of a host whose storage is gone pause at once.
#[test]
fn many_instances_in_trouble_leave_room_for_other_hosts() {
    for (number, listed, more) in [(10, 10, None), (11, 10, Some(1)), (500, 10, Some(490))] {
        let uuids: Vec<String> = (0..number).map(|n| format!("{n:03}")).collect();
        let mut states: Vec<_> = (1..)
            .zip(&uuids)
            .map(|(seq, uuid)| instance("n", uuid, seq, 3.0, "ioerror"))
            .collect();
        states.push(round(
            "n",
            number + 1,
            f64::from(u32::try_from(number).unwrap()),
            0.4,
        ));
        let text = table(&states, &[], 80);
        assert_eq!(text.matches("paused by an I/O error").count(), listed);
        let rest = more.map(|more| format!("  ! and {more} more instances, see --format json\n"));
        assert_eq!(text.contains("more instances"), rest.is_some());
        assert!(rest.is_none_or(|rest| text.contains(&rest)), "{text}");
        let fleet = view(now(), &states, &[]);
        let all = fleet.hosts[0].instances.as_ref().unwrap();
        assert_eq!(all.troubled.len(), usize::try_from(number).unwrap());
    }
}

/// Who is a host, and who only looks at hosts.
#[test]
fn who_only_looks_at_others_is_no_host() {
    let looks = || look("ctl", "n", 1, 0.4, &[("net", 0.0)]);
    let and = |rows: Vec<StateRow>| [looks(), rows].concat();
    let no_witness = |pollster: &str| failed("ctl", pollster, 60, 24.0, 0.4);
    let seen = look("other", "ctl", 1, 0.4, &[("net", 0.0)]);
    type Names<'a> = &'a [&'a str];
    let cases: Vec<(&str, Vec<StateRow>, Names<'_>, Names<'_>)> = vec![
        ("it looks", looks(), &["n"], &["ctl"]),
        (
            "with a heartbeat",
            and(vec![heartbeat("ctl", 50, 0.4)]),
            &["n"],
            &["ctl"],
        ),
        ("another looks at it", and(seen), &["n"], &["ctl", "other"]),
        (
            "a node of its own",
            and(vec![storage("ctl", 50, 1.0, 0.4)]),
            &["ctl", "n"],
            &["ctl"],
        ),
        (
            "a node that can't probe its storage",
            and(vec![failed("ctl", "storage_connectivity", 50, 1.0, 0.4)]),
            &["ctl", "n"],
            &["ctl"],
        ),
        (
            "a node with instances",
            and(vec![round("ctl", 50, 0.0, 0.4)]),
            &["ctl", "n"],
            &["ctl"],
        ),
        (
            "a node that sees nothing",
            vec![storage("ctl", 50, 1.0, 0.4), no_witness("host_network/net")],
            &["ctl"],
            &["ctl"],
        ),
        (
            "it sees nothing",
            vec![no_witness("host_network/net")],
            &[],
            &["ctl"],
        ),
        (
            "it has nothing to look at",
            vec![no_witness("host.connectivity")],
            &[],
            &["ctl"],
        ),
        (
            "it looks at itself alone",
            look("ctl", "ctl", 1, 0.4, &[("net", 0.0)]),
            &[],
            &["ctl"],
        ),
        (
            "a heartbeat alone",
            vec![heartbeat("ctl", 50, 0.4)],
            &["ctl"],
            &[],
        ),
    ];
    for (case, states, hosts, observers) in cases {
        let fleet = view(now(), &states, &[]);
        let mut shown: Vec<_> = fleet.hosts.iter().map(|host| host.host.as_str()).collect();
        shown.sort_unstable();
        assert_eq!(shown, hosts, "{case}");
        let shown: Vec<_> = fleet
            .observers
            .iter()
            .map(|one| one.observer.as_str())
            .collect();
        assert_eq!(shown, observers, "{case}");
        for host in &fleet.hosts {
            let own = host
                .failures
                .iter()
                .all(|failure| !failure.pollster.starts_with("host"));
            assert!(own, "{case}: an observer's failure is no failure of a host");
        }
        let hosts = fleet.hosts.iter().map(|host| (&host.host, &host.outside));
        let observers = fleet
            .observers
            .iter()
            .map(|one| (&one.observer, &one.outside));
        for (name, outside) in hosts.chain(observers) {
            let itself = outside.iter().any(|view| view.observer == *name);
            assert!(!itself, "{case}: nobody sees itself from outside");
        }
    }
}

/// What is said about `n` of net `net` at 0.4 s, and the host as a whole: stale, answers.
#[test]
fn what_an_observer_cannot_see_says_nothing_about_a_host() {
    let lost = |age| look("ctl", "n", 10, age, &[("net", 1.0)]);
    let and = |mut rows: Vec<StateRow>, row: StateRow| {
        rows.push(row);
        rows
    };
    let failing =
        |pollster, seq, age| failed("ctl", pollster, seq, 24.0, age).with("interval", "1");
    type Case<'a> = (&'a str, Vec<StateRow>, (bool, Option<bool>), usize);
    let cases: Vec<Case<'_>> = vec![
        ("no answer", lost(0.4), (false, Some(false)), 0),
        ("too long ago", lost(3.2), (true, None), 0),
        (
            "no witness since",
            and(lost(1.4), failing("host_network/net", 50, 0.4)),
            (true, None),
            1,
        ),
        (
            "a void round since",
            and(lost(1.4), failing("host.connectivity", 50, 0.4)),
            (true, None),
            1,
        ),
        (
            "no buffers for it since",
            and(lost(1.4), failing("host_network/n/net", 50, 0.4)),
            (true, None),
            1,
        ),
        (
            "of another network",
            and(lost(1.4), failing("host_network/other", 50, 0.4)),
            (false, Some(false)),
            1,
        ),
        (
            "of another host",
            and(lost(1.4), failing("host_network/m/net", 50, 0.4)),
            (false, Some(false)),
            1,
        ),
        // Others of the network had no witness in this very round, this one had.
        (
            "in the same round",
            and(lost(0.4), failing("host_network/net", 50, 0.4)),
            (false, Some(false)),
            1,
        ),
        (
            "no witness before",
            and(lost(0.4), failing("host_network/net", 5, 1.4)),
            (false, Some(false)),
            0,
        ),
        (
            "a void round before",
            and(lost(0.4), failing("host.connectivity", 5, 1.4)),
            (false, Some(false)),
            0,
        ),
        (
            "its trouble before",
            and(lost(0.4), failing("host_network/n/net", 5, 1.4)),
            (false, Some(false)),
            0,
        ),
        (
            "of an earlier life",
            and(
                lost(0.4),
                outside("ctl", &meters::HOST_CONNECTIVITY, "m", 1, 1.0, 0.1).of_epoch(EPOCH + 1),
            ),
            (true, None),
            0,
        ),
    ];
    for (case, states, expected, failures) in cases {
        let fleet = view(now(), &states, &[]);
        let host = fleet.hosts.iter().find(|host| host.host == "n").unwrap();
        let seen = &host.outside[0];
        assert_eq!((seen.stale, seen.answers), expected, "{case}");
        assert_eq!(seen.networks[0].stale, expected.0, "{case}");
        assert!(!seen.networks[0].answers, "{case}");
        assert_eq!(
            host.storage.reason,
            Some(UnknownReason::NeverReported),
            "{case}"
        );
        assert_eq!(fleet.observers[0].failures.len(), failures, "{case}");
    }
}

#[test]
fn the_most_urgent_host_comes_first() {
    let silent = |host| vec![heartbeat(host, 9, 12.0), storage(host, 10, 1.0, 12.0)];
    let well = |host| vec![heartbeat(host, 9, 0.4), storage(host, 10, 1.0, 0.4)];
    let seen = |host: &str, code| look("ctl", host, 1, 0.4, &[("net", code)]);
    let states = [
        well("a-well"),
        seen("b-never-reported", 0.0),
        well("c-seen-silent"),
        seen("c-seen-silent", 1.0),
        silent("d-silent"),
        silent("e-dead"),
        seen("e-dead", 1.0),
        vec![heartbeat("f-lost", 9, 0.4), storage("f-lost", 10, 0.0, 0.4)],
    ]
    .concat();
    let fleet = view(now(), &states, &[]);
    let order: Vec<_> = fleet.hosts.iter().map(|host| host.host.as_str()).collect();
    let expected = [
        "f-lost",
        "e-dead",
        "d-silent",
        "c-seen-silent",
        "b-never-reported",
        "a-well",
    ];
    assert_eq!(order, expected);
}

/// Two agents of one name: all that the name says is unknown, of itself and of others, and what others
/// say of it stands.
#[test]
fn nothing_is_believed_of_a_name_that_two_agents_use() {
    let fleet = |rival_seconds: Option<f64>| {
        let observer = |name: &str| ObserverRow {
            observer: name.to_owned(),
            epoch: EPOCH,
            seq: 99,
            observed_at: ago(0.4),
            received_at: ago(0.4),
            rival: rival_seconds.map(|seconds| Rival {
                epoch: EPOCH - 1,
                at: ago(seconds),
            }),
        };
        let own = vec![
            heartbeat("node-1", 9, 0.4),
            storage("node-1", 10, 0.0, 0.4),
            gateway("node-1", "10.0.0.9", 11, 1.0, 0.4),
            libvirt("node-1", 12, 0.0),
            instance("node-1", "a", 13, 1.0, "booted"),
            round("node-1", 14, 1.0, 0.4),
            storage("node-2", 10, 0.0, 0.4),
        ];
        let looks = [
            look("controller-1", "node-2", 5, 0.4, &[("net", 1.0)]),
            look("controller-2", "node-1", 5, 0.4, &[("net", 1.0)]),
        ];
        super::view(&Fleet {
            now: now(),
            states: [own, looks.concat()].concat(),
            paths: Vec::new(),
            rounds: Vec::new(),
            complete_rounds: Vec::new(),
            observers: vec![observer("node-1"), observer("controller-1")],
        })
    };
    let host = |fleet: &FleetView, name: &str| {
        let mut hosts = fleet.hosts.iter();
        hosts.find(|host| host.host == name).unwrap().clone()
    };
    for rival_seconds in [None, Some(60.0)] {
        let fleet = fleet(rival_seconds);
        let one = host(&fleet, "node-1");
        assert_eq!((one.storage.verdict, one.conflict), (Verdict::Lost, None));
        assert_eq!(fleet.instances[0].place, Place::There);
        assert_eq!(host(&fleet, "node-2").outside[0].answers, Some(false));
    }

    let fleet = fleet(Some(3.0));
    let one = host(&fleet, "node-1");
    assert_eq!(one.storage.verdict, Verdict::Unknown);
    assert_eq!(one.storage.reason, Some(UnknownReason::IdentityConflict));
    let conflict = one.conflict.clone().unwrap();
    assert_eq!((conflict.epoch, conflict.rival_epoch), (EPOCH, EPOCH - 1));
    assert!(one.gateways[0].stale && one.hypervisor.unwrap().stale);
    assert!(one.instances.unwrap().stale);
    assert_eq!(fleet.instances[0].place, Place::Unknown);
    assert_eq!(
        one.outside[0].answers,
        Some(false),
        "as controller-2 sees it"
    );
    let two = host(&fleet, "node-2");
    assert_eq!(
        two.storage.verdict,
        Verdict::Lost,
        "it has a name of its own"
    );
    assert_eq!((two.outside[0].answers, two.outside[0].stale), (None, true));
    let looking = &fleet.observers;
    assert_eq!(
        looking[0].observer, "controller-1",
        "the one with a problem is first"
    );
    assert!(looking[0].conflict.is_some() && looking[0].hosts_unknown == 1);

    let options = TableOptions {
        width: 80,
        colour: false,
    };
    let table = render_table(&fleet, &options);
    let said = table
        .lines()
        .filter(|line| line.contains("two agents use this name"));
    assert_eq!(said.count(), 2, "{table}");
    assert!(table.contains(&format!("{}", EPOCH - 1)), "{table}");
}

/// The clock of a host is shown when it is off, and only while the host is heard.
#[test]
fn a_clock_that_is_off_is_shown() {
    for (behind, age_seconds, word) in [
        (0.4, 0.4, None),
        (4.0, 0.4, Some("its clock is 4.0 s behind")),
        (-90.0, 0.4, Some("its clock is 90 s ahead")),
        (4.0, 900.0, None),
    ] {
        let fleet = super::view(&Fleet {
            now: now(),
            states: vec![heartbeat("node-1", 9, age_seconds)],
            paths: Vec::new(),
            rounds: Vec::new(),
            complete_rounds: Vec::new(),
            observers: vec![ObserverRow {
                observer: "node-1".to_owned(),
                epoch: EPOCH,
                seq: 9,
                observed_at: ago(age_seconds + behind),
                received_at: ago(age_seconds),
                rival: None,
            }],
        });
        let options = TableOptions {
            width: 80,
            colour: false,
        };
        let table = render_table(&fleet, &options);
        assert_eq!(table.contains("its clock is"), word.is_some(), "{table}");
        assert!(word.is_none_or(|word| table.contains(word)), "{table}");
    }
}
