//! Pure. Echo requests as bytes, and what an arriving ICMP packet says about one of them.
//!
//! Formats: RFC 792 (ICMP), RFC 4443 (ICMPv6). Arriving packets are decoded by surge-ping, whose
//! quoted-request parsing walks IPv4 options and IPv6 extension headers; what a packet *means* is
//! decided here, because on raw sockets that crate reports errors and replies alike.

use std::net::IpAddr;

use surge_ping::{Icmpv4Packet, Icmpv6Packet};

/// Bytes of ICMP header before the payload.
pub const HEADER_LEN: usize = 8;
/// Bytes that a probe carries to recognise its own reply by.
pub const COOKIE_LEN: usize = 16;
/// The whole of a probe.
pub const PROBE_LEN: usize = HEADER_LEN + COOKIE_LEN;

const V4_ECHO_REQUEST: u8 = 8;
const V4_ECHO_REPLY: u8 = 0;
const V4_UNREACHABLE: u8 = 3;
const V4_TIME_EXCEEDED: u8 = 11;
const V4_PARAMETER_PROBLEM: u8 = 12;
const V6_ECHO_REQUEST: u8 = 128;
const V6_ECHO_REPLY: u8 = 129;
const V6_UNREACHABLE: u8 = 1;
const V6_TOO_BIG: u8 = 2;
const V6_TIME_EXCEEDED: u8 = 3;
const V6_PARAMETER_PROBLEM: u8 = 4;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// ICMP over IPv4.
    V4,
    /// ICMPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

/// How packets look on the socket they are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// An unprivileged ICMP socket: the kernel sets and matches the identifier.
    Datagram,
    /// A raw socket (CAP_NET_RAW): identifier, checksum and matching are ours.
    Raw,
}

/// What the network said instead of passing a probe on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// The host or its network can't be reached.
    Unreachable,
    /// A filter refused.
    Prohibited,
    /// The hop limit ran out.
    TimeExceeded,
    /// Anything else.
    Other,
}

impl PathError {
    /// The meaning of an ICMP error's type and code; None for what is no error about a probe, such
    /// as a redirect.
    pub fn from_type_and_code(family: Family, kind: u8, code: u8) -> Option<Self> {
        match (family, kind) {
            (Family::V4, V4_UNREACHABLE) if matches!(code, 9 | 10 | 13) => {
                Some(PathError::Prohibited)
            }
            (Family::V6, V6_UNREACHABLE) if matches!(code, 1 | 5 | 6) => {
                Some(PathError::Prohibited)
            }
            (Family::V4, V4_UNREACHABLE) | (Family::V6, V6_UNREACHABLE) => {
                Some(PathError::Unreachable)
            }
            (Family::V4, V4_TIME_EXCEEDED) | (Family::V6, V6_TIME_EXCEEDED) => {
                Some(PathError::TimeExceeded)
            }
            (Family::V4, V4_PARAMETER_PROBLEM) => Some(PathError::Other),
            (Family::V6, V6_TOO_BIG | V6_PARAMETER_PROBLEM) => Some(PathError::Other),
            _ => None,
        }
    }
}

/// What an arriving packet says, once it is known to be about a probe of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// An echo reply that carries our cookie.
    Reply {
        /// Who answered.
        from: IpAddr,
        /// Which probe.
        seq: u16,
    },
    /// An ICMP error that quotes our probe.
    Error {
        /// Whom the probe was for.
        target: IpAddr,
        /// Which probe.
        seq: u16,
        /// What was said.
        error: PathError,
    },
}

/// An echo request. On a datagram socket the kernel fills in identifier and checksum; the checksum
/// of ICMPv6 is the kernel's in any case, because it covers addresses that only routing chooses.
pub fn echo_request(
    family: Family,
    ident: u16,
    seq: u16,
    cookie: &[u8; COOKIE_LEN],
) -> [u8; PROBE_LEN] {
    let mut packet = [0u8; PROBE_LEN];
    let (header, payload) = packet.split_at_mut(HEADER_LEN);
    payload.copy_from_slice(cookie);
    let [ident_high, ident_low] = ident.to_be_bytes();
    let [seq_high, seq_low] = seq.to_be_bytes();
    let kind = match family {
        Family::V4 => V4_ECHO_REQUEST,
        Family::V6 => V6_ECHO_REQUEST,
    };
    header.copy_from_slice(&[kind, 0, 0, 0, ident_high, ident_low, seq_high, seq_low]);
    if family == Family::V4 {
        let sum = checksum(&packet).to_be_bytes();
        for (to, from) in packet.iter_mut().skip(2).zip(sum) {
            *to = from;
        }
    }
    packet
}

