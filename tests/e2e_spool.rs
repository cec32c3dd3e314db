//! The agent's spool, with a real broker that is away, an agent that is killed, and disks that are full,
//! frozen or read-only.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ceilometer_ha::clock;
use ceilometer_ha::publisher::spool::disk::{DiskFolder, folder_of};
use ceilometer_ha::publisher::spool::store::{Limits, Store};
use lapin::options::BasicGetOptions;
use serde_json::Value as Json;
use support::disk::Disk;
use support::process::Process;
use support::rabbitmq::Server;
use support::site::{Daemon, Site};
use support::{run, wait_until};

const QUEUE: &str = "metering_ha.sample";
const PATH: &str = "notifier://?topic=metering_ha";

/// Epoch and number of a reading.
type Name = (u64, u64);

/// A message of the queue.
struct Got {
    is_live: bool,
    names: Vec<Name>,
}

/// An agent whose readings go over UDP and to the broker, kept in a spool of so many MiB.
fn configure(site: &Site, server: &Server) -> PathBuf {
    let config = site.agent_config();
    let mut text = fs::read_to_string(&config).unwrap();
    write!(text, "[DEFAULT]\ntransport_url = {}\n", server.url()).unwrap();
    text.push_str("[oslo_messaging_rabbit]\namqp_durable_queues = true\n");
    fs::write(&config, text).unwrap();
    let publishers = format!("['{}', 'notifier://?policy=queue']", site.url());
    fs::write(
        site.path("pipeline_ha.yaml"),
        format!(
            "sources:\n    - {{name: ha_source, interval: 0.5, meters: [storage_connectivity, compute.heartbeat], sinks: [ha_sink]}}\nsinks:\n    - {{name: ha_sink, publishers: {publishers}}}\n"
        ),
    )
    .unwrap();
    config
}

fn start(site: &Site, config: &Path) -> Process {
    let mut command = Command::new(support::program("ceilometer-polling-ha"));
    let agent = Process::start(
        command.arg("--config-file").arg(config),
        &site.path("agent.log"),
    );
    site.wait_for_health(Daemon::Agent);
    agent
}

fn of_path(site: &Site, name: &str) -> u64 {
    site.metric(Daemon::Agent, &format!("{name}{{publisher=\"{PATH}\"}}"))
}

fn lost(site: &Site, reason: &str) -> u64 {
    let series =
        format!("publisher_spool_lost_readings_total{{publisher=\"{PATH}\",reason=\"{reason}\"}}");
    site.metric(Daemon::Agent, &series)
}

/// Waits until the agent's metric is so.
fn wait_for_metric(site: &Site, name: &str, is: impl Fn(u64) -> bool) -> u64 {
    wait_until(name, || match of_path(site, name) {
        value if is(value) => Ok(value),
        value => Err(format!("{value}")),
    })
}

/// What is in the spool of an agent that is dead, read from a copy of it.
fn spooled(site: &Site) -> Vec<Name> {
    let folder = folder_of(&site.path("agent"), PATH);
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let folder = DiskFolder::open(copy.path()).unwrap();
    let mut store = Store::open(folder, Limits::of_bytes(64 << 20)).unwrap();
    let mut names = Vec::new();
    while store.has_unread() {
        for stored in store.read(10, clock::utc()).unwrap() {
            let identities = stored.readings.iter().map(|reading| &reading.identity);
            names.extend(identities.map(|identity| (identity.epoch, identity.seq)));
        }
    }
    assert_eq!(store.losses().damaged, 0);
    names
}

/// Takes all that is in the queue.
fn consume(url: &str) -> Vec<Got> {
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
        let options = BasicGetOptions { no_ack: true };
        let mut all = Vec::new();
        while let Some(message) = channel.basic_get(QUEUE.into(), options).await.unwrap() {
            let outer: Json = serde_json::from_slice(&message.delivery.data).unwrap();
            let body: Json = serde_json::from_str(outer["oslo.message"].as_str().unwrap()).unwrap();
            let payload = body["payload"].as_array().unwrap().iter();
            let name = |it: &Json| {
                (
                    it["ha_epoch"].as_u64().unwrap(),
                    it["ha_seq"].as_u64().unwrap(),
                )
            };
            all.push(Got {
                is_live: message.delivery.exchange.as_str() == "ceilometer",
                names: payload.map(name).collect(),
            });
        }
        connection.close(200, "bye".into()).await.unwrap();
        all
    })
}

fn heartbeats(site: &Site) -> u64 {
    site.number("SELECT count(*) FROM sample s JOIN meter m ON m.id = s.meter_id WHERE m.name = 'compute.heartbeat'")
}

/// So many heartbeats more come over UDP.
fn wait_for_udp(site: &Site) {
    let before = heartbeats(site);
    wait_until("readings over UDP", || match heartbeats(site) - before {
        4.. => Ok(()),
        came => Err(format!("{came}")),
    });
}

fn wait_for_live(server: &Server) {
    wait_until("live readings in the queue", || {
        let live = consume(&server.url())
            .iter()
            .filter(|got| got.is_live)
            .count();
        if live > 0 { Ok(()) } else { Err(String::new()) }
    });
}

