//! A collector that consumes from a message broker: what it stores and acknowledges, what it puts aside, and
//! what becomes of both when broker, database or collector fail.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

// Of its scripts only one is run here.
#[allow(dead_code)]
#[path = "ceilometer/mod.rs"]
mod ceilometer;
mod support;

use std::collections::BTreeSet;

use ceilometer_ha::model::Reading;
use lapin::options::QueueDeclareOptions;
use nix::sys::signal::Signal;
use support::broker::{Client, TOPIC, body, body_with};
use support::process::Process;
use support::rabbitmq::{Server, USER, VHOST};
use support::site::{Daemon, Lock, SECRET, Site, reading, signed};
use support::{wait_for, wait_until};

/// A site whose collector consumes from this broker.
fn collector(site: &Site, server: &Server, lines: &str) -> Process {
    let url = server.url();
    site.collector_with(&format!("{lines}\n[DEFAULT]\ntransport_url = {url}"))
}

fn of_topic(site: &Site, name: &str) -> u64 {
    site.metric(Daemon::Collector, &format!("{name}{{topic=\"{TOPIC}\"}}"))
}

fn wait_until_consuming(site: &Site) {
    wait_for("the topic to be consumed", || {
        (of_topic(site, "broker_connected") == 1).then_some(())
    });
}

fn wait_until_not_consuming(site: &Site) {
    wait_for("the topic not to be consumed", || {
        (of_topic(site, "broker_connected") == 0).then_some(())
    });
}

fn history() -> String {
    format!("{TOPIC}.sample")
}

fn quarantine() -> String {
    format!("{TOPIC}.quarantine")
}

fn samples(site: &Site) -> u64 {
    site.number("SELECT count(*) FROM sample")
}

fn wait_until_stored(site: &Site, count: u64) {
    wait_until("all to be stored", || match samples(site) {
        stored if stored == count => Ok(()),
        stored => Err(format!("{stored} of {count} samples")),
    });
}

fn wait_until_acknowledged(server: &Server) {
    wait_until("all to be acknowledged", || {
        match server.queue_length(&history()) {
            Some(0) => Ok(()),
            length => Err(format!("{length:?} in the queue")),
        }
    });
}

/// Readings with numbers from 1, in bodies of so many.
fn bodies(observer: &str, count: u64, size: usize) -> Vec<Vec<u8>> {
    let readings: Vec<Reading> = (1..=count).map(|seq| reading(observer, seq)).collect();
    readings.chunks(size).map(body).collect()
}

/// Bodies of old Ceilometer that the site's collector can verify, with the names of those in which a message
/// is refused all the same.
fn goldens() -> (Vec<Vec<u8>>, BTreeSet<String>) {
    let (mut all, mut bad) = (Vec::new(), BTreeSet::new());
    for line in include_str!("fixtures/amqp.jsonl").lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = case["name"].as_str().unwrap();
        let is_ours = case["secret"] == SECRET;
        if !is_ours || matches!(name, "timestamp_empty" | "timestamp_bad") {
            bad.insert(name.to_owned());
        }
        all.push(case["body"].as_str().unwrap().as_bytes().to_vec());
    }
    (all, bad)
}

#[test]
fn what_real_senders_published_is_stored_and_what_is_bad_is_put_aside() {
    let (server, site) = (Server::start(), Site::new());
    let client = Client::of(&server);
    let _collector = collector(&site, &server, "");
    wait_until_consuming(&site);
    let (golden, bad) = goldens();
    client.publish(&golden);
    wait_until_acknowledged(&server);
    let bad_count = u64::try_from(bad.len()).unwrap();
    // One body has three messages.
    let good = u64::try_from(golden.len()).unwrap() + 2 - bad_count;
    assert_eq!(
        site.metric(
            Daemon::Collector,
            "messages_total{transport=\"amqp\",verdict=\"accepted\"}"
        ),
        good
    );
    assert_eq!(
        samples(&site) + site.readings("refused"),
        good,
        "or no table holds them"
    );
    assert_eq!(server.queue_length(&quarantine()), Some(bad_count));
    site.assert_nothing_twice();
    // Ceilometer publishes everything twice where it has a topic for each meter as well.
    let stored = samples(&site);
    client.publish(&golden);
    wait_until_acknowledged(&server);
    assert_eq!(samples(&site), stored);

    client.publish(&bodies("ours", 40, 20));
    wait_until_acknowledged(&server);
    site.wait_for_samples("ours", 40);
    assert_eq!(of_topic(&site, "deliveries_unacknowledged"), 0);
    let host = "SELECT seq FROM ha_state WHERE observer = 'ours'";
    wait_for("the state", || (site.number(host) == 40).then_some(()));
}

