//! Pure. Publishers as URLs.

use std::net::{IpAddr, Ipv6Addr};

use crate::config::is_host_name;

/// The port of a URL that names none: the one of Ceilometer's own collector.
pub const DEFAULT_UDP_PORT: u16 = 4952;

/// Where a sink's readings go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Publisher {
    /// Signed datagrams to one address.
    Udp(UdpTarget),
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
    #[error("found the publisher {0}://, expected udp://host:port: this version has no other")]
    Unknown(String),
    #[error("found no publisher's URL, expected udp://host:port")]
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
}

impl Publisher {
    /// Reads a URL; true if something behind host and port is ignored.
    pub(super) fn parse(url: &str) -> Result<(Self, bool), PublisherError> {
        let (scheme, rest) = match url.split_once("://") {
            Some(parts) => parts,
            // Ceilometer's oldest files have a bare name.
            None => (url, ""),
        };
        match scheme {
            "udp" => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let (authority, surplus) = rest.split_at_checked(end).unwrap_or((rest, ""));
                let target = UdpTarget::parse(authority)?;
                Ok((Publisher::Udp(target), !matches!(surplus, "" | "/")))
            }
            name if is_scheme(name) => Err(PublisherError::Unknown(name.to_owned())),
            _ => Err(PublisherError::NoUrl),
        }
    }

    /// What readings call this path.
    pub fn path(&self) -> &str {
        match self {
            Publisher::Udp(target) => &target.path,
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

fn is_scheme(name: &str) -> bool {
    (1..=16).contains(&name.len()) && name.chars().all(|c| c.is_ascii_lowercase() || c == '+')
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
            assert_eq!(
                Publisher::parse(url),
                Ok((Publisher::Udp(target), false)),
                "{url}"
            );
        }
    }

    #[test]
    fn what_follows_host_and_port_is_ignored_and_said() {
        for url in ["udp://h:1/x", "udp://h:1?a=b", "udp://h:1#x"] {
            assert!(Publisher::parse(url).unwrap().1, "{url}");
        }
    }

    #[test]
    fn other_urls_are_refused_by_name() {
        use PublisherError::*;
        for (url, error) in [
            ("notifier://", Unknown("notifier".into())),
            ("notifier://?topic=x", Unknown("notifier".into())),
            ("rpc", Unknown("rpc".into())),
            ("file:///var/log/x", Unknown("file".into())),
            ("gnocchi://u:hunter2@h", Unknown("gnocchi".into())),
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
            assert_eq!(Publisher::parse(url), Err(error), "{url}");
        }
    }

    proptest! {
        #[test]
        fn a_path_is_a_url_of_itself(url in "udp://([a-z]{1,5}|10\\.0\\.0\\.[0-9]|\\[fd00::[1-9]\\])(:[1-9][0-9]{0,3})?") {
            let (publisher, _) = Publisher::parse(&url).unwrap();
            prop_assert_eq!(Publisher::parse(publisher.path()), Ok((publisher.clone(), false)));
        }

        #[test]
        fn no_url_is_too_strange(url in any::<String>()) {
            let _ = Publisher::parse(&url);
            let _ = Publisher::parse(&format!("udp://{url}"));
        }
    }
}
