//! Connections: to the members of a cluster in turn, with or without TLS.

use std::fmt::Display;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties};

use super::BrokerError;
use crate::config::{BrokerMember, BrokerSettings, BrokerTls};

/// How long one member may take until it has let us in. The next one is tried then.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long an answer may take that the broker has at hand, such as that to a declaration.
pub const REPLY_LIMIT: Duration = Duration::from_secs(5);

/// A cluster of brokers that can be connected to.
#[derive(Debug)]
pub struct Broker {
    settings: Arc<BrokerSettings>,
    /// What the broker's operator sees as the connection's name.
    name: String,
    /// Which member is next.
    next: AtomicUsize,
}

/// A connection to one member.
#[derive(Debug)]
pub struct Link {
    connection: Connection,
    member: String,
}

impl Broker {
    /// Knows the cluster; connects to nobody yet.
    pub fn new(settings: Arc<BrokerSettings>, name: impl Into<String>) -> Self {
        Broker {
            settings,
            name: name.into(),
            next: AtomicUsize::new(0),
        }
    }

    /// How exchange and queues are declared there.
    pub fn settings(&self) -> &BrokerSettings {
        &self.settings
    }

    /// Connects to the member whose turn it is. After a failure, the turn is the next one's.
    pub async fn connect(&self) -> Result<Link, BrokerError> {
        let members = &self.settings.members;
        let turn = self.next.load(Ordering::Relaxed) % members.len().max(1);
        let Some(member) = members.get(turn) else {
            return Err(BrokerError::TooLate {
                doing: "connecting to no broker".to_owned(),
                limit: Duration::ZERO,
            });
        };
        let connected = self.connect_to(member).await;
        if connected.is_err() {
            self.next.store(turn + 1, Ordering::Relaxed);
        }
        connected
    }

    async fn connect_to(&self, member: &BrokerMember) -> Result<Link, BrokerError> {
        let tls = match &self.settings.tls {
            Some(tls) => tls_of(tls)?,
            None => OwnedTLSConfig::default(),
        };
        let properties =
            ConnectionProperties::default().with_connection_name(self.name.as_str().into());
        let runtime = lapin::runtime::default_runtime();
        let doing = format!("connecting to the broker {member}");
        let failed = |source| BrokerError::Failed {
            doing: doing.clone(),
            source,
        };
        let runtime = runtime.map_err(|error| failed(error.into()))?;
        let connecting =
            Connection::connect_uri_with_config(self.uri(member), properties, tls, runtime);
        let connection = in_time(&doing, CONNECT_LIMIT, connecting).await?;
        Ok(Link {
            connection,
            member: member.to_string(),
        })
    }

    fn uri(&self, member: &BrokerMember) -> AMQPUri {
        let heartbeat = self.settings.heartbeat.map_or(0, |time| time.as_secs());
        AMQPUri {
            scheme: match self.settings.tls {
                Some(_) => AMQPScheme::AMQPS,
                None => AMQPScheme::AMQP,
            },
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: member.user.clone(),
                    password: member.password.expose().to_owned(),
                },
                host: member.host.clone(),
                port: member.port,
            },
            vhost: self.settings.virtual_host.clone(),
            query: AMQPQueryString {
                heartbeat: Some(u16::try_from(heartbeat).unwrap_or(u16::MAX)),
                ..AMQPQueryString::default()
            },
        }
    }
}

impl Link {
    /// The member that this leads to, for people.
    pub fn member(&self) -> &str {
        &self.member
    }

    /// The connection, for its events and its state.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Opens a channel.
    pub async fn channel(&self) -> Result<Channel, BrokerError> {
        in_time(
            "opening a channel",
            REPLY_LIMIT,
            self.connection.create_channel(),
        )
        .await
    }

    /// Says goodbye, for as long as a reply may take.
    pub async fn close(&self) {
        let closing = self.connection.close(200, "bye".into());
        // Who doesn't answer a goodbye is gone as well.
        let _ = in_time("closing the connection", REPLY_LIMIT, closing).await;
    }
}

/// Waits for an answer of the broker, but not for longer than this.
pub async fn in_time<T>(
    doing: impl Display,
    limit: Duration,
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BrokerError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(BrokerError::Failed {
            doing: doing.to_string(),
            source,
        }),
        Err(_) => Err(BrokerError::TooLate {
            doing: doing.to_string(),
            limit,
        }),
    }
}

fn tls_of(tls: &BrokerTls) -> Result<OwnedTLSConfig, BrokerError> {
    let identity = match &tls.identity {
        Some((certificate, key)) => Some(OwnedIdentity::PKCS8 {
            pem: read(certificate)?,
            key: read(key)?,
        }),
        None => None,
    };
    let trusted = tls.ca.as_deref().map(read).transpose()?;
    Ok(OwnedTLSConfig {
        identity,
        cert_chain: trusted.map(|pem| String::from_utf8_lossy(&pem).into_owned()),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, BrokerError> {
    std::fs::read(path).map_err(|source| BrokerError::File {
        path: path.display().to_string(),
        source,
    })
}
