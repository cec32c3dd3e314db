//! An ICMP socket: unprivileged where the kernel allows it, raw otherwise; it sends by a given
//! interface and hands over what arrives with the kernel's time of arrival.
//!
//! A socket lives for one round, so that nothing of an earlier round (a late reply, a pending
//! error, a count of drops) can be taken for news of this one.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType,
    SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, sendmsg, setsockopt, socket, sockopt,
};

use super::icmp::{self, COOKIE_LEN, Family, PathError, Said, SocketKind};
use super::round::{Heard, SendFault};
use socket2::SockFilter;

use crate::clock;
use crate::events;
use crate::model::FailReason;

/// Asked of the kernel for replies: room for the answers of thousands of probes.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
/// An ICMP error quotes at most the packet that caused it; ours are small.
const PACKET_MAX: usize = 1500;
/// Errors of earlier probes that one send may run into before the error counts as its own.
const SEND_TRIES_MAX: usize = 32;
/// Packets read in one look, so that a flood can't keep us from the clock; the rest waits in the
/// buffer for the next look.
const DRAIN_MAX: usize = 8192;

/// Keeps the kernel stamping packets when they arrive. It does so only while some socket asks for
/// it, and switches it on some time after the first one does; a packet that comes before is stamped
/// when it is read. Sockets that live for a round would always be the first, so this one stays.
pub struct Timestamps {
    _socket: OwnedFd,
}

impl Timestamps {
    /// Asks for it with a socket that is bound to nothing; needs no privilege.
    pub fn keep() -> nix::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        Ok(Timestamps { _socket: socket })
    }
}

/// One open socket.
pub struct IcmpSocket {
    socket: OwnedFd,
    family: Family,
    kind: SocketKind,
    ident: u16,
    cookie: [u8; COOKIE_LEN],
    control: Vec<u8>,
    dropped: u32,
    last_look: Instant,
}

/// What was read, and which probe it is about.
pub type News = (u16, Heard);

impl IcmpSocket {
    /// Opens a socket for one family.
    pub fn open(family: Family, now: Instant) -> Result<Self, FailReason> {
        let (socket, kind) = open_any(family).map_err(|errno| {
            reason_of("opening an ICMP socket", errno, FailReason::NoPermission)
        })?;
        let random = RandomState::new().build_hasher().finish();
        let mut cookie = [0; COOKIE_LEN];
        let other = RandomState::new().build_hasher().finish();
        let bytes = random.to_ne_bytes().into_iter().chain(other.to_ne_bytes());
        for (to, from) in cookie.iter_mut().zip(bytes) {
            *to = from;
        }
        let [low, high, ..] = random.to_ne_bytes();
        let opened = IcmpSocket {
            socket,
            family,
            kind,
            ident: u16::from_ne_bytes([low, high]),
            cookie,
            control: nix::cmsg_space!(libc::timespec, libc::in6_pktinfo, u32, [u8; 64]),
            dropped: 0,
            last_look: now,
        };
        opened.prepare().map_err(|errno| {
            reason_of("preparing an ICMP socket", errno, FailReason::SystemError)
        })?;
        Ok(opened)
    }

    /// Sends one probe by this interface, from `source` if one is given.
    pub fn send(
        &self,
        target: IpAddr,
        source: Option<IpAddr>,
        interface: u32,
        seq: u16,
    ) -> Result<(), SendFault> {
        let packet = icmp::echo_request(self.family, self.ident, seq, &self.cookie);
        let mut tries = 0;
        loop {
            let Err(errno) = self.send_packet(&packet, target, source, interface) else {
                return Ok(());
            };
            tries += 1;
            // On a datagram socket an error that an earlier probe met is handed to whichever call
            // comes next, which also clears it. The error queue says whose it was, so here it
            // only means: once more.
            let may_be_anothers = self.kind == SocketKind::Datagram
                && is_network_error(errno)
                && self.has_queued_error();
            if tries == SEND_TRIES_MAX || !(may_be_anothers || errno == Errno::EINTR) {
                return Err(fault_of(errno));
            }
        }
    }

    /// Reads everything that has arrived, errors first.
    pub fn drain(&mut self, news: &mut Vec<News>) {
        if self.kind == SocketKind::Datagram {
            let mut left = DRAIN_MAX;
            while left > 0 && self.read_error(news) {
                left -= 1;
            }
        }
        let mut left = DRAIN_MAX;
        while left > 0 && self.read_packet(news) {
            left -= 1;
        }
        self.last_look = clock::now();
    }

