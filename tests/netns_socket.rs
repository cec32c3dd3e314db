//! The ICMP socket by itself, on the loopback: what it says about a reply must be the kernel's word.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::net::IpAddr;
use std::time::Duration;

use ceilometer_ha::clock;
use ceilometer_ha::pollsters::ping::icmp::Family;
use ceilometer_ha::pollsters::ping::round::Heard;
use ceilometer_ha::pollsters::ping::socket::{IcmpSocket, Timestamps};
use support::wait_until;

const LOOPBACK: u32 = 1;
/// Long enough to be told from a round trip on the loopback on a busy machine.
const LAZINESS: Duration = Duration::from_millis(300);

#[test]
fn a_reply_is_dated_by_its_arrival_and_not_by_when_it_is_read() {
    let _timestamps = Timestamps::keep().unwrap();
    for gateway in ["127.0.0.1", "::1"] {
        let gateway: IpAddr = gateway.parse().unwrap();
        // The kernel takes a moment to switch stamping on; from then on every reply is dated right.
        wait_until("a reply dated by its arrival", || {
            match read_lazily(gateway) {
                took if took < LAZINESS / 2 => Ok(()),
                took => Err(format!(
                    "{gateway}: {took:?} on the loopback, or dated when it was read"
                )),
            }
        });
        for _ in 0..3 {
            let took = read_lazily(gateway);
            assert!(
                took < LAZINESS / 2,
                "{gateway}: {took:?} once it was switched on"
            );
        }
    }
}

/// Probes with a socket of its own, is slow to look, and returns how long the reply took.
fn read_lazily(gateway: IpAddr) -> Duration {
    let mut socket = IcmpSocket::open(Family::of(gateway), clock::now()).unwrap();
    let sent = clock::now();
    socket.send(gateway, None, LOOPBACK, 7).unwrap();
    // On the loopback the reply is there when the send returns.
    while clock::now() < sent + LAZINESS {
        std::thread::yield_now();
    }
    let mut news = Vec::new();
    socket.drain(&mut news);
    let [
        (
            7,
            Heard::Reply {
                from,
                arrived,
                interface,
            },
        ),
    ] = news[..]
    else {
        panic!("heard {news:?}");
    };
    assert_eq!((from, interface), (gateway, Some(LOOPBACK)));
    arrived.saturating_duration_since(sent)
}