/// Over both ways at once: today's Ceilometer is a sender like any other, of history.
#[test]
fn what_current_ceilometer_publishes_is_stored() {
    // oslo.messaging has no way to write a password with a slash.
    let server = Server::start_with(&[("default_pass", "plain-password")]);
    let url = format!(
        "rabbit://{USER}:plain-password@127.0.0.1:{}/{VHOST}",
        server.port()
    );
    let site = Site::new();
    let secret = ceilometer::secret();
    let _collector = site.collector_with(&format!(
        "[DEFAULT]\ntransport_url = {url}\n[publisher]\ntelemetry_secret = {}",
        secret.expose()
    ));
    wait_until_consuming(&site);
    let by_broker = ceilometer::run_script("broker.py", &["send", &url, TOPIC], "").unwrap();
    let by_udp = ceilometer::run_script("broker.py", &["send-udp", &site.url()], "").unwrap();
    wait_until_stored(&site, 6);
    for id in [by_broker, by_udp]
        .iter()
        .flat_map(|ids| ids.as_array().unwrap())
    {
        let one = format!(
            "SELECT count(*) FROM sample WHERE message_id = '{}'",
            id.as_str().unwrap()
        );
        assert_eq!(site.number(&one), 1, "{id}");
    }
    wait_until_acknowledged(&server);
    assert_eq!(site.number("SELECT count(*) FROM ha_state"), 0);
}

#[test]
fn nothing_is_acknowledged_before_it_is_stored_nor_more_taken_than_agreed() {
    let (server, site) = (Server::start(), Site::new());
    let client = Client::of(&server);
    let _collector = collector(&site, &server, "prefetch = 5");
    wait_until_consuming(&site);
    let lock = Lock::hold(&site.database());
    client.publish(&bodies("node-1", 60, 3));
    wait_for("a try to store them to fail", || {
        (site.metric(Daemon::Collector, "store_errors_total") > 0).then_some(())
    });
    assert_eq!(
        server.queue_length(&history()),
        Some(20),
        "unacknowledged ones with them"
    );
    assert_eq!(of_topic(&site, "deliveries_total"), 5);
    assert_eq!(of_topic(&site, "deliveries_unacknowledged"), 5);
    assert_eq!(of_topic(&site, "deliveries_acknowledged_total"), 0);
    // What comes by UDP isn't held up by it.
    site.send(&signed(&reading("node-2", 1)));
    wait_for("the datagram to be taken", || {
        (site.messages("accepted") == 1).then_some(())
    });
    lock.release();
    wait_until_acknowledged(&server);
    wait_until_stored(&site, 61);
    site.assert_nothing_twice();
    assert_eq!(of_topic(&site, "deliveries_redelivered_total"), 0);
}

#[test]
fn a_bad_body_goes_into_quarantine_once_and_what_is_good_in_it_is_stored() {
    let (server, site) = (Server::start(), Site::new());
    let client = Client::of(&server);
    let running = collector(&site, &server, "");
    wait_until_consuming(&site);
    let forged = body_with(&[reading("node-2", 1)], "another secret");
    let text = |body: Vec<u8>| String::from_utf8(body).unwrap();
    let good = text(body(&[reading("node-1", 1), reading("node-1", 2)]));
    let mixed = good.replacen("node-1-2", "node-1-x", 1);
    let cases = [
        (b"\x00".to_vec(), "not_json"),
        (b"{}".to_vec(), "not_an_envelope"),
        (forged, "bad_signature"),
        (mixed.into_bytes(), "bad_signature"),
    ];
    for (body, reason) in &cases {
        client.publish(std::slice::from_ref(body));
        let put = wait_for("the body in quarantine", || client.take(&quarantine()));
        assert_eq!(put.body, *body, "{reason}");
        assert_eq!(put.header("ha_reason").as_deref(), Some(*reason));
        assert_eq!(put.header("ha_topic").as_deref(), Some(TOPIC));
    }
    wait_until_acknowledged(&server);
    wait_until_stored(&site, 1);
    let series = |reason: &str| {
        let labels = format!("{{reason=\"{reason}\",topic=\"{TOPIC}\"}}");
        site.metric(
            Daemon::Collector,
            &format!("deliveries_quarantined_total{labels}"),
        )
    };
    assert_eq!(series("bad_signature"), 2);
    assert_eq!(series("not_json"), 1);
    // Nothing of it comes again, to this collector or to the next one.
    assert!(running.terminate().success());
    let _again = collector(&site, &server, "");
    wait_until_consuming(&site);
    client.publish(&bodies("node-3", 1, 1));
    site.wait_for_samples("node-3", 1);
    assert_eq!(of_topic(&site, "deliveries_total"), 1);
    assert!(client.take(&quarantine()).is_none());
}

