//! notifier:// publishers and a real message broker: what goes over the wire, in which order, and what
//! becomes of readings when the broker is away, hangs, refuses, or has lost its queue.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ceilometer_ha::clock;
use ceilometer_ha::events::Undeliverable;
use ceilometer_ha::pipeline::Policy;
use ceilometer_ha::publisher::notifier::DRAIN_LIMIT;
use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use nix::sys::signal::Signal;
use serde_json::Value as Json;

use support::publishing::{PATH, Publishing, QUEUE, TOPIC};
use support::rabbitmq::Server;
use support::site::{Daemon, Site};
use support::wait_until;

const DURABLE: &str = "amqp_durable_queues = true";

/// A message as a consumer gets it.
#[derive(Debug, Clone)]
struct Got {
    /// Sent to whoever waits for news, and not to the queue alone.
    is_live: bool,
    body: Json,
    seqs: Vec<u64>,
}

/// Takes all that is in the queue.
fn consume(url: &str) -> Vec<Got> {
    with_channel(url, async |channel| {
        let mut all = Vec::new();
        let options = BasicGetOptions { no_ack: true };
        while let Some(message) = channel.basic_get(QUEUE.into(), options).await.unwrap() {
            let outer: Json = serde_json::from_slice(&message.delivery.data).unwrap();
            let body: Json = serde_json::from_str(outer["oslo.message"].as_str().unwrap()).unwrap();
            let seqs = body["payload"].as_array().unwrap().iter();
            let exchange = message.delivery.exchange.as_str();
            assert!(matches!(exchange, "" | "ceilometer"), "{exchange}");
            assert_eq!(message.delivery.routing_key.as_str(), QUEUE);
            all.push(Got {
                is_live: exchange == "ceilometer",
                seqs: seqs.map(|it| it["ha_seq"].as_u64().unwrap()).collect(),
                body,
            });
        }
        all
    })
}

fn with_channel<T>(url: &str, work: impl AsyncFnOnce(lapin::Channel) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let uri = url.replacen("rabbit://", "amqp://", 1);
        let connection = lapin::Connection::connect(&uri, Default::default())
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        let done = work(channel).await;
        // The channel is closing already, which lapin may call an error.
        let _ = connection.close(200, "bye".into()).await;
        done
    })
}

fn seqs(all: &[Got], is_live: bool) -> Vec<u64> {
    let of_kind = all.iter().filter(|got| got.is_live == is_live);
    of_kind.flat_map(|got| got.seqs.clone()).collect()
}

fn is_sorted(seqs: &[u64]) -> bool {
    seqs.windows(2).all(|two| two[0] < two[1])
}

/// Every number up to the last came, in whatever order, and how many came twice.
#[track_caller]
fn assert_complete(all: &[Got], last: u64) -> usize {
    let came: Vec<u64> = all.iter().flat_map(|got| got.seqs.clone()).collect();
    let once: BTreeSet<u64> = came.iter().copied().collect();
    let missing: Vec<u64> = (1..=last).filter(|seq| !once.contains(seq)).collect();
    assert!(
        missing.is_empty(),
        "{missing:?} of {last} are missing: {all:?}"
    );
    came.len() - once.len()
}

// --- what goes over the wire