    /// Packets that the kernel dropped because our buffer was full.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    fn prepare(&self) -> nix::Result<()> {
        if setsockopt(&self.socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            // Without CAP_NET_ADMIN the kernel gives up to net.core.rmem_max; the bursts are small
            // enough for its default.
            setsockopt(&self.socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        }
        setsockopt(&self.socket, sockopt::ReceiveTimestampns, &true)?;
        setsockopt(&self.socket, sockopt::RxqOvfl, &1)?;
        match self.family {
            Family::V4 => setsockopt(&self.socket, sockopt::Ipv4PacketInfo, &true)?,
            Family::V6 => setsockopt(&self.socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        match (self.kind, self.family) {
            (SocketKind::Datagram, Family::V4) => {
                setsockopt(&self.socket, sockopt::Ipv4RecvErr, &true)
            }
            (SocketKind::Datagram, Family::V6) => {
                setsockopt(&self.socket, sockopt::Ipv6RecvErr, &true)
            }
            (SocketKind::Raw, family) => self.filter(family),
        }
    }

    /// A raw socket hears all ICMP of the host. The filter lets in echo replies with our identifier
    /// and errors, so that nobody else's traffic wakes us or fills our buffer.
    fn filter(&self, family: Family) -> nix::Result<()> {
        let program = match family {
            Family::V4 => filter_v4(self.ident),
            Family::V6 => filter_v6(self.ident),
        };
        socket2::SockRef::from(&self.socket)
            .attach_filter(&program)
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL)))
    }

    fn send_packet(
        &self,
        packet: &[u8],
        target: IpAddr,
        source: Option<IpAddr>,
        interface: u32,
    ) -> nix::Result<()> {
        let parts = [IoSlice::new(packet)];
        let fd = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        match target {
            IpAddr::V4(target) => {
                let info = packet_info_v4(source, interface);
                let control = [ControlMessage::Ipv4PacketInfo(&info)];
                let to = SockaddrIn::from(std::net::SocketAddrV4::new(target, 0));
                sendmsg(fd, &parts, &control, flags, Some(&to)).map(drop)
            }
            IpAddr::V6(target) => {
                let info = packet_info_v6(source, interface);
                let control = [ControlMessage::Ipv6PacketInfo(&info)];
                let to = SockaddrIn6::from(std::net::SocketAddrV6::new(target, 0, 0, 0));
                sendmsg(fd, &parts, &control, flags, Some(&to)).map(drop)
            }
        }
    }

    /// Whether an error of an earlier probe waits to be read; it stays for [`Self::drain`].
    fn has_queued_error(&self) -> bool {
        let mut fds = [nix::poll::PollFd::new(
            self.socket.as_fd(),
            nix::poll::PollFlags::empty(),
        )];
        nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).is_ok()
            && fds
                .first()
                .and_then(nix::poll::PollFd::revents)
                .is_some_and(|events| events.contains(nix::poll::PollFlags::POLLERR))
    }

    fn read_packet(&mut self, news: &mut Vec<News>) -> bool {
        let mut buffer = [0u8; PACKET_MAX];
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = self.socket.as_raw_fd();
        let (length, from, marks) =
            match recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut self.control), flags) {
                Ok(message) => (
                    message.bytes,
                    message.address.as_ref().and_then(ip_of),
                    Marks::of(&message),
                ),
                Err(Errno::EINTR) => return true,
                // An error of an earlier probe: it is in the error queue as well, and now it is cleared.
                Err(errno) => return is_network_error(errno),
            };
        if let Some(dropped) = marks.dropped {
            self.dropped = self.dropped.max(dropped);
        }
        let Some(from) = from else { return true };
        let bytes = buffer.get(..length).unwrap_or_default();
        match icmp::read(
            self.family,
            self.kind,
            self.ident,
            &self.cookie,
            from,
            bytes,
        ) {
            Some(Said::Reply { from, seq }) => {
                let arrived = arrival(self.last_look, marks.arrived);
                news.push((
                    seq,
                    Heard::Reply {
                        from,
                        arrived,
                        interface: marks.interface,
                    },
                ));
            }
            Some(Said::Error { target, seq, error }) => {
                news.push((seq, Heard::Error { target, error }));
            }
            None => {}
        }
        true
    }

    fn read_error(&mut self, news: &mut Vec<News>) -> bool {
        let mut buffer = [0u8; PACKET_MAX];
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_ERRQUEUE;
        let fd = self.socket.as_raw_fd();
        let (length, target, error) =
            match recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut self.control), flags) {
                Ok(message) => (
                    message.bytes,
                    message.address.as_ref().and_then(ip_of),
                    queued_error(self.family, &message),
                ),
                Err(errno) => return errno == Errno::EINTR,
            };
        let seq = buffer.get(..length).and_then(icmp::sequence_of_request);
        if let (Some(target), Some(seq), Some(error)) = (target, seq, error) {
            news.push((seq, Heard::Error { target, error }));
        }
        true
    }
}