#[test]
fn a_collector_that_is_killed_loses_nothing_and_stores_nothing_twice() {
    const COUNT: u64 = 3000;
    let (server, site) = (Server::start(), Site::new());
    let client = Client::of(&server);
    let running = collector(&site, &server, "batch_size = 40");
    wait_until_consuming(&site);
    client.publish(&bodies("node-1", COUNT, 10));
    wait_for("some to be stored", || (samples(&site) > 100).then_some(()));
    running.kill();
    let stored = samples(&site);
    assert!(stored < COUNT, "it was killed too late to show anything");
    wait_for("the broker to take back what was not acknowledged", || {
        let left = server.queue_length(&history())?;
        (left * 10 + stored >= COUNT).then_some(())
    });
    let _again = collector(&site, &server, "");
    wait_until_acknowledged(&server);
    wait_until_stored(&site, COUNT);
    site.assert_nothing_twice();
    site.assert_intact();
}

#[test]
fn two_collectors_share_the_work_and_store_everything_once() {
    const COUNT: u64 = 2000;
    let server = Server::start();
    let (site, other) = (Site::new(), Site::new());
    let client = Client::of(&server);
    let _one = collector(&site, &server, "prefetch = 4");
    let database = site.database();
    let same = format!(
        "prefetch = 4\n[database]\nconnection = sqlite:///{}",
        database.display()
    );
    let _two = collector(&other, &server, &same);
    wait_until_consuming(&site);
    wait_until_consuming(&other);
    client.publish(&bodies("node-1", COUNT, 5));
    wait_until_acknowledged(&server);
    wait_until_stored(&site, COUNT);
    site.assert_nothing_twice();
    let [one, two] = [&site, &other].map(|site| of_topic(site, "deliveries_acknowledged_total"));
    assert_eq!(one + two, COUNT / 5);
    assert!(one > 0 && two > 0, "{one} and {two}");
}

#[test]
fn at_its_end_it_acknowledges_what_it_stored_and_gives_the_rest_back() {
    const COUNT: u64 = 4000;
    let (server, site) = (Server::start(), Site::new());
    let client = Client::of(&server);
    let running = collector(&site, &server, "batch_size = 40");
    wait_until_consuming(&site);
    client.publish(&bodies("node-1", COUNT, 10));
    wait_for("some to be stored", || (samples(&site) > 100).then_some(()));
    assert!(running.terminate().success());
    let left = server.queue_length(&history()).unwrap();
    assert!(left > 0, "it was ended too late to show anything");
    assert_eq!(
        samples(&site) + left * 10,
        COUNT,
        "stored and acknowledged, or neither"
    );
    wait_for("the connection to be closed", || {
        (server.connections() == 1).then_some(())
    });

    // The same with a database that takes nothing: then all of it is given back.
    let running = collector(&site, &server, "");
    wait_until_acknowledged(&server);
    wait_until_stored(&site, COUNT);
    let lock = Lock::hold(&site.database());
    client.publish(&bodies("node-2", 50, 10));
    wait_for("them to be taken", || {
        (of_topic(&site, "deliveries_unacknowledged") == 5).then_some(())
    });
    assert!(running.terminate().success());
    assert_eq!(server.queue_length(&history()), Some(5));
    lock.release();
    let _again = collector(&site, &server, "");
    wait_until_acknowledged(&server);
    wait_until_stored(&site, COUNT + 50);
    site.assert_nothing_twice();
}

/// Whether `/readyz` says this about the topic.
fn is_unready(site: &Site, words: &str) -> bool {
    let (code, text) = site.get(Daemon::Collector, "/readyz").expect("an answer");
    code == 503 && text.contains(&format!("topic {TOPIC} is not consumed")) && text.contains(words)
}

/// Stores a reading that comes by UDP, as if there was no broker.
fn store_by_udp(site: &Site, seq: u64) {
    site.store_one(&reading("node-udp", seq));
}

