//! `udp://host:port`: signed messages in datagrams that fit the path.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use nix::sys::socket::{getsockopt, sockopt};

use super::{Outcome, Publish};
use crate::model::{Reading, Shared};
use crate::wire::{self, Datagram, Signing};

/// What a datagram may hold where the path's MTU can't be learnt: IPv6 promises 1280 bytes, less
/// 48 of headers.
const PAYLOAD_DEFAULT: usize = 1232;
/// The most that is put into one datagram, however wide the path: one that is lost should cost
/// little.
const PAYLOAD_MAX: usize = 8192;
const IPV4_AND_UDP: usize = 28;

/// Sends to one collector.
pub struct UdpPublisher {
    host: String,
    port: u16,
    path: String,
    signing: Shared<Signing>,
    connection: Option<Connection>,
}

struct Connection {
    socket: UdpSocket,
    payload_max: usize,
}

impl UdpPublisher {
    /// A publisher for this host and port; `path` is its URL as it goes on the wire.
    pub fn new(host: &str, port: u16, path: &str, signing: &Shared<Signing>) -> Self {
        UdpPublisher {
            host: host.to_owned(),
            port,
            path: path.to_owned(),
            signing: signing.clone(),
            connection: None,
        }
    }

    fn connection(&mut self) -> io::Result<&Connection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.host, self.port)?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Sends one datagram. A connected socket reports what befell an earlier datagram, and keeps a
    /// source address that may be gone; so a failed one is sent once more over a new socket. Returns
    /// what was reported, if the second try succeeded.
    fn send(&mut self, datagram: &[u8]) -> io::Result<Option<io::Error>> {
        let Err(reported) = self.connection()?.socket.send(datagram) else {
            return Ok(None);
        };
        self.connection = None;
        self.connection()?.socket.send(datagram)?;
        Ok(Some(reported))
    }
}

impl Publish for UdpPublisher {
    fn path(&self) -> &str {
        &self.path
    }

    fn publish(&mut self, readings: &[Reading]) -> Outcome {
        let payload_max = match self.connection() {
            Ok(connection) => connection.payload_max,
            Err(error) => {
                return Outcome {
                    failed: readings.len(),
                    error: Some(error),
                    ..Outcome::default()
                };
            }
        };
        let mut outcome = Outcome::default();
        let signing = self.signing.get();
        let encode = |reading| wire::encode(reading, &self.path, &signing);
        let messages: Vec<Vec<u8>> = readings.iter().map(encode).collect();
        for Datagram { bytes, messages } in wire::pack(messages, payload_max) {
            match self.send(&bytes) {
                Ok(reported) => {
                    outcome.sent += messages;
                    outcome.datagrams += 1;
                    outcome.bytes += u64::try_from(bytes.len()).unwrap_or_default();
                    outcome.refused = reported.or(outcome.refused);
                }
                Err(error) => {
                    outcome.failed += messages;
                    outcome.error = Some(error);
                }
            }
        }
        outcome
    }
}

impl Connection {
    fn open(host: &str, port: u16) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
        for address in (host, port).to_socket_addrs()? {
            match Connection::to(address) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn to(address: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        Ok(Connection {
            payload_max: payload_max(&socket, address),
            socket,
        })
    }
}

fn payload_max(socket: &UdpSocket, address: SocketAddr) -> usize {
    let mtu = if address.is_ipv4() {
        getsockopt(socket, sockopt::IpMtu).ok()
    } else {
        None
    };
    let known = mtu
        .and_then(|mtu| usize::try_from(mtu).ok())
        .map(|mtu| mtu.saturating_sub(IPV4_AND_UDP));
    known
        .unwrap_or(PAYLOAD_DEFAULT)
        .clamp(PAYLOAD_DEFAULT / 2, PAYLOAD_MAX)
}