impl AsFd for IcmpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What the kernel noted about a packet.
#[derive(Default)]
struct Marks {
    arrived: Option<Duration>,
    interface: Option<u32>,
    dropped: Option<u32>,
}

impl Marks {
    fn of(message: &nix::sys::socket::RecvMsg<'_, '_, SockaddrStorage>) -> Self {
        let mut marks = Marks::default();
        for control in message.cmsgs().into_iter().flatten() {
            match control {
                ControlMessageOwned::ScmTimestampns(at) => marks.arrived = Some(Duration::from(at)),
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    marks.interface = u32::try_from(info.ipi_ifindex).ok();
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    marks.interface = Some(info.ipi6_ifindex);
                }
                ControlMessageOwned::RxqOvfl(count) => marks.dropped = Some(count),
                _ => {}
            }
        }
        marks
    }
}

fn queued_error(
    family: Family,
    message: &nix::sys::socket::RecvMsg<'_, '_, SockaddrStorage>,
) -> Option<PathError> {
    let error = message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
            Some(error)
        }
        _ => None,
    })?;
    if error.ee_origin == libc::SO_EE_ORIGIN_LOCAL {
        return Some(PathError::Unreachable);
    }
    PathError::from_type_and_code(family, error.ee_type, error.ee_code)
}

/// The kernel's timestamp on the monotonic clock. A packet that is read now arrived after the last
/// look; a wall clock that was stepped in between would say otherwise, and then now is as good.
fn arrival(last_look: Instant, stamped: Option<Duration>) -> Instant {
    let now = clock::now();
    let age = stamped.and_then(|stamped| clock::wall().checked_sub(stamped));
    match age {
        Some(age) if age <= now.saturating_duration_since(last_look) => {
            now.checked_sub(age).unwrap_or(now)
        }
        _ => now,
    }
}

fn open_any(family: Family) -> nix::Result<(OwnedFd, SocketKind)> {
    let (domain, protocol) = match family {
        Family::V4 => (AddressFamily::Inet, SockProtocol::Icmp),
        Family::V6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    match socket(domain, SockType::Datagram, flags, protocol) {
        Ok(socket) => Ok((socket, SocketKind::Datagram)),
        Err(_) => {
            socket(domain, SockType::Raw, flags, protocol).map(|socket| (socket, SocketKind::Raw))
        }
    }
}

fn packet_info_v4(source: Option<IpAddr>, interface: u32) -> libc::in_pktinfo {
    let source = match source {
        Some(IpAddr::V4(source)) => source,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    libc::in_pktinfo {
        ipi_ifindex: i32::try_from(interface).unwrap_or(0),
        ipi_spec_dst: libc::in_addr {
            s_addr: u32::from_ne_bytes(source.octets()),
        },
        ipi_addr: libc::in_addr { s_addr: 0 },
    }
}

fn packet_info_v6(source: Option<IpAddr>, interface: u32) -> libc::in6_pktinfo {
    let source = match source {
        Some(IpAddr::V6(source)) => source,
        _ => Ipv6Addr::UNSPECIFIED,
    };
    libc::in6_pktinfo {
        ipi6_addr: libc::in6_addr {
            s6_addr: source.octets(),
        },
        ipi6_ifindex: interface,
    }
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(address), _) => Some(address.ip().into()),
        (_, Some(address)) => Some(address.ip().into()),
        _ => None,
    }
}

/// Errors that the network gave to an earlier probe.
fn is_network_error(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::EACCES
            | Errno::EPROTO
            | Errno::ECONNREFUSED
            | Errno::ENOPROTOOPT
            | Errno::EOPNOTSUPP
            | Errno::EHOSTDOWN
            | Errno::EMSGSIZE
            | Errno::ENONET
    )
}

fn fault_of(errno: Errno) -> SendFault {
    match errno {
        Errno::EHOSTUNREACH | Errno::EHOSTDOWN => SendFault::NeighbourSilent,
        Errno::ENETUNREACH
        | Errno::ENETDOWN
        | Errno::ENODEV
        | Errno::ENXIO
        | Errno::EADDRNOTAVAIL
        | Errno::EINVAL => SendFault::LocalPath,
        // From a send these come from a filter on our own output; the socket itself was granted.
        Errno::EPERM | Errno::EACCES => SendFault::Ours(FailReason::OutputBlocked),
        other => SendFault::Ours(reason_of("sending a probe", other, FailReason::SystemError)),
    }
}