/// Reads one packet from the wire. None for whatever isn't about a probe of ours: other programs'
/// pings, requests to us, redirects, damaged packets.
pub fn read(
    family: Family,
    kind: SocketKind,
    ident: u16,
    cookie: &[u8; COOKIE_LEN],
    from: IpAddr,
    bytes: &[u8],
) -> Option<Said> {
    let icmp = strip_ip_header(family, kind, bytes)?;
    let first = *icmp.first()?;
    let is_reply = first == reply_type(family);
    if is_reply && icmp.get(HEADER_LEN..PROBE_LEN)? != cookie {
        return None;
    }
    let packet = decode(from, kind, bytes)?;
    // The kernel matches datagram sockets by an identifier that it chose itself.
    if kind == SocketKind::Raw && packet.ident != ident {
        return None;
    }
    if is_reply {
        return Some(Said::Reply {
            from,
            seq: packet.seq,
        });
    }
    let error = PathError::from_type_and_code(family, first, packet.code)?;
    Some(Said::Error {
        target: packet.target,
        seq: packet.seq,
        error,
    })
}

/// The sequence number in a probe that the kernel hands back with an error on a datagram socket.
pub fn sequence_of_request(request: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(request.get(6..8)?.try_into().ok()?))
}

struct Decoded {
    target: IpAddr,
    ident: u16,
    seq: u16,
    code: u8,
}

fn decode(from: IpAddr, kind: SocketKind, bytes: &[u8]) -> Option<Decoded> {
    let socket_type = match kind {
        SocketKind::Datagram => socket2::Type::DGRAM,
        SocketKind::Raw => socket2::Type::RAW,
    };
    match from {
        IpAddr::V4(from) => {
            // The destination is only copied into the result, which doesn't use it.
            let packet = Icmpv4Packet::decode(bytes, socket_type, from, from).ok()?;
            Some(Decoded {
                target: packet.get_real_dest().into(),
                ident: packet.get_identifier().into_u16(),
                seq: packet.get_sequence().into_u16(),
                code: packet.get_icmp_code().0,
            })
        }
        IpAddr::V6(from) => {
            let packet = Icmpv6Packet::decode(bytes, from).ok()?;
            Some(Decoded {
                target: packet.get_real_dest().into(),
                ident: packet.get_identifier().into_u16(),
                seq: packet.get_sequence().into_u16(),
                code: packet.get_icmpv6_code().0,
            })
        }
    }
}

fn reply_type(family: Family) -> u8 {
    match family {
        Family::V4 => V4_ECHO_REPLY,
        Family::V6 => V6_ECHO_REPLY,
    }
}

