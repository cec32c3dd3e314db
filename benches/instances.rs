//! Sampling instances:
//!
//! - the bulk state of all domains through our link (a thread, a deadline, safe types) against the
//!   bare libvirt call in the same process, interleaved: at most 1.2 × that. Beside it the call with
//!   the UUID of each record, without which nobody knows whose state it is: libvirt takes a
//!   microsecond for each, because it writes every call's arguments down for a log that is off;
//! - an agent at rest, with two gateways every second and fifty domains every ten: memory against a
//!   bare client of libvirt and tokio (within 8 MB), CPU over a minute (at most 0.5 % of a core);
//! - from an event of a real guest to the row in the database.
//!
//! Twenty guests are real QEMUs under a private libvirtd. Needs root.

// A benchmark measures time and may stop at the first thing that is wrong; the bare call is C.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unsafe_code
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ceilometer_ha::pollsters::libvirt::link::Link;
use ceilometer_ha::pollsters::libvirt::sys::Connection;
use support::guest::Guest;
use support::hypervisor::Hypervisor;
use support::process::Process;
use support::site::{SECRET, Site};
use support::{query, wait_for, wall_clock};
use virt::connect::Connect;

const CALLS: usize = 2000;
const RATIO_LIMIT: f64 = 1.2;
const RUNNING: u32 = 20;
const DEFINED: u32 = 30;
const REST: Duration = Duration::from_secs(60);
/// Until what is allocated once is allocated.
const SETTLE: Duration = Duration::from_secs(15);
const EVENTS: usize = 50;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "--bare-client") {
        bare_client(&args[at + 1]);
    }
    let node = Hypervisor::new();
    for number in 0..RUNNING {
        node.run(&Guest::idle(&format!("guest-{number}")));
    }
    bulk(&node);
    events(&node);
    for number in 0..DEFINED {
        node.define(&Guest::idle(&format!("spare-{number}")));
    }
    rest(&node);
}

fn bulk(node: &Hypervisor) {
    println!("bulk state of all domains, median of {CALLS} interleaved calls");
    println!(
        "{:>24} {:>12} {:>12} {:>12} {:>7} {:>12}",
        "domains", "bare call", "with UUIDs", "ours", "ratio", "to the latter"
    );
    compare(&format!("{RUNNING} QEMU"), &node.read_only_uri());
    let folder = tempfile::tempdir().unwrap();
    let uri = test_domains(&folder.path().join("node.xml"), 500);
    compare("500 of the test driver", &uri);
}

/// A file for the test driver with so many domains, which it starts.
fn test_domains(path: &Path, count: u32) -> String {
    let mut xml = "<node>\n".to_owned();
    for number in 0..count {
        writeln!(
            xml,
            "<domain type='test'><name>instance-{number:08x}</name>\
             <uuid>00000000-0000-4000-8000-{number:012x}</uuid>\
             <memory>65536</memory><vcpu>1</vcpu><os><type>hvm</type></os></domain>"
        )
        .unwrap();
    }
    xml.push_str("</node>\n");
    fs::write(path, xml).unwrap();
    format!("test://{}", path.display())
}

fn compare(what: &str, uri: &str) {
    let mut link = Link::new(uri, Duration::from_secs(30), None);
    link.ask(Connection::ping).expect("libvirt answers");
    let bare = Connect::open_read_only(Some(uri)).expect("libvirt answers");
    let mut took = [const { Vec::new() }; 3];
    for _ in 0..CALLS {
        for (which, took) in took.iter_mut().enumerate() {
            let start = Instant::now();
            match which {
                0 => drop(black_box(bare_call(&bare, false))),
                1 => drop(black_box(bare_call(&bare, true))),
                _ => drop(black_box(
                    link.ask(Connection::states).expect("libvirt answers"),
                )),
            }
            took.push(start.elapsed());
        }
    }
    let [bare, named, ours] = took.map(median);
    println!(
        "{what:>24} {bare:>12.1?} {named:>12.1?} {ours:>12.1?} {:>7.2} {:>12.2}   limit {RATIO_LIMIT}",
        ours.as_secs_f64() / bare.as_secs_f64(),
        ours.as_secs_f64() / named.as_secs_f64(),
    );
}

/// What a C program does: the call, whose record each is if that is asked for, and the release of
/// what it gave. Returns one byte of all UUIDs.
fn bare_call(connect: &Connect, named: bool) -> Vec<u8> {
    let mut records = std::ptr::null_mut();
    let mut seen = Vec::new();
    unsafe {
        let count = virt_sys::virConnectGetAllDomainStats(
            connect.as_ptr(),
            virt_sys::VIR_DOMAIN_STATS_STATE,
            &raw mut records,
            0,
        );
        for at in 0..usize::try_from(count).expect("the bare call failed") {
            let mut uuid = [0; 16];
            if named {
                virt_sys::virDomainGetUUID((**records.add(at)).dom, uuid.as_mut_ptr());
                seen.push(uuid[15]);
            }
        }
        virt_sys::virDomainStatsRecordListFree(records);
    }
    seen
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() / 2]
}