/// The reason behind an errno of our own; `refusal` is what EPERM and EACCES mean here. One without a
/// reason of its own is named in the log.
pub fn reason_of(operation: &'static str, errno: Errno, refusal: FailReason) -> FailReason {
    let reason = match errno {
        Errno::EPERM | Errno::EACCES => refusal,
        Errno::EMFILE | Errno::ENFILE => FailReason::DescriptorLimit,
        Errno::ENOBUFS | Errno::ENOMEM | Errno::EAGAIN => FailReason::NoBuffers,
        _ => FailReason::SystemError,
    };
    if reason == FailReason::SystemError {
        events::system_error(operation, &errno.into(), clock::now());
    }
    reason
}

const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const LOAD_BYTE_X: u16 = 0x50; // BPF_LD | BPF_B | BPF_IND
const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
const LOAD_HALF_X: u16 = 0x48; // BPF_LD | BPF_H | BPF_IND
const X_IS_IP_HEADER: u16 = 0xb1; // BPF_LDX | BPF_B | BPF_MSH
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GREATER_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

fn step(code: u16, yes: u8, no: u8, k: u32) -> SockFilter {
    SockFilter::new(code, yes, no, k)
}

/// Echo replies with our identifier; unreachable, time exceeded, parameter problem.
fn filter_v4(ident: u16) -> Vec<SockFilter> {
    vec![
        step(X_IS_IP_HEADER, 0, 0, 0),
        step(LOAD_BYTE_X, 0, 0, 0),
        step(JUMP_EQUAL, 0, 2, 0),
        step(LOAD_HALF_X, 0, 0, 4),
        step(JUMP_EQUAL, 3, 4, u32::from(ident)),
        step(JUMP_EQUAL, 2, 0, 3),
        step(JUMP_EQUAL, 1, 0, 11),
        step(JUMP_EQUAL, 0, 1, 12),
        step(RETURN, 0, 0, u32::MAX),
        step(RETURN, 0, 0, 0),
    ]
}

/// Echo replies with our identifier; every ICMPv6 error (types below 128).
fn filter_v6(ident: u16) -> Vec<SockFilter> {
    vec![
        step(LOAD_BYTE, 0, 0, 0),
        step(JUMP_GREATER_EQUAL, 0, 3, 128),
        step(JUMP_EQUAL, 0, 3, 129),
        step(LOAD_HALF, 0, 0, 4),
        step(JUMP_EQUAL, 0, 1, u32::from(ident)),
        step(RETURN, 0, 0, u32::MAX),
        step(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use FailReason::{DescriptorLimit, NoBuffers, NoPermission, OutputBlocked, SystemError};

    #[test]
    fn what_a_failed_send_says_about_the_neighbour_the_path_or_us() {
        use Errno::*;
        for (errnos, fault) in [
            (&[EHOSTUNREACH, EHOSTDOWN][..], SendFault::NeighbourSilent),
            (
                &[ENETUNREACH, ENETDOWN, ENODEV, ENXIO, EADDRNOTAVAIL, EINVAL],
                SendFault::LocalPath,
            ),
            (&[EPERM, EACCES], SendFault::Ours(OutputBlocked)),
            (&[EMFILE, ENFILE], SendFault::Ours(DescriptorLimit)),
            (&[ENOBUFS, ENOMEM, EAGAIN], SendFault::Ours(NoBuffers)),
            (&[EIO, EMSGSIZE, EBADF], SendFault::Ours(SystemError)),
        ] {
            for errno in errnos {
                assert_eq!(fault_of(*errno), fault, "{errno}");
            }
        }
    }

    #[test]
    fn a_socket_that_is_not_granted_is_a_missing_permission() {
        for errno in [Errno::EPERM, Errno::EACCES] {
            assert_eq!(reason_of("testing", errno, NoPermission), NoPermission);
        }
        assert_eq!(
            reason_of("testing", Errno::EMFILE, NoPermission),
            DescriptorLimit
        );
        assert_eq!(
            reason_of("testing", Errno::ENOBUFS, NoPermission),
            NoBuffers
        );
    }

    #[test]
    fn a_wall_clock_that_was_stepped_dates_no_reply() {
        let hour = Duration::from_secs(3600);
        let last_look = clock::now();
        let wall = clock::wall();
        for stamped in [wall.saturating_sub(hour), wall + hour] {
            assert!(
                arrival(last_look, Some(stamped)) >= last_look,
                "{stamped:?}"
            );
        }
    }
}