#[test]
fn a_broker_that_is_away_or_goes_away_keeps_nothing_else_from_its_work() {
    let (mut server, site) = (Server::start(), Site::new());
    server.stop();
    let running = collector(&site, &server, "");
    store_by_udp(&site, 1);
    let name = format!("connecting to the broker 127.0.0.1:{}", server.port());
    wait_for("the broker to be missed", || {
        is_unready(&site, &name).then_some(())
    });
    let told = "nothing is consumed";
    assert_eq!(running.log().matches(told).count(), 1, "it is told once");

    let mut udp = 1;
    let mut published = 0;
    let mut comes_back = |server: &Server| {
        wait_until_consuming(&site);
        let client = Client::of(server);
        published += 1;
        client.publish(&[body(&[reading("node-amqp", published)])]);
        site.wait_for_samples("node-amqp", published);
        udp += 1;
        store_by_udp(&site, udp);
    };
    server.start_again();
    comes_back(&server);
    server.kill();
    wait_until_not_consuming(&site);
    server.start_again();
    comes_back(&server);
    server.stop_app();
    wait_until_not_consuming(&site);
    server.start_app();
    comes_back(&server);
    server.close_connections();
    comes_back(&server);
    assert!(
        running.log().matches(told).count() <= 4,
        "{}",
        running.log()
    );
    assert!(running.terminate().success());
}

#[test]
fn a_broker_that_hangs_is_noticed_and_holds_up_neither_udp_nor_the_end() {
    let (server, site) = (Server::start(), Site::new());
    let running = collector(&site, &server, "");
    wait_until_consuming(&site);
    server.signal(Signal::SIGSTOP);
    store_by_udp(&site, 1);
    wait_until_not_consuming(&site);
    store_by_udp(&site, 2);
    server.signal(Signal::SIGCONT);
    wait_until_consuming(&site);
    server.signal(Signal::SIGSTOP);
    assert!(running.terminate().success());
    server.signal(Signal::SIGCONT);
}

#[test]
fn a_queue_that_was_deleted_is_declared_again() {
    let (server, site) = (Server::start(), Site::new());
    let client = Client::of(&server);
    let running = collector(&site, &server, "");
    wait_until_consuming(&site);
    for (seq, queue) in (1..).zip([history(), format!("{TOPIC}.live")]) {
        assert!(server.delete_queue(&queue));
        wait_for("the end to be told", || {
            running
                .log()
                .contains(&format!("cancelled consuming from queue {queue}"))
                .then_some(())
        });
        wait_until_consuming(&site);
        client.publish(&[body(&[reading("node-1", seq)])]);
        site.wait_for_samples("node-1", seq);
    }
}

#[test]
fn a_queue_that_somebody_declared_otherwise_is_used_as_it_is() {
    let (server, site) = (Server::start(), Site::new());
    let client = Client::of(&server);
    client.declare(QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    });
    client.publish(&bodies("node-1", 10, 2));
    let running = collector(&site, &server, "");
    wait_until_stored(&site, 10);
    wait_until_acknowledged(&server);
    server.close_connections();
    let client = wait_for("the broker", || Some(Client::of(&server)));
    wait_until_consuming(&site);
    client.publish(&[body(&[reading("node-1", 11)])]);
    wait_until_stored(&site, 11);
    let told = running.log().matches("other properties").count();
    assert_eq!(told, 1, "{}", running.log());
}

#[test]
fn a_backlog_does_not_stand_before_the_present() {
    const BACKLOG: u64 = 12_000;
    let (server, site) = (Server::start(), Site::new());
    let client = Client::of(&server);
    let _collector = collector(&site, &server, "");
    wait_until_consuming(&site);
    let lock = Lock::hold(&site.database());
    client.publish(&bodies("node-old", BACKLOG, 50));
    client.publish(&[body(&[reading("node-now", 1)])]);
    lock.release();
    let state = "SELECT count(*) FROM ha_state WHERE observer = 'node-now'";
    wait_for("the present", || (site.number(state) == 1).then_some(()));
    assert!(samples(&site) < BACKLOG, "the backlog was done before");
    assert_eq!(
        site.samples_of("node-now"),
        0,
        "its history is behind the backlog"
    );
    wait_until_acknowledged(&server);
    wait_until_stored(&site, BACKLOG + 1);
    site.assert_nothing_twice();
}