#[test]
fn what_was_accepted_arrives_once_however_often_the_agent_is_killed_and_after_what_is_live() {
    let (site, mut server) = (Site::new(), Server::start());
    let _collector = site.collector();
    let config = configure(&site, &server);
    server.stop();
    let mut accepted: Vec<Name> = Vec::new();
    for life in 0..3 {
        let agent = start(&site, &config);
        // Some moment or other between two writes, or in one.
        let enough = 3 + RandomState::new().hash_one(life) % 9;
        let written = wait_for_metric(&site, "publisher_spool_written_readings_total", |written| {
            written >= enough
        });
        agent.kill();
        let before = accepted.len();
        accepted = spooled(&site);
        let more = accepted.len() - before;
        assert!(more as u64 >= written, "{written} written, {more} there");
    }
    assert!(accepted.is_sorted(), "{accepted:?}");
    // Nothing is missing within a life: what isn't there yet was made in its last seconds.
    for two in accepted.windows(2).filter(|two| two[0].0 == two[1].0) {
        assert_eq!(two[0].1 + 1, two[1].1);
    }
    server.start_again();
    let agent = start(&site, &config);
    let mut all = Vec::new();
    wait_until("the spool to be empty", || {
        all.extend(consume(&server.url()));
        match of_path(&site, "publisher_spool_readings") {
            0 if of_path(&site, "publisher_connected") == 1 && !all.is_empty() => Ok(()),
            left => Err(format!("{left} left")),
        }
    });
    assert!(agent.terminate().success());
    all.extend(consume(&server.url()));
    let names: Vec<Name> = all.iter().flat_map(|got| got.names.clone()).collect();
    let once: BTreeSet<Name> = names.iter().copied().collect();
    assert_eq!(once.len(), names.len(), "something came twice");
    let late: Vec<Name> = all
        .iter()
        .filter(|got| !got.is_live)
        .flat_map(|got| got.names.clone())
        .collect();
    assert_eq!(
        late[..accepted.len()],
        accepted,
        "in order, and nothing else before them"
    );
    assert!(spooled(&site).is_empty());
}

#[test]
fn what_waits_outlives_an_end_in_good_order_which_waits_for_no_broker() {
    let (site, mut server) = (Site::new(), Server::start());
    let config = configure(&site, &server);
    server.stop();
    let agent = start(&site, &config);
    wait_for_metric(&site, "publisher_spool_readings", |readings| readings > 3);
    let since = clock::now();
    assert!(agent.terminate().success());
    let took = since.elapsed();
    // Well below what a publisher leaves itself for sending.
    assert!(took.as_secs_f64() < 3.0, "{took:?}");
    let accepted = spooled(&site);
    let last = accepted.last().unwrap().1;
    let all: Vec<u64> = accepted.iter().map(|(_, seq)| *seq).collect();
    assert_eq!(all, (1..=last).collect::<Vec<_>>(), "also the last seconds");
}

#[test]
fn a_disk_that_is_frozen_or_full_delays_nothing_live_and_is_used_again() {
    let (site, mut server) = (Site::new(), Server::start());
    let mut disk = Disk::of(16 << 20, &site.path("agent"));
    let _collector = site.collector();
    let config = configure(&site, &server);
    let agent = start(&site, &config);
    wait_for_live(&server);
    disk.freeze();
    wait_for_live(&server);
    server.stop();
    wait_for_metric(&site, "publisher_backlog_rounds", |rounds| rounds > 3);
    wait_until("the hung disk to be told", || {
        let log = agent.log();
        let told = log.contains("the spool can't be used") && log.contains("hasn't answered");
        told.then_some(()).ok_or(log)
    });
    assert_eq!(of_path(&site, "publisher_spool_usable"), 0);
    wait_for_udp(&site);
    let (code, _) = site.get(Daemon::Agent, "/healthz").unwrap();
    assert_eq!(code, 200, "a spool is nothing that an agent dies of");
    // The broker is back and the disk isn't: the present flows, and what waits in memory behind it.
    server.start_again();
    wait_for_live(&server);
    disk.thaw();
    wait_for_metric(&site, "publisher_spool_usable", |usable| usable == 1);
    wait_for_metric(&site, "publisher_spool_readings", |left| left == 0);

    // Full, by somebody else's file.
    let big = site.path("agent/big");
    let mut file = fs::File::create(&big).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    server.stop();
    wait_until("the full disk to be told", || {
        let log = agent.log();
        let told = log.matches("the spool can't be used").count() >= 2;
        told.then_some(()).ok_or(log)
    });
    wait_for_udp(&site);
    server.start_again();
    wait_for_live(&server);
    fs::remove_file(&big).unwrap();
    server.stop();
    wait_for_metric(&site, "publisher_spool_usable", |usable| usable == 1);
    wait_for_metric(&site, "publisher_spool_readings", |readings| readings > 0);
    assert_eq!(lost(&site, "disk"), 0);
    assert_eq!(agent.log().matches("the spool can't be used").count(), 2);
    assert_eq!(
        agent
            .log()
            .matches("the spool's disk is used again")
            .count(),
        2
    );
    assert!(agent.terminate().success());
}

#[test]
fn a_disk_that_is_read_only_from_the_start_delays_nothing_live_and_is_told() {
    let (site, server) = (Site::new(), Server::start());
    let disk = Disk::at(&site.path("agent"));
    let _collector = site.collector();
    let config = configure(&site, &server);
    let remount = |how: &str| {
        run(Command::new("mount")
            .args(["-o", &format!("remount,{how}")])
            .arg(site.path("agent")));
    };
    remount("ro");
    let agent = start(&site, &config);
    wait_for_udp(&site);
    wait_for_live(&server);
    assert_eq!(of_path(&site, "publisher_spool_usable"), 0);
    assert!(agent.log().contains("the spool can't be used"));
    remount("rw");
    wait_for_metric(&site, "publisher_spool_usable", |usable| usable == 1);
    assert!(agent.terminate().success());
    drop(disk);
}
