//! Pure. Where the message broker is and how queues are declared there: oslo.messaging's
//! `transport_url` and options of its RabbitMQ driver.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::kinds::is_host_name;
use super::options::DEFAULT;
use super::problem::Severity;
use super::values::{Mismatch, Values};
use crate::model::Secret;

/// How many brokers one configuration may name. Clusters have three or five.
pub const BROKERS_MAX: usize = 16;

/// The section of oslo.messaging's driver.
const RABBIT: &str = "oslo_messaging_rabbit";

/// The port of AMQP where a URL names none.
const AMQP_PORT: u16 = 5672;

/// What a URL looks like, for messages.
const EXPECTED: &str = "rabbit://USER:PASSWORD@HOST:PORT[,USER:PASSWORD@HOST:PORT]/VIRTUAL_HOST";

/// A cluster of brokers, and what is declared there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerSettings {
    /// Whether the configuration names any broker; otherwise the values are oslo's defaults.
    pub is_chosen: bool,
    /// Its members, in the order in which they are tried; at least one.
    pub members: Vec<BrokerMember>,
    /// The virtual host.
    pub virtual_host: String,
    /// How TLS is spoken, if it is.
    pub tls: Option<BrokerTls>,
    /// Silence of either side after which the connection counts as dead; None for never.
    pub heartbeat: Option<Duration>,
    /// How exchange and queues are declared.
    pub declared: Declared,
}

/// One broker of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerMember {
    /// A host name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// With which password.
    pub password: Secret,
}

/// TLS with a broker: its certificate must be signed by somebody trusted, and be of its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerTls {
    /// A file of certificates that are trusted beside those of the system.
    pub ca: Option<PathBuf>,
    /// Files with our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What a deployment declares its exchange and its queues with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The topic exchange.
    pub exchange: String,
    /// Whether exchange and queues outlive a restart of the broker.
    pub durable: bool,
    /// Whether they go when nobody uses them any more.
    pub auto_delete: bool,
    /// Whether queues ask to be mirrored, as brokers before 3.0 want to be asked.
    pub mirrored: bool,
    /// Whether queues are quorum queues.
    pub quorum: bool,
}

impl fmt::Display for BrokerMember {
    /// Host and port, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Builds the settings from the values.
pub(super) fn build(values: &mut Values<'_>) -> Result<BrokerSettings, Mismatch> {
    let is_chosen = is_chosen(values);
    let url = values.secret(DEFAULT, "transport_url")?;
    let (members, virtual_host) = match parse(url.expose()) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => by_options(values)?,
        Err(expected) => {
            let message = format!("found a URL that can't be used, expected {expected}");
            values.report(Severity::Error, DEFAULT, "transport_url", message);
            by_options(values)?
        }
    };
    let heartbeat = values.int(RABBIT, "heartbeat_timeout_threshold")?;
    Ok(BrokerSettings {
        is_chosen,
        members,
        virtual_host,
        tls: tls(values)?,
        heartbeat: u64::try_from(heartbeat)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs),
        declared: Declared {
            exchange: values.text(DEFAULT, "control_exchange")?,
            durable: values.truth(RABBIT, "amqp_durable_queues")?
                || values.truth(RABBIT, "rabbit_quorum_queue")?,
            auto_delete: values.truth(RABBIT, "amqp_auto_delete")?,
            mirrored: values.truth(RABBIT, "rabbit_ha_queues")?,
            quorum: values.truth(RABBIT, "rabbit_quorum_queue")?,
        },
    })
}

/// Whether the configuration names a broker.
pub(super) fn is_chosen(values: &Values<'_>) -> bool {
    let naming = [
        (DEFAULT, "transport_url"),
        (RABBIT, "rabbit_host"),
        (RABBIT, "rabbit_hosts"),
    ];
    let is_set = |(group, name): &(&str, &str)| values.setting(group, name).is_some();
    naming.iter().any(is_set)
}

fn by_options(values: &mut Values<'_>) -> Result<Parsed, Mismatch> {
    let user = values.text(RABBIT, "rabbit_userid")?;
    let password = values.secret(RABBIT, "rabbit_password")?;
    let mut members = Vec::new();
    for address in values.words(RABBIT, "rabbit_hosts")? {
        let Some((host, port)) = host_and_port(&address) else {
            let message = "found a broker that is no host:port".to_owned();
            values.report(Severity::Error, RABBIT, "rabbit_hosts", message);
            continue;
        };
        members.push(BrokerMember {
            host,
            port,
            user: user.clone(),
            password: password.clone(),
        });
    }
    let virtual_host = values.text(RABBIT, "rabbit_virtual_host")?;
    Ok((members, virtual_host))
}

fn tls(values: &Values<'_>) -> Result<Option<BrokerTls>, Mismatch> {
    if !values.truth(RABBIT, "ssl")? {
        return Ok(None);
    }
    let certificate = values.file(RABBIT, "ssl_cert_file")?;
    let key = values.file(RABBIT, "ssl_key_file")?;
    Ok(Some(BrokerTls {
        ca: values.file(RABBIT, "ssl_ca_file")?,
        identity: certificate.zip(key),
    }))
}

type Parsed = (Vec<BrokerMember>, String);

/// Reads a URL; None for an empty one. The error says what would have been right.
fn parse(url: &str) -> Result<Option<Parsed>, &'static str> {
    if url.is_empty() {
        return Ok(None);
    }
    let (scheme, rest) = url.split_once("://").ok_or(EXPECTED)?;
    if !matches!(scheme, "rabbit" | "kombu" | "amqp") {
        return Err(EXPECTED);
    }
    let (rest, _) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut members = Vec::new();
    let mut login = ("guest".to_owned(), "guest".to_owned());
    for member in authority.split(',') {
        let address = match member.rsplit_once('@') {
            Some((user, address)) => {
                let (user, password) = user.split_once(':').unwrap_or((user, ""));
                login = (unescape(user)?, unescape(password)?);
                address
            }
            None => member,
        };
        let (host, port) = host_and_port(address).ok_or(EXPECTED)?;
        members.push(BrokerMember {
            host,
            port,
            user: login.0.clone(),
            password: Secret::new(login.1.clone()),
        });
    }
    if members.len() > BROKERS_MAX {
        return Err("a shorter list of brokers");
    }
    let virtual_host = match path {
        "" => "/".to_owned(),
        path => unescape(path)?,
    };
    Ok(Some((members, virtual_host)))
}

fn host_and_port(address: &str) -> Option<(String, u16)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(inside) => {
            let (host, after) = inside.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, after.strip_prefix(':'))
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let is_usable = is_host_name(host) || host.parse::<std::net::IpAddr>().is_ok();
    let port = port.map_or(Some(AMQP_PORT), |port| port.parse().ok())?;
    (is_usable && port > 0).then(|| (host.to_owned(), port))
}

/// Text with `%41` for its bytes.
fn unescape(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().unwrap_or(0), rest.next().unwrap_or(0)];
        let digits = std::str::from_utf8(&digits).map_err(|_| EXPECTED)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| EXPECTED)?);
    }
    String::from_utf8(bytes).map_err(|_| EXPECTED)
}
