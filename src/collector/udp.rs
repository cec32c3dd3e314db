//! The UDP socket: a large receive buffer, the kernel's own count of drops, and a loop that only
//! receives, verifies and hands over.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, getsockopt, recvmsg, setsockopt, sockopt,
};

use super::intake::{Inlet, Lost};
use crate::clock;
use crate::events::CollectorEvents;
use crate::model::Shared;
use crate::wire::{self, Verifier, Via};

/// Asked of the kernel: at 200,000 datagrams a second this rides out a tenth of a second of not
/// being scheduled. The kernel doubles it for its own book-keeping.
pub const RECEIVE_BUFFER: usize = 25 * 1024 * 1024;
/// The largest datagram there is.
const DATAGRAM_MAX: usize = 65_536;
/// How long, once it is time to stop, what the kernel has taken in already is still read. The whole
/// buffer takes half a second; more comes only from somebody who doesn't stop sending, and is lost.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// How long a stop may go unnoticed on a quiet socket.
const STOP_CHECK: Duration = Duration::from_millis(100);

/// An open socket.
pub struct UdpReceiver {
    socket: UdpSocket,
    local: SocketAddr,
    control: Vec<u8>,
    dropped: u32,
}

impl UdpReceiver {
    /// Binds, and asks for the large buffer: with CAP_NET_ADMIN the kernel grants it, without it
    /// gives up to `net.core.rmem_max`.
    pub fn bind(address: IpAddr, port: u16) -> io::Result<Self> {
        let socket = UdpSocket::bind((address, port))?;
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        }
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        // A socket that takes what comes to any address learns of each datagram to which it came.
        match address {
            IpAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            IpAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        socket.set_read_timeout(Some(STOP_CHECK))?;
        Ok(UdpReceiver {
            local: socket.local_addr()?,
            socket,
            control: nix::cmsg_space!(u32, libc::in_pktinfo, libc::in6_pktinfo),
            dropped: 0,
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// What the kernel granted, as it counts it.
    pub fn buffer_bytes(&self) -> usize {
        getsockopt(&self.socket, sockopt::RcvBuf).unwrap_or(0)
    }

    /// Receives until `stop`, and then what the kernel still holds. Blocks its thread. Each datagram is
    /// verified with what holds when it is read.
    pub fn run(
        mut self,
        verifier: &Shared<Verifier>,
        out: &Inlet,
        events: &CollectorEvents,
        stop: &AtomicBool,
    ) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        let mut next = |flags| match self.receive(&mut buffer, flags, events) {
            Ok(arrived) => {
                let datagram = buffer.get(..arrived.length).unwrap_or_default();
                take_in(datagram, &arrived, &verifier.get(), out, events);
                true
            }
            Err(Errno::EINTR) => true,
            Err(Errno::EAGAIN) => false,
            Err(errno) => {
                events.receive_failed(&errno.into(), clock::now());
                false
            }
        };
        while !stop.load(Ordering::Relaxed) {
            next(MsgFlags::empty());
        }
        let deadline = clock::now() + DRAIN_MAX;
        while next(MsgFlags::MSG_DONTWAIT) && clock::now() < deadline {}
    }

    fn receive(
        &mut self,
        buffer: &mut [u8],
        flags: MsgFlags,
        events: &CollectorEvents,
    ) -> nix::Result<Arrived> {
        let mut parts = [IoSliceMut::new(buffer)];
        let fd = self.socket.as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut self.control), flags)?;
        let mut to = self.local;
        for control in message.cmsgs().into_iter().flatten() {
            match control {
                ControlMessageOwned::RxqOvfl(total) if total != self.dropped => {
                    events.kernel_dropped(total.wrapping_sub(self.dropped), clock::now());
                    self.dropped = total;
                }
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    to.set_ip(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into());
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    to.set_ip(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                _ => {}
            }
        }
        Ok(Arrived {
            length: message.bytes,
            from: message.address.as_ref().and_then(address_of),
            to,
        })
    }
}

/// A datagram in the buffer.
struct Arrived {
    length: usize,
    from: Option<SocketAddr>,
    /// The address of ours that it was sent to.
    to: SocketAddr,
}

/// Verifies and reads one datagram and hands its messages over, or counts why not. Never waits.
fn take_in(
    datagram: &[u8],
    arrived: &Arrived,
    verifier: &Verifier,
    out: &Inlet,
    events: &CollectorEvents,
) {
    let now = clock::now();
    let (mut messages, refusals) = wire::receive(datagram, verifier, Via::Udp(arrived.to));
    let wall = clock::utc();
    for message in &mut messages {
        verifier.judge_time(message, wall);
    }
    events.received(messages.len(), datagram.len());
    for refusal in refusals {
        events.refused(refusal, arrived.from, now);
    }
    let lost = out.push(messages, now);
    if lost != Lost::default() {
        events.queue_full(lost.history, lost.states, now);
    }
}

fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address
        .as_sockaddr_in()
        .map(|address| SocketAddr::new(address.ip().into(), address.port()));
    let v6 = address
        .as_sockaddr_in6()
        .map(|address| SocketAddr::new(address.ip().into(), address.port()));
    v4.or(v6)
}
