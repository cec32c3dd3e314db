//! Pure. Publishers as URLs.

use std::net::{IpAddr, Ipv6Addr};

use super::notifier::NotifierTarget;
use crate::config::is_host_name;
use crate::config::nearest::nearest;

/// The longest name of a URL's option that is repeated in a message; Ceilometer's longest has half of
/// it.
const OPTION_CHARS_MAX: usize = 32;

/// The port of a URL that names none: the one of Ceilometer's own collector.
pub const DEFAULT_UDP_PORT: u16 = 4952;

/// Where a sink's readings go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Publisher {
    /// Signed datagrams to one address.
    Udp(UdpTarget),
    /// Signed messages to a topic of the message broker.
    Notifier(NotifierTarget),
}

/// A receiver of datagrams.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UdpTarget {
    /// Address or host name, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// `udp://host:port`, an IPv6 address in brackets: what readings call this path.
    pub path: String,
}

/// A URL that is no publisher of this version. Only what can't be a password is repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PublisherError {
    #[error(
        "found the publisher {0}://, expected udp://host:port or notifier://: this version publishes {1}"
    )]
    Foreign(&'static str, &'static str),
    #[error(
        "found the publisher {0}://, expected udp://host:port or notifier://: this version has no other{1}"
    )]
    Unknown(String, &'static str),
    #[error("found no publisher's URL, expected udp://host:port or notifier://")]
    NoUrl,
    #[error(
        "found udp:// with a user, expected udp://host:port: the secret is [publisher] telemetry_secret"
    )]
    User,
    #[error(
        "found udp:// with no usable host, expected udp://host:port, an IPv6 address in brackets"
    )]
    Host,
    #[error("found udp:// with the port {0:?}, expected one from 1 to 65535")]
    Port(String),
    #[error(
        "found notifier:// with a broker of its own, expected notifier://?topic=TOPIC: the broker is [DEFAULT] transport_url"
    )]
    OwnBroker,
    #[error(
        "found notifier:// with two topics, expected one: a publisher for each topic has two URLs"
    )]
    Topics,
    #[error(
        "found notifier:// with a topic that can't be used, expected one of letters, digits, '.', '_' and '-', 200 at most (without ?topic= it is [publisher_notifier] metering_topic)"
    )]
    Topic,
    #[error("found notifier:// with {name} {found:?}, expected {expected}")]
    Option {
        name: &'static str,
        found: String,
        expected: &'static str,
    },
}

/// The schemes of Ceilometer's other publishers, of any release, and what this version lacks of them.
const FOREIGN: &[(&str, &str)] = &[
    (
        "rpc",
        "no rpc to a message broker; notifier:// takes its place",
    ),
    ("kafka", "to no Kafka; a message broker is RabbitMQ here"),
    (
        "direct",
        "to no database; the collector stores what comes by UDP",
    ),
    (
        "database",
        "to no database; the collector stores what comes by UDP",
    ),
    ("gnocchi", "to no Gnocchi"),
    ("zaqar", "to no Zaqar"),
    ("http", NO_HTTP),
    ("https", NO_HTTP),
    (
        "prometheus",
        "to no Pushgateway; [agent] http_listen serves its own metrics",
    ),
    ("opentelemetryhttp", NO_HTTP),
    ("opentelemetryhttps", NO_HTTP),
    ("tcp", "over no TCP"),
    ("file", "to no file"),
    ("test", "to no memory of a test"),
];

const NO_HTTP: &str = "to no HTTP server";

/// A publisher, and what of its URL has no effect.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where readings go.
    pub(super) publisher: Publisher,
    /// What is odd about it.
    pub(super) odd: Vec<Odd>,
}

/// What is odd about a URL that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Odd {
    /// Words for something that has no effect at all.
    Ignored(String),
    /// A driver, which has none here: there is one.
    Driver,
    /// A policy that nobody knows.
    Policy(String),
}

impl Odd {
    /// An option that nobody knows. A name that isn't even one may be a password and isn't repeated.
    pub(super) fn option(name: &str) -> Self {
        let is_name = (1..=OPTION_CHARS_MAX).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        Odd::Ignored(if is_name {
            format!("found the option {name}")
        } else {
            "found something".to_owned()
        })
    }
}

