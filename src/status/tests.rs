//! The view and the table together: rows in, text out.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::text::columns;
use super::*;
use crate::model::{Metadata, Meter, PathRow, StateRow, UtcTime, Value, meters};

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
    ];
    let fleet = view(
        now(),
        &states,
        &[path("node-1", "udp://192.168.0.6:4953", 0.5)],
    );
    let expected = serde_json::json!({
        "now": "2026-03-01T03:00:00.000000",
        "hosts": [{
            "host": "node-1",
            "cluster": "prod",
            "storage": {
                "verdict": "unknown",
                "reason": "probe_failed",
                "words": "the probe failed: no permission for ICMP: grant CAP_NET_RAW or widen \
                          net.ipv4.ping_group_range",
                "value": 1.0,
                "age_seconds": 2.5,
            },
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
    });
    assert_eq!(serde_json::to_value(&fleet).unwrap(), expected);
}

fn any_volume() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0), Just(2.0), any::<f64>()]
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<f64>().prop_map(Value::Float),
        any::<i128>().prop_map(Value::Int),
        ".{0,12}".prop_map(Value::Text),
        Just(Value::from("1")),
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
        ("/.{0,90}").prop_map(|part| (meters::GATEWAY_RTT.name.to_string(), part)),
        ("/.{0,9}").prop_map(|part| (meters::GATEWAY_LOSS_RATIO.name.to_string(), part)),
        (".{0,9}", ".{0,9}"),
    ];
    let order = (prop_oneof![4 => 7..9_u64, 1 => any::<u64>()], 0..50_u64);
    let metadata = prop::collection::btree_map(
        prop::sample::select(vec!["cluster", "interval", "version", "reason", "detail"])
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
        let shown = text.lines().skip(3).filter(|line| line.contains("  LOST  ")).count();
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