/// Raw IPv4 sockets deliver the IP header as well; nothing else does.
fn strip_ip_header(family: Family, kind: SocketKind, bytes: &[u8]) -> Option<&[u8]> {
    if family == Family::V6 || kind == SocketKind::Datagram {
        return Some(bytes);
    }
    let header_len = usize::from(bytes.first()? & 0x0f) * 4;
    if header_len < 20 {
        return None;
    }
    bytes.get(header_len..)
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        let high = pair.first().copied().unwrap_or(0);
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([high, low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const COOKIE: [u8; COOKIE_LEN] = *b"sixteen bytes ok";
    const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const GATEWAY6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7));

    fn v4_header(from: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else {
            unreachable!()
        };
        let mut bytes = vec![
            0x45,
            0,
            0,
            u8::try_from(20 + payload.len()).unwrap(),
            0,
            0,
            0,
            0,
            64,
            1,
            0,
            0,
        ];
        bytes.extend(from.octets());
        bytes.extend(to.octets());
        bytes.extend(payload);
        bytes
    }

    fn v6_header(to: IpAddr, payload: &[u8]) -> Vec<u8> {
        let IpAddr::V6(to) = to else { unreachable!() };
        let mut bytes = vec![
            0x60,
            0,
            0,
            0,
            0,
            u8::try_from(payload.len()).unwrap(),
            58,
            64,
        ];
        bytes.extend(Ipv6Addr::LOCALHOST.octets());
        bytes.extend(to.octets());
        bytes.extend(payload);
        bytes
    }

    fn reply_to(family: Family, request: &[u8]) -> Vec<u8> {
        let mut reply = request.to_vec();
        reply[0] = reply_type(family);
        reply
    }

    #[test]
    fn checksum_of_a_packet_with_its_checksum_is_zero() {
        let packet = echo_request(Family::V4, 0x1234, 7, &COOKIE);
        assert_eq!(checksum(&packet), 0);
    }

    #[test]
    fn only_an_echo_reply_with_our_identifier_and_cookie_is_an_answer() {
        let request = echo_request(Family::V4, 0x1234, 7, &COOKIE);
        let raw = v4_header(GATEWAY, ROUTER, &reply_to(Family::V4, &request));
        let ask = |ident, cookie, bytes: &[u8]| {
            read(Family::V4, SocketKind::Raw, ident, cookie, GATEWAY, bytes)
        };
        assert_eq!(
            ask(0x1234, &COOKIE, &raw),
            Some(Said::Reply {
                from: GATEWAY,
                seq: 7
            })
        );
        assert_eq!(ask(0x1235, &COOKIE, &raw), None, "another process's ping");
        assert_eq!(
            ask(0x1234, b"another process.", &raw),
            None,
            "another round's ping"
        );
        let own_request = v4_header(GATEWAY, ROUTER, &request);
        assert_eq!(
            ask(0x1234, &COOKIE, &own_request),
            None,
            "an echo request is no reply"
        );
        let datagram = reply_to(Family::V4, &request);
        assert_eq!(
            read(
                Family::V4,
                SocketKind::Datagram,
                0,
                &COOKIE,
                GATEWAY,
                &datagram
            ),
            Some(Said::Reply {
                from: GATEWAY,
                seq: 7
            })
        );
    }

    #[test]
    fn errors_are_errors_and_name_the_probe_they_quote() {
        use PathError::{Other, Prohibited, TimeExceeded, Unreachable};
        let quoted = v4_header(
            ROUTER,
            GATEWAY,
            &echo_request(Family::V4, 0x1234, 9, &COOKIE),
        );
        for (kind, code, expected) in [
            (3, 0, Some(Unreachable)),
            (3, 1, Some(Unreachable)),
            (3, 3, Some(Unreachable)),
            (3, 9, Some(Prohibited)),
            (3, 10, Some(Prohibited)),
            (3, 13, Some(Prohibited)),
            (11, 0, Some(TimeExceeded)),
            (12, 0, Some(Other)),
            (5, 0, None), // a redirect: the probe was passed on
        ] {
            let mut icmp = vec![kind, code, 0, 0, 0, 0, 0, 0];
            icmp.extend(&quoted);
            let packet = v4_header(ROUTER, ROUTER, &icmp);
            let said = read(
                Family::V4,
                SocketKind::Raw,
                0x1234,
                &COOKIE,
                ROUTER,
                &packet,
            );
            assert_eq!(
                said,
                expected.map(|error| Said::Error {
                    target: GATEWAY,
                    seq: 9,
                    error
                }),
                "{kind}/{code}"
            );
        }
    }

    #[test]
    fn icmpv6_errors_likewise() {
        use PathError::{Other, Prohibited, TimeExceeded, Unreachable};
        let quoted = v6_header(GATEWAY6, &echo_request(Family::V6, 0x1234, 9, &COOKIE));
        for (kind, code, expected) in [
            (1, 0, Some(Unreachable)),
            (1, 3, Some(Unreachable)),
            (1, 1, Some(Prohibited)),
            (1, 6, Some(Prohibited)),
            (2, 0, Some(Other)),
            (3, 0, Some(TimeExceeded)),
            (136, 0, None), // a neighbour advertisement
        ] {
            let mut icmp = vec![kind, code, 0, 0, 0, 0, 0, 0];
            icmp.extend(&quoted);
            let said = read(
                Family::V6,
                SocketKind::Raw,
                0x1234,
                &COOKIE,
                GATEWAY6,
                &icmp,
            );
            assert_eq!(
                said,
                expected.map(|error| Said::Error {
                    target: GATEWAY6,
                    seq: 9,
                    error
                }),
                "{kind}/{code}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_packet_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), raw: bool, v6: bool) {
            let (family, from) = if v6 { (Family::V6, GATEWAY6) } else { (Family::V4, GATEWAY) };
            let kind = if raw { SocketKind::Raw } else { SocketKind::Datagram };
            let _ = read(family, kind, 1, &COOKIE, from, &bytes);
        }

        #[test]
        fn no_damage_to_an_error_panics(at in 0usize..56, to: u8, cut in 0usize..60) {
            let quoted = v4_header(ROUTER, GATEWAY, &echo_request(Family::V4, 0x1234, 9, &COOKIE));
            let mut icmp = vec![3, 1, 0, 0, 0, 0, 0, 0];
            icmp.extend(&quoted);
            let mut packet = v4_header(ROUTER, ROUTER, &icmp);
            packet[at] = to;
            let cut = cut.min(packet.len());
            let _ = read(Family::V4, SocketKind::Raw, 0x1234, &COOKIE, ROUTER, &packet[..cut]);
        }
    }
}