impl Publisher {
    /// Reads a URL that stands in no file; a topic that it doesn't name is this one. What is odd about
    /// it is left out.
    pub fn read(url: &str, topic: &str) -> Result<Publisher, String> {
        match Publisher::parse(url, topic) {
            Ok(found) => Ok(found.publisher),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Reads a URL; a topic that it doesn't name is this one.
    pub(super) fn parse(url: &str, topic: &str) -> Result<Found, PublisherError> {
        let (scheme, rest) = match url.split_once("://") {
            Some(parts) => parts,
            // Ceilometer's oldest files have a bare name.
            None => (url, ""),
        };
        match scheme {
            "udp" => {}
            "notifier" => return NotifierTarget::parse(rest, topic),
            other => return Err(not_ours(other)),
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, surplus) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let target = UdpTarget::parse(authority)?;
        Ok(Found {
            publisher: Publisher::Udp(target),
            odd: ignored(surplus).into_iter().collect(),
        })
    }

    /// What readings call this path.
    pub fn path(&self) -> &str {
        match self {
            Publisher::Udp(target) => &target.path,
            Publisher::Notifier(target) => &target.path,
        }
    }

    /// The path with the options that make it another publisher.
    pub fn url(&self) -> String {
        match self {
            Publisher::Udp(target) => target.path.clone(),
            Publisher::Notifier(target) => target.url(),
        }
    }
}

impl UdpTarget {
    fn parse(authority: &str) -> Result<Self, PublisherError> {
        if authority.contains('@') {
            return Err(PublisherError::User);
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(inside) => {
                let (host, after) = inside.split_once(']').ok_or(PublisherError::Host)?;
                let host: Ipv6Addr = host.parse().map_err(|_| PublisherError::Host)?;
                let port = match after.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if after.is_empty() => None,
                    None => return Err(PublisherError::Host),
                };
                (IpAddr::from(host).to_string(), port)
            }
            None => {
                let (host, port) = match authority.split_once(':') {
                    Some((host, port)) => (host, Some(port)),
                    None => (authority, None),
                };
                (plain_host(host)?, port)
            }
        };
        let port = port.map_or(Ok(DEFAULT_UDP_PORT), parse_port)?;
        Ok(UdpTarget::new(host, port))
    }

    fn new(host: String, port: u16) -> Self {
        let path = if host.contains(':') {
            format!("udp://[{host}]:{port}")
        } else {
            format!("udp://{host}:{port}")
        };
        UdpTarget { host, port, path }
    }
}

fn plain_host(host: &str) -> Result<String, PublisherError> {
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) if is_host_name(host) => Ok(host.to_ascii_lowercase()),
        Err(_) => Err(PublisherError::Host),
    }
}

fn parse_port(text: &str) -> Result<u16, PublisherError> {
    let digits = text.chars().all(|c| c.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|port| digits && *port > 0)
        .ok_or_else(|| PublisherError::Port(text.chars().take(8).collect()))
}

/// Why this is no scheme of ours. A text that isn't even one may be a password and isn't repeated.
fn not_ours(scheme: &str) -> PublisherError {
    let lower = scheme.to_ascii_lowercase();
    if let Some((name, lacking)) = FOREIGN.iter().find(|(name, _)| *name == lower) {
        return PublisherError::Foreign(name, lacking);
    }
    let is_scheme = |c: char| c.is_ascii_lowercase() || c == '+';
    if !(1..=16).contains(&lower.len()) || !lower.chars().all(is_scheme) {
        return PublisherError::NoUrl;
    }
    let hint = match nearest(&lower, ["udp", "notifier"]) {
        Some("udp") => "; the nearest known one is udp",
        Some(_) => "; the nearest known one is notifier",
        None => "",
    };
    PublisherError::Unknown(scheme.to_owned(), hint)
}

