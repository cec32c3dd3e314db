//! Pure. The two questions asked of the kernel over rtnetlink(7), and the answers to them, as
//! bytes: "which route leads to this address" and "what is this interface".
//!
//! Layout: linux/netlink.h, linux/rtnetlink.h, linux/if_link.h. Numbers are in host byte order.

use std::net::IpAddr;

use super::path::Link;

/// Room for one answer; a description of an interface without its statistics has about 2 KiB.
pub const ANSWER_MAX: usize = 32 * 1024;

const HEADER_LEN: usize = 16;
const ROUTE_LEN: usize = 12;
const LINK_LEN: usize = 16;
/// `RTM_F_FIB_MATCH`: answer with the entry of the routing table that matched. Without it, a
/// lookup with an interface and no matching entry pretends that the address is on that link.
const FIB_MATCH: u32 = 0x2000;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;

/// A question, ready to be sent.
pub type Question = Vec<u8>;

/// What the kernel said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// There is a route, by the interface with this index.
    Route {
        /// The interface's index.
        interface: u32,
    },
    /// An interface.
    Link(Link),
    /// No, with this errno; 0 for an answer that says neither.
    No(i32),
}

/// Asks for the route to `target`, perhaps from `source`; with `interface`, for the entry of the
/// routing table that leads there by that interface.
pub fn ask_route(target: IpAddr, source: Option<IpAddr>, interface: Option<u32>) -> Question {
    let (family, bits) = match target {
        IpAddr::V4(_) => (libc::AF_INET, 32u8),
        IpAddr::V6(_) => (libc::AF_INET6, 128u8),
    };
    let flags = if interface.is_some() { FIB_MATCH } else { 0 };
    let source_bits = if source.is_some() { bits } else { 0 };
    let mut body = vec![
        u8::try_from(family).unwrap_or(0),
        bits,
        source_bits,
        0,
        0,
        0,
        0,
        0,
    ];
    body.extend(flags.to_ne_bytes());
    attribute(&mut body, libc::RTA_DST, &octets(target));
    if let Some(source) = source {
        attribute(&mut body, libc::RTA_SRC, &octets(source));
    }
    if let Some(interface) = interface {
        attribute(&mut body, libc::RTA_OIF, &interface.to_ne_bytes());
    }
    question(libc::RTM_GETROUTE, &body)
}

/// Asks for the interface with this index.
pub fn ask_link(index: u32) -> Question {
    let mut body = vec![0u8; LINK_LEN];
    for (to, from) in body.iter_mut().skip(4).zip(index.to_ne_bytes()) {
        *to = from;
    }
    attribute(
        &mut body,
        IFLA_EXT_MASK,
        &RTEXT_FILTER_SKIP_STATS.to_ne_bytes(),
    );
    question(libc::RTM_GETLINK, &body)
}

/// Asks for the interface with this name.
pub fn ask_link_named(name: &str) -> Question {
    let mut body = vec![0u8; LINK_LEN];
    let mut text = name.as_bytes().to_vec();
    text.push(0);
    attribute(&mut body, libc::IFLA_IFNAME, &text);
    attribute(
        &mut body,
        IFLA_EXT_MASK,
        &RTEXT_FILTER_SKIP_STATS.to_ne_bytes(),
    );
    question(libc::RTM_GETLINK, &body)
}

/// Reads the kernel's answer.
pub fn read(bytes: &[u8]) -> Answer {
    read_checked(bytes).unwrap_or(Answer::No(0))
}

fn read_checked(bytes: &[u8]) -> Option<Answer> {
    let kind = u16_at(bytes, 4)?;
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let body = bytes.get(HEADER_LEN..length.min(bytes.len()))?;
    match kind {
        libc::RTM_NEWROUTE => read_route(body),
        libc::RTM_NEWLINK => read_link(body),
        _ if i32::from(kind) == libc::NLMSG_ERROR => {
            let errno = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
            Some(Answer::No(errno.saturating_neg()))
        }
        _ => None,
    }
}

fn read_route(body: &[u8]) -> Option<Answer> {
    let kind = *body.get(7)?;
    if kind != libc::RTN_UNICAST && kind != libc::RTN_LOCAL {
        return Some(Answer::No(libc::ENETUNREACH));
    }
    let interface = attributes(body.get(ROUTE_LEN..)?)
        .find(|(kind, _)| *kind == libc::RTA_OIF)
        .and_then(|(_, value)| u32_at(value, 0))?;
    Some(Answer::Route { interface })
}

fn read_link(body: &[u8]) -> Option<Answer> {
    let index = u32_at(body, 4)?;
    let flags = u32_at(body, 8)?;
    let (_, name) =
        attributes(body.get(LINK_LEN..)?).find(|(kind, _)| *kind == libc::IFLA_IFNAME)?;
    let name = name.split(|byte| *byte == 0).next()?;
    let wanted = u32::try_from(libc::IFF_UP | libc::IFF_RUNNING).ok()?;
    Some(Answer::Link(Link {
        index,
        name: String::from_utf8_lossy(name).into_owned(),
        is_running: flags & wanted == wanted,
    }))
}

fn question(kind: u16, body: &[u8]) -> Question {
    let length = u32::try_from(HEADER_LEN + body.len()).unwrap_or(0);
    let flags = u16::try_from(libc::NLM_F_REQUEST).unwrap_or(1);
    let mut message = Vec::with_capacity(HEADER_LEN + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]); // sequence and port: the kernel fills in ours
    message.extend(body);
    message
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(4);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)?;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(kind: u16, body: &[u8]) -> Vec<u8> {
        question(kind, body)
    }

    #[test]
    fn reads_routes_links_and_refusals() {
        let mut route = vec![2, 32, 0, 0, 254, 0, 0, libc::RTN_UNICAST, 0, 0, 0, 0];
        attribute(&mut route, libc::RTA_DST, &[192, 0, 2, 7]);
        attribute(&mut route, libc::RTA_OIF, &5u32.to_ne_bytes());
        assert_eq!(
            read(&answer(libc::RTM_NEWROUTE, &route)),
            Answer::Route { interface: 5 }
        );
        route[7] = libc::RTN_UNREACHABLE;
        assert_eq!(
            read(&answer(libc::RTM_NEWROUTE, &route)),
            Answer::No(libc::ENETUNREACH)
        );

        let mut link = vec![0; LINK_LEN];
        link[4] = 5;
        link[8] = u8::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap();
        attribute(&mut link, libc::IFLA_IFNAME, b"st0\0");
        let expected = Link {
            index: 5,
            name: "st0".into(),
            is_running: true,
        };
        assert_eq!(
            read(&answer(libc::RTM_NEWLINK, &link)),
            Answer::Link(expected)
        );

        let errno = (-libc::ENETUNREACH).to_ne_bytes();
        let error = u16::try_from(libc::NLMSG_ERROR).unwrap();
        assert_eq!(read(&answer(error, &errno)), Answer::No(libc::ENETUNREACH));
    }

    proptest! {
        #[test]
        fn no_answer_panics(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
            kind in prop_oneof![Just(libc::RTM_NEWROUTE), Just(libc::RTM_NEWLINK), 0u16..30],
        ) {
            let _ = read(&bytes);
            let _ = read(&answer(kind, &bytes));
        }
    }
}