/// From just before `virsh` is started to the commit of the reading that the event brought; the
/// round that would find it otherwise comes once an hour.
fn events(node: &Hypervisor) {
    let site = Site::new();
    let _collector = site.collector();
    let sources = source(3600, "instance.*");
    let _agent = agent(&site, &node.read_only_uri(), &sources);
    let database = site.database();
    let newest = |event: &str, since: f64| {
        let sql = format!(
            "SELECT min(at) AS at FROM (SELECT (julianday(s.recorded_at) - 2440587.5) * 86400.0 AS at \
             FROM sample s JOIN resource r ON r.internal_id = s.resource_id \
             WHERE r.resource_metadata LIKE '%\"event\": \"{event}\"%') WHERE at > {since}"
        );
        query(&database, &sql).first()?["at"].as_f64()
    };
    wait_for("the first round", || {
        let sql = "SELECT volume FROM ha_state WHERE meter = 'instance.round'";
        query(&database, sql).pop()
    });
    let mut took: Vec<f64> = Vec::new();
    for _ in 0..EVENTS / 2 {
        for (verb, event) in [("suspend", "suspended"), ("resume", "resumed")] {
            let start = wall_clock();
            node.virsh(&[verb, "guest-0"]);
            let stored = wait_for("the event to be stored", || newest(event, start));
            took.push(stored - start);
        }
    }
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took[(took.len() * percent).div_ceil(100) - 1];
    println!(
        "\n{EVENTS} events of a guest -> stored, the start of virsh included: p50 {:.3} s, p99 {:.3} s, worst {:.3} s (limit 1 s)",
        at(50),
        at(99),
        at(100)
    );
}

fn rest(node: &Hypervisor) {
    println!("\nat rest for {REST:?}, {} domains", RUNNING + DEFINED);
    println!(
        "{:>34} {:>10} {:>10} {:>8}",
        "", "resident", "private", "CPU"
    );
    let uri = node.read_only_uri();
    let site = Site::new();
    let _collector = site.collector();
    let gateways = source(
        1,
        "storage_connectivity, storage_gateway.*, compute.heartbeat",
    );
    let alone = weigh("agent, gateways alone", || agent(&site, &uri, &gateways));
    let with_instances = format!(
        "{gateways}{}{}",
        source(1, "hypervisor.connectivity"),
        source(10, "instance, power.state, instance.state, instance.round")
    );
    let whole = weigh("agent, gateways and instances", || {
        agent(&site, &uri, &with_instances)
    });
    let bare = weigh("bare client, libvirt and tokio", || {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        Process::start(
            command.arg("--bare-client").arg(&uri),
            &site.path("bare.log"),
        )
    });
    println!(
        "agent - bare client: {:.1} MB resident, {:.1} MB private (limit 8 MB); instances cost {:.1} MB more",
        whole.resident - bare.resident,
        whole.private - bare.private,
        whole.resident - alone.resident
    );
    println!(
        "CPU of the agent: {:.2} % of a core (limit 0.5 %)",
        whole.cpu
    );
}

struct Weight {
    resident: f64,
    private: f64,
    cpu: f64,
}

/// Memory in MB and CPU in per cent of one core, of a process that settled.
fn weigh(what: &str, start: impl FnOnce() -> Process) -> Weight {
    let process = start();
    std::thread::sleep(SETTLE);
    let before = ticks(process.pid());
    std::thread::sleep(REST);
    let used = ticks(process.pid()) - before;
    let cpu = used as f64 / REST.as_secs_f64();
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid())).unwrap();
    let of = |name: &str| -> f64 {
        let line = rollup.lines().find(|line| line.starts_with(name)).unwrap();
        let kilobytes: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kilobytes / 1024.0
    };
    let weight = Weight {
        resident: of("Rss:"),
        private: of("Private_Clean:") + of("Private_Dirty:"),
        cpu,
    };
    println!(
        "{what:>34} {:>7.1} MB {:>7.1} MB {:>6.2} %",
        weight.resident, weight.private, weight.cpu
    );
    process.kill();
    weight
}

/// Hundredths of a second of CPU that a process has used.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn source(interval: u32, meters: &str) -> String {
    format!(
        "    - name: every_{interval}_{}\n      interval: {interval}\n      meters: [{meters}]\n      sinks: [ha_sink]\n",
        meters.len()
    )
}

/// The agent of this site with these sources and this libvirt.
fn agent(site: &Site, uri: &str, sources: &str) -> Process {
    let config = site.agent_config();
    let text = fs::read_to_string(&config).unwrap();
    let line = format!("[compute]\nlibvirt_uri = {uri}\n");
    fs::write(&config, text.replace("[compute]\n", &line)).unwrap();
    let pipeline = format!(
        "sources:\n{sources}sinks:\n    - name: ha_sink\n      publishers: ['{}']\n",
        site.url()
    );
    fs::write(site.path("pipeline_ha.yaml"), pipeline).unwrap();
    assert!(text.contains(SECRET), "the agent's file has the secret");
    let mut command = Command::new(support::program("ceilometer-polling-ha"));
    Process::start(
        command.arg("--config-file").arg(config),
        &site.path("agent.log"),
    )
}

/// The least that a client of libvirt on tokio is: a runtime, the event loop, a connection with
/// keepalive, and the bulk call every ten seconds. Never returns.
fn bare_client(uri: &str) -> ! {
    virt::error::clear_error_callback();
    virt::event::event_register_default_impl().unwrap();
    std::thread::spawn(|| while virt::event::event_run_default_impl().is_ok() {});
    let connect = Connect::open_read_only(Some(uri)).expect("libvirt answers");
    let _ = connect.set_keep_alive(1, 2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut ticks = tokio::time::interval(Duration::from_secs(10));
        loop {
            ticks.tick().await;
            black_box(bare_call(&connect, false));
        }
    })
}