/// What stands behind host and port: options have effects at other publishers, none has at this one.
fn ignored(surplus: &str) -> Option<Odd> {
    if matches!(surplus, "" | "/") {
        return None;
    }
    let query = surplus
        .split('#')
        .next()
        .and_then(|before| before.split_once('?'));
    let name = query.and_then(|(_, query)| query.split(['=', '&']).next());
    Some(Odd::option(name.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_become_targets_with_one_spelling() {
        for (url, host, port, path) in [
            (
                "udp://192.168.0.6:4953",
                "192.168.0.6",
                4953,
                "udp://192.168.0.6:4953",
            ),
            (
                "udp://192.168.0.6",
                "192.168.0.6",
                4952,
                "udp://192.168.0.6:4952",
            ),
            (
                "udp://192.168.0.6:4953/",
                "192.168.0.6",
                4953,
                "udp://192.168.0.6:4953",
            ),
            (
                "udp://Controller-1.example:99",
                "controller-1.example",
                99,
                "udp://controller-1.example:99",
            ),
            (
                "udp://[FD00:0::1]:4953",
                "fd00::1",
                4953,
                "udp://[fd00::1]:4953",
            ),
            ("udp://[fd00::1]", "fd00::1", 4952, "udp://[fd00::1]:4952"),
        ] {
            let target = UdpTarget {
                host: host.into(),
                port,
                path: path.into(),
            };
            let found = Found {
                publisher: Publisher::Udp(target),
                odd: vec![],
            };
            assert_eq!(Publisher::parse(url, ""), Ok(found), "{url}");
        }
    }

    #[test]
    fn what_follows_host_and_port_is_ignored_and_said() {
        for (url, words) in [
            ("udp://h:1/x", "found something"),
            ("udp://h:1?a=b", "found the option a"),
            ("udp://h:1/?copies=2&x=y", "found the option copies"),
            ("udp://h:1?pass word", "found something"),
            ("udp://h:1#x", "found something"),
        ] {
            let odd = Publisher::parse(url, "").unwrap().odd;
            assert_eq!(odd, [Odd::Ignored(words.to_owned())], "{url}");
        }
    }

    #[test]
    fn other_urls_are_refused_by_name() {
        use PublisherError::*;
        let near = "; the nearest known one is udp";
        for (url, error) in [
            (
                "rpc",
                Foreign(
                    "rpc",
                    "no rpc to a message broker; notifier:// takes its place",
                ),
            ),
            (
                "notifer://",
                Unknown("notifer".into(), "; the nearest known one is notifier"),
            ),
            ("file:///var/log/x", Foreign("file", "to no file")),
            ("gnocchi://u:hunter2@h", Foreign("gnocchi", "to no Gnocchi")),
            ("upd://h", Unknown("upd".into(), near)),
            ("UDP://h", Unknown("UDP".into(), near)),
            ("carrier+pigeon://h", Unknown("carrier+pigeon".into(), "")),
            ("hunter2@h", NoUrl),
            ("", NoUrl),
            ("udp", Host),
            ("udp://", Host),
            ("udp://:4953", Host),
            ("udp://a b:4953", Host),
            ("udp://fd00::1", Port(":1".into())),
            ("udp://[fd00::1", Host),
            ("udp://[fd00::1]4953", Host),
            ("udp://[10.0.0.1]:4953", Host),
            ("udp://10.0.0.300:4953", Host),
            ("udp://u:p@h:4953", User),
            ("udp://h:0", Port("0".into())),
            ("udp://h:+1", Port("+1".into())),
            ("udp://h:65536", Port("65536".into())),
            ("udp://h:", Port(String::new())),
        ] {
            assert_eq!(Publisher::parse(url, "t"), Err(error), "{url}");
        }
    }

    proptest! {
        #[test]
        fn a_path_is_a_url_of_itself(url in "udp://([a-z]{1,5}|10\\.0\\.0\\.[0-9]|\\[fd00::[1-9]\\])(:[1-9][0-9]{0,3})?") {
            let found = Publisher::parse(&url, "").unwrap();
            prop_assert_eq!(Publisher::parse(found.publisher.path(), ""), Ok(found));
        }

        #[test]
        fn no_url_is_too_strange(url in any::<String>()) {
            let _ = Publisher::parse(&url, "t");
            let _ = Publisher::parse(&format!("udp://{url}"), "t");
        }
    }
}
