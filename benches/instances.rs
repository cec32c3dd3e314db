//! Sampling instances: the bulk state of all domains through our link (a thread, a deadline, safe
//! types) against the bare libvirt call in the same process, interleaved.
//!
//! Limit stated beside the figures: at most 1.2 × the bare call.

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

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use ceilometer_ha::pollsters::libvirt::link::Link;
use ceilometer_ha::pollsters::libvirt::sys::Connection;
use virt::connect::Connect;

const CALLS: usize = 2000;
const LIMIT: f64 = 1.2;

fn main() {
    println!("bulk state of all domains, median of {CALLS} interleaved calls");
    println!(
        "{:>24} {:>12} {:>12} {:>7}",
        "domains", "bare call", "ours", "ratio"
    );
    let folder = tempfile::tempdir().unwrap();
    for count in [20, 500] {
        let uri = test_domains(&folder.path().join(format!("{count}.xml")), count);
        compare(&format!("{count} of the test driver"), &uri);
    }
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
    std::fs::write(path, xml).unwrap();
    format!("test://{}", path.display())
}

fn compare(what: &str, uri: &str) {
    let mut link = Link::new(uri, Duration::from_secs(30), None);
    link.ask(Connection::ping).expect("libvirt answers");
    let bare = Connect::open_read_only(Some(uri)).expect("libvirt answers");
    let (mut bare_took, mut ours_took) = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        let start = Instant::now();
        black_box(bare_call(&bare));
        let between = Instant::now();
        black_box(link.ask(Connection::states).expect("libvirt answers"));
        ours_took.push(between.elapsed());
        bare_took.push(between - start);
    }
    let (bare, ours) = (median(bare_took), median(ours_took));
    println!(
        "{what:>24} {bare:>12.1?} {ours:>12.1?} {:>7.2}   limit {LIMIT}",
        ours.as_secs_f64() / bare.as_secs_f64()
    );
}

/// What a C program does: the call, and the release of what it gave.
fn bare_call(connect: &Connect) -> i32 {
    let mut records = std::ptr::null_mut();
    unsafe {
        let count = virt_sys::virConnectGetAllDomainStats(
            connect.as_ptr(),
            virt_sys::VIR_DOMAIN_STATS_STATE,
            &raw mut records,
            0,
        );
        assert!(count >= 0, "the bare call failed");
        virt_sys::virDomainStatsRecordListFree(records);
        count
    }
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() / 2]
}
