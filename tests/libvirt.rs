//! The instances of libvirt's own test driver, which lives in the process that asks: many of them,
//! for many rounds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ceilometer_ha::clock;
use ceilometer_ha::config::{self, ConfigText, Purpose};
use ceilometer_ha::model::{Sample, Volume, meters};
use ceilometer_ha::pollsters::libvirt::hypervisor::Hypervisor;
use ceilometer_ha::pollsters::libvirt::instances::Instances;
use ceilometer_ha::pollsters::storage::SharedMemory;
use ceilometer_ha::pollsters::{Bell, Context, Pollster, Round};

/// A file for the test driver with so many domains, which it starts.
fn domains(path: &Path, count: u32) -> String {
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

fn context(uri: &str) -> Context {
    let file = ConfigText {
        path: "test.conf".into(),
        text: format!("[compute]\nlibvirt_uri = {uri}\nlibvirt_timeout = 30\n"),
    };
    let settings = config::load(Purpose::Agent, &[file], &[], "node-1", true).unwrap();
    Context {
        host: "node-1".into(),
        interval: Duration::from_secs(30),
        settings: settings.settings.into(),
        resources: Vec::new(),
        epoch: 1,
        memory: SharedMemory::default(),
        bell: Bell::new(|| {}),
        ending: Arc::default(),
    }
}

fn poll(pollster: &mut dyn Pollster) -> Vec<Sample> {
    pollster.poll(Round { due: clock::now() })
}

/// Memory of this process that is in use, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn five_hundred_domains_are_one_complete_round() {
    let folder = tempfile::tempdir().unwrap();
    let uri = domains(&folder.path().join("node.xml"), 500);
    let mut instances = Instances::new(&context(&uri));
    let samples = poll(&mut instances);
    let of = |meter| samples.iter().filter(move |sample| sample.meter == meter);
    assert_eq!(of(meters::INSTANCE_STATE).count(), 500);
    assert_eq!(of(meters::INSTANCE).count(), 500);
    assert_eq!(of(meters::POLLSTER_FAILED).count(), 0);
    let round = samples.last().unwrap();
    assert_eq!(round.meter, meters::INSTANCE_ROUND);
    assert_eq!(round.volume, Volume::Int(500));
    assert!(of(meters::INSTANCE_STATE).all(|sample| sample.volume == Volume::Int(1)));
    let mut hypervisor = Hypervisor::new(&context(&uri));
    let samples = poll(&mut hypervisor);
    assert_eq!(samples[0].meter, meters::HYPERVISOR_CONNECTIVITY);
    assert_eq!(samples[0].volume, Volume::Int(1));
}

#[test]
fn ten_thousand_rounds_leave_memory_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let uri = domains(&folder.path().join("node.xml"), 20);
    let mut instances = Instances::new(&context(&uri));
    let mut hypervisor = Hypervisor::new(&context(&uri));
    let mut rounds = |count: u32| {
        for _ in 0..count {
            assert_eq!(poll(&mut instances).last().unwrap().volume, Volume::Int(20));
            assert_eq!(poll(&mut hypervisor)[0].volume, Volume::Int(1));
        }
    };
    // What is allocated once is allocated by then.
    rounds(1000);
    let before = resident();
    rounds(10_000);
    let grown = resident().saturating_sub(before);
    // A leak of one record a domain and round would be over 60 MB.
    assert!(grown < 2 << 20, "{grown} bytes more than before");
}
