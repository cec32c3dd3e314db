//! The socket below a connection: TCP to an address of a member, TLS if it is asked for, and a hand on
//! it by which it can be cut whatever the protocol above waits for.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use async_compat::Compat;
use lapin::AsyncTcpStream;
use rustls_connector::RustlsConnector;
use tokio::net::{TcpStream, lookup_host};

use super::{BrokerError, tls};
use crate::config::{BrokerMember, BrokerTls};

/// A socket as the protocol above takes it.
pub(super) type Stream = AsyncTcpStream<Compat<TcpStream>>;

/// Cuts the socket when it is dropped: whoever still reads or writes there learns that it is over, so
/// that no thread waits for a broker that hangs.
#[derive(Debug)]
pub(super) struct Cut(std::net::TcpStream);

impl Drop for Cut {
    fn drop(&mut self) {
        // It may be over already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Opens one. `limit` is for all of the member's addresses: each has its share of it.
pub(super) async fn open(
    member: &BrokerMember,
    settings: Option<&BrokerTls>,
    limit: Duration,
) -> Result<(Stream, Cut), BrokerError> {
    let connector = connector(settings).await?;
    let failed = |source: io::Error| BrokerError::Unreachable {
        member: member.to_string(),
        source,
    };
    let socket = reach(member, limit).await.map_err(failed)?;
    let cut = Cut(socket.as_fd().try_clone_to_owned().map_err(failed)?.into());
    let plain = Stream::Plain(Compat::new(socket));
    let Some(connector) = connector else {
        return Ok((plain, cut));
    };
    let spoken = plain.into_rustls(&connector, &member.host).await;
    let stream = spoken.map_err(|error| match tls::reason(&error, &member.host) {
        Some(why) => BrokerError::Tls {
            member: member.to_string(),
            why,
            source: error.into(),
        },
        None => failed(error),
    })?;
    Ok((stream, cut))
}

/// Files may be on a disk that hangs, and then a thread waits for it that nobody else needs.
async fn connector(settings: Option<&BrokerTls>) -> Result<Option<RustlsConnector>, BrokerError> {
    let Some(settings) = settings.cloned() else {
        return Ok(None);
    };
    let reading = tokio::task::spawn_blocking(move || tls::connector(&settings));
    let connector = reading.await.map_err(|error| BrokerError::File {
        path: "the files of TLS".to_owned(),
        source: error.into(),
    })?;
    connector.map(Some)
}

async fn reach(member: &BrokerMember, limit: Duration) -> io::Result<TcpStream> {
    let found = lookup_host((member.host.as_str(), member.port)).await?;
    let addresses: Vec<SocketAddr> = found.collect();
    let share = limit / u32::try_from(addresses.len()).unwrap_or(1).max(1);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}
