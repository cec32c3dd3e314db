//! Asks the kernel about the path to a target: a route lookup and a look at the link, over one
//! rtnetlink socket that lives for a round.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use super::netlink::{self, Answer, Question};
use super::path::{Link, Path, PathState, Pin};

/// Looks paths up, and remembers each interface for as long as it lives.
pub struct Routes {
    socket: OwnedFd,
    links: HashMap<u32, Option<Link>>,
    buffer: Vec<u8>,
}

impl Routes {
    /// Opens the socket; needs no privilege.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            flags,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Routes {
            socket,
            links: HashMap::new(),
            buffer: vec![0; netlink::ANSWER_MAX],
        })
    }

    /// The path to `target` under `pin`, from `source` if one is asked for.
    pub fn path(
        &mut self,
        target: IpAddr,
        source: Option<IpAddr>,
        pin: Pin<'_>,
    ) -> io::Result<Path> {
        if source.is_some_and(|source| !is_ours(source)) {
            return Ok(Path::unusable(PathState::NoAddress));
        }
        let by = match pin {
            Pin::Configured(name) => match self.link_named(name)? {
                Some(link) => Some(link.index),
                None => return Ok(Path::unusable(PathState::NoInterface)),
            },
            Pin::Remembered(_) | Pin::Free => None,
        };
        let Answer::Route { interface } = self.ask(&netlink::ask_route(target, source, by))? else {
            return Ok(Path::unusable(PathState::NoRoute));
        };
        // The entry of the table that matched may name another interface than the one asked for.
        if by.is_some_and(|wanted| wanted != interface) {
            return Ok(Path::unusable(PathState::NoRoute));
        }
        match self.link(interface)? {
            Some(link) => Ok(Path::by(link, pin)),
            None => Ok(Path::unusable(PathState::NoInterface)),
        }
    }

    fn link(&mut self, index: u32) -> io::Result<Option<Link>> {
        if let Some(known) = self.links.get(&index) {
            return Ok(known.clone());
        }
        let link = match self.ask(&netlink::ask_link(index))? {
            Answer::Link(link) => Some(link),
            _ => None,
        };
        self.links.insert(index, link.clone());
        Ok(link)
    }

    fn link_named(&mut self, name: &str) -> io::Result<Option<Link>> {
        if let Some(known) = self.links.values().flatten().find(|link| link.name == name) {
            return Ok(Some(known.clone()));
        }
        let Answer::Link(link) = self.ask(&netlink::ask_link_named(name))? else {
            return Ok(None);
        };
        self.links.insert(link.index, Some(link.clone()));
        Ok(Some(link))
    }

    /// The kernel has answered by the time the question is sent, so nothing here waits.
    fn ask(&mut self, question: &Question) -> io::Result<Answer> {
        let kernel = NetlinkAddr::new(0, 0);
        sendto(
            self.socket.as_raw_fd(),
            question,
            &kernel,
            MsgFlags::empty(),
        )?;
        let length = loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                other => break other?,
            }
        };
        Ok(netlink::read(self.buffer.get(..length).unwrap_or_default()))
    }
}

/// Whether the address is on this host and may be sent from. Any trouble but the plain "no" counts
/// as yes: the probe itself will then say what is wrong.
fn is_ours(address: IpAddr) -> bool {
    match UdpSocket::bind(SocketAddr::new(address, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}
