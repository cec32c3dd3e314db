//! Connections: to the members of a cluster in turn, with or without TLS.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use tokio::time::timeout;

use super::socket::{self, Cut, Stream};
use super::{BrokerError, tls};
use crate::clock;
use crate::config::{BrokerMember, BrokerSettings};

/// How long one member may take until it has let us in. The next one is tried then.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long an answer may take that the broker has at hand, such as that to a declaration.
pub const REPLY_LIMIT: Duration = Duration::from_secs(5);

/// The reply code to a wrong user or password.
const ACCESS_REFUSED: u16 = 403;
/// The reply code to a virtual host that isn't there or that one may not use.
const NOT_ALLOWED: u16 = 530;

/// A cluster of brokers that can be connected to.
#[derive(Debug)]
pub struct Broker {
    settings: Arc<BrokerSettings>,
    /// What the broker's operator sees as the connection's name.
    name: String,
    /// Which member is next.
    next: AtomicUsize,
}

/// A connection to one member. Dropped without a goodbye it is cut, and all that goes over it fails.
#[derive(Debug)]
pub struct Link {
    connection: Connection,
    member: String,
    _cut: Cut,
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
        let deadline = clock::now() + CONNECT_LIMIT;
        let too_late = |doing: &str| BrokerError::TooLate {
            doing: format!("{doing} the broker {member}"),
            limit: CONNECT_LIMIT,
        };
        let opening = socket::open(member, self.settings.tls.as_ref(), CONNECT_LIMIT);
        let (stream, cut) = timeout(CONNECT_LIMIT, opening)
            .await
            .map_err(|_| too_late("connecting to"))??;
        let left = deadline.saturating_duration_since(clock::now());
        // A failure drops `cut`, and the thread that waits for an answer ends.
        let connection = timeout(left, self.log_in(member, stream))
            .await
            .map_err(|_| too_late("logging in at"))??;
        Ok(Link {
            connection,
            member: member.to_string(),
            _cut: cut,
        })
    }

    /// Speaks AMQP over a socket until the broker has let us into the virtual host.
    async fn log_in(
        &self,
        member: &BrokerMember,
        stream: Stream,
    ) -> Result<Connection, BrokerError> {
        let properties =
            ConnectionProperties::default().with_connection_name(self.name.as_str().into());
        let failed = |error| self.login_error(member, error);
        let runtime = lapin::runtime::default_runtime().map_err(failed)?;
        // It is asked for once: nothing is tried again here.
        let stream = Mutex::new(Some(stream));
        let hand_over = async move |_, _| {
            let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            let stream = stream.take();
            stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected).into())
        };
        Connection::connector(self.uri(member), runtime, hand_over, properties)
            .await
            .map_err(failed)
    }

    /// What a broker's reply to a login means.
    fn login_error(&self, member: &BrokerMember, source: lapin::Error) -> BrokerError {
        let code = match source.kind() {
            ErrorKind::ProtocolError(error) => Some(error.get_id()),
            _ => None,
        };
        let user = member.user.clone();
        let member_name = member.to_string();
        let closed = || {
            self.settings
                .tls
                .as_ref()
                .and_then(|_| tls::closed(&source))
        };
        match (code, tls::reason(&source, &member.host).or_else(closed)) {
            (Some(ACCESS_REFUSED), _) => BrokerError::Login {
                member: member_name,
                user,
                source: Box::new(source),
            },
            (Some(NOT_ALLOWED), _) => BrokerError::VirtualHost {
                member: member_name,
                user,
                virtual_host: self.settings.virtual_host.clone(),
                source: Box::new(source),
            },
            (_, Some(why)) => BrokerError::Tls {
                member: member_name,
                why,
                source: source.into(),
            },
            (_, None) => BrokerError::Failed {
                doing: format!("logging in at the broker {member}"),
                source,
            },
        }
    }

    fn uri(&self, member: &BrokerMember) -> AMQPUri {
        let heartbeat = self.settings.heartbeat.map_or(0, |time| time.as_secs());
        AMQPUri {
            // TLS, if any, is spoken below.
            scheme: AMQPScheme::AMQP,
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
    match timeout(limit, answer).await {
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
