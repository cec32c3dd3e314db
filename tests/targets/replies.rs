//! What comes back on the sockets of a probe: packets of anybody, and the kernel's answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ceilometer_ha::pollsters::ping::icmp::{self, Family, SocketKind};
use ceilometer_ha::pollsters::ping::netlink;

const COOKIE: [u8; icmp::COOKIE_LEN] = [0xc0; icmp::COOKIE_LEN];
const IDENT: u16 = 0x1234;

/// Any bytes are a packet about a probe of ours or none, and never an answer without our cookie.
pub(super) fn replies(bytes: &[u8]) {
    let families = [
        (Family::V4, IpAddr::from(Ipv4Addr::LOCALHOST)),
        (Family::V6, IpAddr::from(Ipv6Addr::LOCALHOST)),
    ];
    for (family, from) in families {
        for kind in [SocketKind::Raw, SocketKind::Datagram] {
            let said = icmp::read(family, kind, IDENT, &COOKIE, from, bytes);
            if let Some(icmp::Said::Reply { .. }) = said {
                let mut windows = bytes.windows(COOKIE.len());
                assert!(windows.any(|window| window == COOKIE));
            }
        }
    }
    let _ = icmp::sequence_of_request(bytes);
    let _ = netlink::read(bytes);
}
