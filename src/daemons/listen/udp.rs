//! Datagrams to an address of ours.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::heard::Heard;
use super::{Listener, now};
use crate::daemons::DaemonError;
use crate::wire::{Via, msgpack};

/// The largest datagram there is.
const DATAGRAM_MAX: usize = 65_536;
/// How long an end may go unnoticed where nothing comes.
const LOOK: Duration = Duration::from_millis(100);

/// Shows what comes until it is enough.
pub(super) fn listen(address: SocketAddr, listener: &mut Listener<'_>) -> Result<(), DaemonError> {
    let failed = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "; is it a collector's? Then send to another port",
            _ => "",
        };
        DaemonError::failed(format!("listening on {address}"), format!("{error}{hint}"))
    };
    let socket = UdpSocket::bind(address).map_err(failed)?;
    socket.set_read_timeout(Some(LOOK)).map_err(failed)?;
    let local = socket.local_addr().map_err(failed)?;
    listener.ready(&format!("udp {local}"));
    // Behind an address for all of ours, nobody says here to which of them a datagram came.
    let via = match local.ip().is_unspecified() {
        true => Via::Anywhere,
        false => Via::Udp(local),
    };
    let mut buffer = vec![0; DATAGRAM_MAX];
    while !listener.is_over() {
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if is_nothing(&error) => continue,
            Err(error) => return Err(failed(error)),
        };
        let from = from.to_string();
        for message in msgpack::messages(buffer.get(..length).unwrap_or_default()) {
            let judge = (&listener.verifier, via);
            let heard = Heard::of(message, judge, &from, now());
            listener.show(&heard)?;
        }
    }
    Ok(())
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
