//! Pure. Where the message broker is and how queues are declared there: oslo.messaging's
//! `transport_url` and options of its RabbitMQ driver.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use super::connection::host_and_port;
use super::foreign;
use super::nearest::nearest;
use super::options::DEFAULT;
use super::problem::Severity;
use super::transport::{self, Transport};
use super::values::{Mismatch, Values};
use crate::model::Secret;

/// How many brokers one configuration may name. Clusters have three or five.
pub const BROKERS_MAX: usize = 16;

/// The section of oslo.messaging's driver.
const RABBIT: &str = "oslo_messaging_rabbit";

/// The option with a URL, in the section that every file has.
const URL: &str = "transport_url";

/// Options of the driver that a URL may name behind its `?`.
const OF_URL: &[&str] = &[
    "ssl",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_key_file",
    "amqp_durable_queues",
    "amqp_auto_delete",
    "rabbit_ha_queues",
    "rabbit_quorum_queue",
    "heartbeat_timeout_threshold",
];

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
    /// A file of certificates that are trusted; None for those of the system.
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
    let url = values.secret(DEFAULT, URL)?;
    let transport = transport::parse(url.expose()).unwrap_or_else(|expected| {
        let message = format!("found a URL that can't be used, expected {expected}");
        values.report(Severity::Error, DEFAULT, URL, message);
        Transport::default()
    });
    warn(&transport, values);
    for (name, value) in &transport.options {
        override_by(name, value, values);
    }
    let virtual_host = match transport.virtual_host {
        Some(name) => name,
        None => values.text(RABBIT, "rabbit_virtual_host")?,
    };
    let members = match transport.members.is_empty() {
        false => transport.members,
        true => by_options(values)?,
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
        (DEFAULT, URL),
        (RABBIT, "rabbit_host"),
        (RABBIT, "rabbit_hosts"),
    ];
    let is_set = |(group, name): &(&str, &str)| values.setting(group, name).is_some();
    naming.iter().any(is_set)
}

/// Says what of a URL does something else than it seems to.
fn warn(transport: &Transport, values: &mut Values<'_>) {
    if transport.has_mixed_logins {
        let message = "some brokers of the URL have a user and a password and others don't: those log \
                       in as guest, better each with its own";
        values.report(Severity::Warning, DEFAULT, URL, message);
    }
    if transport.has_fragment {
        let message = "found a # in the URL: what follows it is left out, write %23 for a plain #";
        values.report(Severity::Warning, DEFAULT, URL, message);
    }
}

/// Lets an option of the URL take the place of what the files say. Its value is never repeated: it
/// stands beside a password.
fn override_by(name: &str, value: &str, values: &mut Values<'_>) {
    if !OF_URL.contains(&name) {
        let message = match foreign::is_option(RABBIT, name) {
            true => format!("found the option {name} in the URL, which has no effect here"),
            false => match nearest(name, OF_URL.iter().copied()) {
                Some(_) => {
                    "found an unknown option in the URL; one that is like it has an effect: see \
                            [oslo_messaging_rabbit]"
                        .to_owned()
                }
                None => "found an unknown option in the URL, which has no effect".to_owned(),
            },
        };
        values.report(Severity::Warning, DEFAULT, URL, message);
        return;
    }
    if let Err(expected) = values.override_with(RABBIT, name, value, (DEFAULT, URL)) {
        let message = format!("found an unusable {name} in the URL, expected {expected}");
        values.report(Severity::Error, DEFAULT, URL, message);
    }
}

fn by_options(values: &mut Values<'_>) -> Result<Vec<BrokerMember>, Mismatch> {
    let user = values.text(RABBIT, "rabbit_userid")?;
    let password = values.secret(RABBIT, "rabbit_password")?;
    let default_port = u16::try_from(values.int(RABBIT, "rabbit_port")?).unwrap_or_default();
    let is_list = values.setting(RABBIT, "rabbit_hosts").is_some();
    let (option, addresses) = match is_list {
        true => ("rabbit_hosts", values.words(RABBIT, "rabbit_hosts")?),
        false => ("rabbit_host", vec![values.text(RABBIT, "rabbit_host")?]),
    };
    let mut members = Vec::new();
    for address in &addresses {
        let Some((host, port)) = place(address, default_port) else {
            let message = "found a broker that is no HOST or HOST:PORT, an address of IPv6 in \
                           brackets and a port from 1 to 65535";
            values.report(Severity::Error, RABBIT, option, message);
            continue;
        };
        members.push(BrokerMember {
            host,
            port,
            user: user.clone(),
            password: password.clone(),
        });
    }
    if members.len() > BROKERS_MAX {
        let message = format!(
            "found {} brokers, expected {BROKERS_MAX} at most",
            members.len()
        );
        values.report(Severity::Error, RABBIT, option, message);
    }
    if addresses.is_empty() {
        let message = "found no broker, expected at least one";
        values.report(Severity::Error, RABBIT, option, message);
    }
    Ok(members)
}

/// Host and port of a broker that is named by an option.
fn place(address: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match address.parse::<Ipv6Addr>() {
        Ok(bare) => (bare.to_string(), default_port),
        Err(_) => host_and_port(address, default_port)?,
    };
    (port > 0).then_some((host, port))
}

fn tls(values: &mut Values<'_>) -> Result<Option<BrokerTls>, Mismatch> {
    if !values.truth(RABBIT, "ssl")? {
        return Ok(None);
    }
    let certificate = values.file(RABBIT, "ssl_cert_file")?;
    let key = values.file(RABBIT, "ssl_key_file")?;
    let lonely = match (&certificate, &key) {
        (Some(_), None) => Some(("ssl_cert_file", "its key in ssl_key_file")),
        (None, Some(_)) => Some(("ssl_key_file", "its certificate in ssl_cert_file")),
        _ => None,
    };
    if let Some((found, lacking)) = lonely {
        let message = format!("found it alone, expected {lacking} as well");
        values.report(Severity::Error, RABBIT, found, message);
    }
    Ok(Some(BrokerTls {
        ca: values.file(RABBIT, "ssl_ca_file")?,
        identity: certificate.zip(key),
    }))
}