/// A way to a server on which every byte of the client is kept.
struct Tap {
    url: String,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    fn on(server: &Server) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let (kept, to) = (Arc::clone(&bytes), server.port());
        std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).unwrap();
            let (mut back, mut forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut back, &mut forth));
            let mut buffer = [0; 65_536];
            while let Ok(count @ 1..) = client.read(&mut buffer) {
                kept.lock().unwrap().extend_from_slice(&buffer[..count]);
                if server.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
        });
        let url = server
            .url()
            .replace(&server.port().to_string(), &port.to_string());
        Tap { url, bytes }
    }

    /// The frames: kind and payload as hex.
    fn frames(&self) -> Vec<(u8, String)> {
        let bytes = self.bytes.lock().unwrap().clone();
        let mut rest = &bytes[8..];
        let mut frames = Vec::new();
        while rest.len() >= 8 {
            let size = u32::from_be_bytes(rest[3..7].try_into().unwrap());
            let size = usize::try_from(size).unwrap();
            frames.push((rest[0], hex(&rest[7..7 + size])));
            assert_eq!(rest[7 + size], 0xce);
            rest = &rest[8 + size..];
        }
        frames
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The frames of current Ceilometer's session that we send as well, of our topic.
fn golden_frames() -> (BTreeMap<String, String>, Json) {
    let (mut frames, mut body) = (BTreeMap::new(), Json::Null);
    for line in include_str!("fixtures/amqp-frames-current.jsonl").lines() {
        let frame: Json = serde_json::from_str(line).unwrap();
        if let Some(raw) = frame["raw"].as_str() {
            let name = frame["method"].as_str().unwrap_or("header").to_owned();
            frames.insert(name, renamed(raw));
        }
        if let Some(text) = frame["body"].as_str() {
            body = serde_json::from_str(text).unwrap();
        }
    }
    (frames, body)
}

/// A frame with our topic's queue in place of Ceilometer's: short texts, each behind its length.
fn renamed(raw: &str) -> String {
    let short = |text: &str| format!("{:02x}{}", text.len(), hex(text.as_bytes()));
    raw.replace(&short("metering.sample"), &short(QUEUE))
}

fn keys(map: &Json) -> BTreeSet<String> {
    map.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn exchange_key_declarations_properties_and_envelope_are_ceilometers() {
    let server = Server::start();
    let tap = Tap::on(&server);
    let mut publishing = Publishing::start(&tap.url, "", Policy::Drop);
    publishing.push(1);
    publishing.wait("a confirmed reading", |told| told.confirmed == 1);
    publishing.end();
    let (golden, golden_body) = golden_frames();
    let frames = tap.frames();
    let one = |kind: u8, start: &str| {
        let of = frames
            .iter()
            .find(|(its, hex)| *its == kind && hex.starts_with(start));
        of.unwrap_or_else(|| panic!("no {start} in {frames:?}"))
            .1
            .clone()
    };
    assert_eq!(one(1, "0028000a"), golden["exchange.declare"]);
    assert_eq!(one(1, "0032000a"), golden["queue.declare"]);
    assert_eq!(one(1, "00320014"), golden["queue.bind"]);
    // What no queue takes must come back to us: that is the one difference, the flag at the end.
    let publish = golden["basic.publish"].strip_suffix("00").unwrap();
    assert_eq!(one(1, "003c0028"), format!("{publish}01"));
    // Class and weight, the size of the body, the properties.
    let (ours, theirs) = (one(2, "003c"), &golden["header"]);
    assert_eq!((&ours[..8], &ours[24..]), (&theirs[..8], &theirs[24..]));
    let body = consume(&server.url()).remove(0);
    assert!(body.is_live);
    let inner = |body: &Json| -> Json {
        serde_json::from_str(body["oslo.message"].as_str().unwrap()).unwrap()
    };
    let theirs = inner(&golden_body);
    assert_eq!(keys(&body.body), keys(&theirs));
    for (key, value) in body.body.as_object().unwrap() {
        let (ours, theirs) = (value.as_str(), theirs[key].as_str());
        match &**key {
            "priority" => assert_eq!(ours, theirs),
            "event_type" => assert_eq!(ours, Some(TOPIC)),
            "publisher_id" => assert_eq!(ours, Some("telemetry.publisher.node-1")),
            "payload" => {}
            // The same letters and digits in other places.
            key => {
                let shape = |text: Option<&str>| -> String {
                    let text = text.unwrap().chars();
                    text.map(|c| if c.is_ascii_hexdigit() { '0' } else { c })
                        .collect()
                };
                assert_eq!(shape(ours), shape(theirs), "{key}");
            }
        }
    }
    let theirs = keys(&theirs["payload"][0]);
    let left: BTreeSet<_> = theirs
        .difference(&keys(&body.body["payload"][0]))
        .cloned()
        .collect();
    let of_newer = ["monotonic_time", "project_name", "user_name"].map(str::to_owned);
    assert_eq!(left, of_newer.into());
}

// --- what becomes of readings

#[test]
fn a_broker_that_is_away_at_the_start_gets_the_present_first_and_then_what_waited_in_order() {
    let mut server = Server::start();
    server.stop();
    let mut publishing = Publishing::start(&server.url(), "", Policy::Queue(1024));
    let old = publishing.push(5);
    publishing.wait("rounds that are no news any more", |told| told.backlog == 5);
    server.start_again();
    // Whenever it connects, something is live.
    let last = wait_until("a connection", || {
        let last = publishing.push(1);
        let told = publishing.told();
        match told.confirmed {
            0 => Err(format!("{told:?}")),
            _ => Ok(last),
        }
    });
    publishing.wait("all to be sent", |told| {
        told.backlog == 0 && told.confirmed >= 6
    });
    let (told, _) = publishing.end();
    let all = consume(&server.url());
    assert_eq!(assert_complete(&all, last), 0, "{told:?}");
    let (live, backlog) = (seqs(&all, true), seqs(&all, false));
    assert!(
        all[0].is_live && is_sorted(&live) && is_sorted(&backlog),
        "{all:?}"
    );
    assert!(
        backlog.starts_with(&(1..=old).collect::<Vec<_>>()),
        "{backlog:?}"
    );
    assert_eq!((told.lost, told.members.len()), (0, 1));
    assert!(!told.disconnected.is_empty());
}

#[test]
fn no_confirmed_reading_is_lost_and_every_other_one_is_sent_again_when_a_broker_is_killed() {
    let mut server = Server::start();
    let mut publishing = Publishing::start(&server.url(), DURABLE, Policy::Queue(1024));
    publishing.push(20);
    publishing.wait("a connection", |told| told.confirmed >= 20);
    // In the middle of a stream, so that some are on their way.
    publishing.push(300);
    server.kill();
    publishing.push(20);
    publishing.wait("to be noticed", |told| !told.disconnected.is_empty());
    server.start_again();
    let last = publishing.push(20);
    publishing.wait("all to be sent", |told| {
        told.backlog == 0 && told.confirmed >= usize::try_from(last).unwrap()
    });
    server.stop_app();
    let disconnected = publishing.told().disconnected.len();
    publishing.wait("to be noticed", |told| {
        told.disconnected.len() > disconnected
    });
    let last = publishing.push(5).max(last);
    server.start_app();
    publishing.wait("all to be sent", |told| {
        told.backlog == 0 && told.confirmed >= usize::try_from(last).unwrap()
    });
    let (told, _) = publishing.end();
    assert_complete(&consume(&server.url()), last);
    assert_eq!(told.lost, 0, "{told:?}");
}

#[test]
fn a_broker_that_hangs_is_given_up_and_gets_all_when_it_goes_on() {
    let server = Server::start();
    let mut publishing = Publishing::start(&server.url(), "", Policy::Queue(1024));
    publishing.push(1);
    publishing.wait("a connection", |told| told.confirmed == 1);
    let threads = threads();
    server.signal(Signal::SIGSTOP);
    publishing.push(3);
    let told = publishing.wait("to be noticed", |told| !told.disconnected.is_empty());
    assert!(
        told.disconnected[0].contains("confirmed nothing for 5 s"),
        "{told:?}"
    );
    assert_eq!(told.undelivered[&Undeliverable::Late], 3);
    // Its kernel still takes connections, and nobody answers on them.
    publishing.wait("three attempts", |told| told.disconnected.len() >= 3);
    let left = threads_left(threads);
    let last = publishing.push(2);
    server.signal(Signal::SIGCONT);
    publishing.wait("all to be sent", |told| {
        told.backlog == 0 && told.confirmed >= 6
    });
    let (told, _) = publishing.end();
    assert_complete(&consume(&server.url()), last);
    assert_eq!(told.lost, 0, "{told:?}");
    // One may be at the next attempt.
    assert!(left <= 1, "{left} threads more than with a connection");
}

/// The threads of this process, the tests beside this one with them where they share it.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

fn threads_left(before: usize) -> usize {
    threads().saturating_sub(before)
}

#[test]
fn a_broker_that_blocks_is_sent_nothing_and_gets_all_when_it_takes_again() {
    let server = Server::start();
    let mut publishing = Publishing::start(&server.url(), "", Policy::Queue(1024));
    publishing.push(1);
    publishing.wait("a connection", |told| told.confirmed == 1);
    server.memory_alarm(true);
    publishing.push(1);
    publishing.wait("to be told", |told| told.is_blocked);
    publishing.push(4);
    let told = publishing.wait("rounds that are no news any more", |told| told.backlog == 4);
    assert_eq!(
        (told.confirmed, told.disconnected.len()),
        (1, 0),
        "{told:?}"
    );
    server.memory_alarm(false);
    publishing.wait("to be told", |told| !told.is_blocked);
    let last = publishing.push(1);
    let told = publishing.wait("all to be sent", |told| told.confirmed == 7);
    assert_eq!((told.backlog, told.disconnected.len()), (0, 0), "{told:?}");
    publishing.end();
    let all = consume(&server.url());
    assert_eq!(assert_complete(&all, last), 0);
    assert_eq!(seqs(&all, false), [3, 4, 5, 6]);
}

#[test]
fn a_queue_that_was_deleted_is_declared_again_and_loses_nothing_that_comes_after() {
    let server = Server::start();
    let mut publishing = Publishing::start(&server.url(), "", Policy::Queue(1024));
    publishing.push(3);
    publishing.wait("a connection", |told| told.confirmed == 3);
    assert!(server.delete_queue(QUEUE));
    let last = publishing.push(200);
    let told = publishing.wait("all to be sent", |told| told.confirmed == 203);
    let mut all = consume(&server.url());
    all.extend([1, 2, 3].map(|seq| Got {
        is_live: true,
        body: Json::Null,
        seqs: vec![seq],
    }));
    assert_eq!(
        assert_complete(&all, last),
        0,
        "confirmed is what a queue has"
    );
    assert_eq!(
        (told.lost, told.members.len()),
        (0, 1),
        "over one connection"
    );
    assert!(
        !told.undelivered.contains_key(&Undeliverable::NoRoute),
        "{told:?}"
    );
    publishing.end();
}

#[test]
fn a_queue_with_other_properties_is_used_and_what_it_refuses_is_the_policys() {
    let server = Server::start();
    let full = [
        ("x-max-length", AMQPValue::LongLongInt(2)),
        ("x-overflow", AMQPValue::LongString("reject-publish".into())),
    ];
    with_channel(&server.url(), async |channel| {
        let mut arguments = FieldTable::default();
        for (name, value) in full {
            arguments.insert(name.into(), value);
        }
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(QUEUE.into(), options, arguments)
            .await
            .unwrap();
    });
    let mut keeping = Publishing::start(&server.url(), "", Policy::Queue(1024));
    let mut dropping = Publishing::start(&server.url(), "", Policy::Drop);
    keeping.push(2);
    keeping.wait("a full queue", |told| {
        told.confirmed == 2 && told.differing == [QUEUE]
    });
    dropping.push(4);
    let told = dropping.wait("refusals", |told| told.lost == 4);
    assert_eq!(told.undelivered[&Undeliverable::Refused], 4, "{told:?}");
    keeping.push(2);
    keeping.wait("refusals", |told| {
        told.undelivered.contains_key(&Undeliverable::Refused)
    });
    let mut all = Vec::new();
    wait_until("the rest to be sent", || {
        all.extend(consume(&server.url()));
        let told = keeping.told();
        (told.confirmed == 4 && told.backlog == 0)
            .then_some(())
            .ok_or(format!("{told:?}"))
    });
    all.extend(consume(&server.url()));
    assert_eq!(assert_complete(&all, 4), 0);
    assert_eq!((keeping.end().0.lost, dropping.end().0.confirmed), (0, 0));
}

#[test]
fn each_policy_keeps_what_it_says_while_a_broker_is_away() {
    let mut server = Server::start();
    server.stop();
    let url = server.url();
    let start = |policy| Publishing::start(&url, "", policy);
    let mut dropping = start(Policy::Drop);
    let mut retrying = start(Policy::Retry(3));
    let mut queueing = start(Policy::Queue(3));
    for publishing in [&mut dropping, &mut retrying, &mut queueing] {
        publishing.push(5);
    }
    let told = dropping.wait("all to be lost", |told| told.lost == 5);
    assert_eq!(told.undelivered, BTreeMap::from([(Undeliverable::Late, 5)]));
    let told = queueing.wait("the oldest to make room", |told| told.lost == 2);
    assert_eq!(told.backlog, 3);
    let waited = retrying.wait("rounds that wait", |told| {
        told.backlog == 5 || told.lost == 5
    });
    let told = retrying.wait("three attempts more", |told| told.lost == 5);
    assert_eq!((told.backlog, waited.lost), (0, 0));
    assert!(
        told.disconnected.len() >= waited.disconnected.len() + 2,
        "{waited:?} {told:?}"
    );
    server.start_again();
    queueing.wait("the rest to be sent", |told| told.confirmed == 3);
    let all = consume(&url);
    assert_eq!(
        (seqs(&all, false), seqs(&all, true)),
        (vec![3, 4, 5], vec![])
    );
    for publishing in [dropping, retrying, queueing] {
        publishing.end();
    }
}

#[test]
fn whoever_is_told_to_end_sends_what_waits_and_waits_for_nobody_for_long() {
    let mut server = Server::start();
    let mut publishing = Publishing::start(&server.url(), DURABLE, Policy::Queue(1024));
    publishing.push(1);
    publishing.wait("a connection", |told| told.confirmed == 1);
    let last = publishing.push(499);
    let (told, _) = publishing.end();
    assert_eq!((told.confirmed, told.lost), (500, 0), "{told:?}");
    assert_eq!(assert_complete(&consume(&server.url()), last), 0);
    // One that hangs.
    let mut publishing = Publishing::start(&server.url(), DURABLE, Policy::Queue(1024));
    publishing.push(1);
    publishing.wait("a connection", |told| told.confirmed == 1);
    server.signal(Signal::SIGSTOP);
    publishing.push(7);
    let (told, took) = publishing.end();
    server.signal(Signal::SIGCONT);
    assert_eq!((told.confirmed, told.lost), (1, 7), "{told:?}");
    assert!(took < DRAIN_LIMIT + Duration::from_secs(1), "{took:?}");
    // One that is away.
    server.stop();
    let mut publishing = Publishing::start(&server.url(), DURABLE, Policy::Queue(1024));
    publishing.wait("to be noticed", |told| !told.disconnected.is_empty());
    publishing.push(3);
    let (told, took) = publishing.end();
    assert_eq!(told.lost, 3, "{told:?}");
    assert!(took < DRAIN_LIMIT, "{took:?}");
}

// --- in the agent

/// An agent that publishes over UDP and to the broker.
fn agent_files(site: &Site, server: &Server, publishers: &[&str]) -> std::path::PathBuf {
    let config = site.agent_config();
    let mut text = fs::read_to_string(&config).unwrap();
    write!(text, "[DEFAULT]\ntransport_url = {}\n", server.url()).unwrap();
    fs::write(&config, text).unwrap();
    write_pipeline(site, publishers);
    config
}

fn write_pipeline(site: &Site, publishers: &[&str]) {
    let publishers: Vec<String> = publishers.iter().map(|url| format!("'{url}'")).collect();
    let text = format!(
        "sources:\n    - {{name: ha_source, interval: 0.5, meters: [storage_connectivity, compute.heartbeat], sinks: [ha_sink]}}\nsinks:\n    - {{name: ha_sink, publishers: [{}]}}\n",
        publishers.join(", ")
    );
    fs::write(site.path("pipeline_ha.yaml"), text).unwrap();
}

fn start_agent(site: &Site, config: &std::path::Path) -> support::process::Process {
    let mut command = std::process::Command::new(support::program("ceilometer-polling-ha"));
    let agent = support::process::Process::start(
        command.arg("--config-file").arg(config),
        &site.path("agent.log"),
    );
    site.wait_for_health(Daemon::Agent);
    agent
}

fn heartbeats(site: &Site) -> u64 {
    site.number("SELECT count(*) FROM sample s JOIN meter m ON m.id = s.meter_id WHERE m.name = 'compute.heartbeat'")
}

#[test]
fn a_broker_that_hangs_delays_no_round_no_udp_and_no_end_and_is_told() {
    let (site, server) = (Site::new(), Server::start());
    let _collector = site.collector();
    let config = agent_files(&site, &server, &[&site.url(), "notifier://?policy=queue"]);
    let agent = start_agent(&site, &config);
    wait_until("both ways", || match server.queue_length(QUEUE) {
        Some(1..) if heartbeats(&site) > 0 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    server.signal(Signal::SIGSTOP);
    let (before, since) = (heartbeats(&site), clock::now());
    site.wait_for_unready(Daemon::Agent, "has no connection to the message broker");
    let rounds = u64::try_from(since.elapsed().as_millis() / 500).unwrap();
    wait_until("UDP to go on", || {
        let came = heartbeats(&site) - before;
        (came + 2 >= rounds)
            .then_some(())
            .ok_or(format!("{came} of {rounds}"))
    });
    for pollster in ["storage_connectivity", "heartbeat"] {
        let series = format!("rounds_missed_total{{pollster=\"{pollster}\",source=\"ha_source\"}}");
        assert_eq!(site.metric(Daemon::Agent, &series), 0);
    }
    let of_path =
        |name: &str| site.metric(Daemon::Agent, &format!("{name}{{publisher=\"{PATH}\"}}"));
    assert_eq!(of_path("publisher_connected"), 0);
    assert!(of_path("publisher_backlog_rounds") > 0);
    let told = agent
        .log()
        .matches("the connection to the message broker ended")
        .count();
    assert_eq!(told, 1, "{}", agent.log());
    let begin = since.elapsed();
    assert!(agent.terminate().success());
    let took = since.elapsed() - begin;
    assert!(took < Duration::from_secs(8), "{took:?}");
    server.signal(Signal::SIGCONT);
}

#[test]
fn a_notifier_comes_goes_and_changes_its_policy_with_a_reload() {
    let (site, mut server) = (Site::new(), Server::start());
    let _collector = site.collector();
    let config = agent_files(&site, &server, &[&site.url()]);
    let agent = start_agent(&site, &config);
    let published = || {
        let series = format!("readings_published_total{{publisher=\"{PATH}\",result=\"sent\"}}");
        site.metric(Daemon::Agent, &series)
    };
    assert_eq!(published(), 0);
    let reload = |publishers: &[&str], line: &str| {
        write_pipeline(&site, publishers);
        agent.signal(Signal::SIGHUP);
        wait_until(line, || {
            let log = agent.log();
            log.contains(line).then_some(()).ok_or(log)
        });
    };
    reload(
        &[&site.url(), "notifier://?policy=queue"],
        "publisher notifier://?topic=metering_ha&policy=queue of sink ha_sink is new",
    );
    let more = |than: u64| {
        wait_until("more readings", || match published() {
            now if now > than => Ok(now),
            now => Err(format!("{now}")),
        })
    };
    let sent = more(0);
    let scrape = site.scrape(Daemon::Agent);
    let of_path = |line: &&str| line.contains(PATH) && !line.contains("spool");
    let series = scrape.lines().filter(of_path).count();
    assert_eq!(series, 15, "docs/metrics.md has it");
    reload(
        &[&site.url(), "notifier://?policy=drop"],
        "publisher notifier://?topic=metering_ha&policy=drop of sink ha_sink is new",
    );
    more(sent + 4);
    let sequence: Vec<u64> = consume(&server.url())
        .iter()
        .flat_map(|got| got.seqs.clone())
        .collect();
    let all: BTreeSet<u64> = sequence.iter().copied().collect();
    assert_eq!(all.len(), sequence.len(), "nothing twice");
    // Each of the two pollsters changes between two of its own rounds: so much may be one's alone.
    let (first, last) = (all.first().unwrap() + 4, all.last().unwrap() - 4);
    let missing: Vec<u64> = (first..=last).filter(|seq| !all.contains(seq)).collect();
    assert!(missing.is_empty(), "{missing:?} are missing in {all:?}");
    server.stop_app();
    let failed = format!("readings_published_total{{publisher=\"{PATH}\",result=\"failed\"}}");
    wait_until("the new policy to keep nothing", || {
        match site.metric(Daemon::Agent, &failed) {
            0 => Err("nothing is lost yet".to_owned()),
            _ => Ok(()),
        }
    });
    server.start_app();
    assert!(!agent.log().contains("publisher ended"), "the path goes on");
    write_pipeline(&site, &[&site.url()]);
    agent.signal(Signal::SIGHUP);
    wait_until("its end", || {
        let text = site.scrape(Daemon::Agent);
        (!text.contains("notifier://")).then_some(()).ok_or(text)
    });
    wait_until("its connection to end", || match server.connections() {
        0 => Ok(()),
        other => Err(format!("{other}")),
    });
    assert!(agent.terminate().success());
}
