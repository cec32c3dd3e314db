//! Pure. Which hosts to look at, by which addresses: the lines of `hosts_file`, one
//! `HOST NETWORK ADDRESS` each, and resources of the pipeline such as
//! `icmp://10.0.0.21?host=compute-1&network=management`. Everything that is wrong is reported at
//! once.
//!
//! A network is what fails as one: its hosts are each other's witnesses. So it has one family of
//! addresses, because a route for IPv4 says nothing about one for IPv6, and no address stands twice,
//! because one host's answer would count for another.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::config::{FILE_BYTES_MAX, Problem, Severity, is_host_name};

/// The most addresses that one observer looks at in a round: what the probe was measured with. A
/// longer list is refused; divide it among observers.
pub const ADDRESSES_MAX: usize = 1_000;
/// The most networks. A real cloud has a handful; more of them is a list with its columns swapped,
/// and is refused.
const NETWORKS_MAX: usize = 32;
/// The longest name of a host or network, which is Linux's own bound for a host's. Both together
/// are a resource's id, which has 255 characters in the database; a longer one is refused.
const NAME_CHARS_MAX: usize = 64;
/// The longest line, its comment included; a longer one is refused.
const LINE_BYTES_MAX: usize = 1024;
/// Problems told of one list. Whoever mistook the file needs no thousand lines to see it.
const PROBLEMS_MAX: usize = 100;
/// Longer texts are not repeated whole in a message.
const SHOWN_CHARS_MAX: usize = 60;

const SCHEME: &str = "icmp://";
const EXPECTED_LINE: &str = "HOST NETWORK ADDRESS";
const EXPECTED_URL: &str = "icmp://ADDRESS?host=HOST&network=NETWORK, an IPv6 address in brackets";

/// One address of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The host's name, as Nova knows it.
    pub host: String,
    /// The network that the address is in.
    pub network: String,
    /// Where it is probed.
    pub address: IpAddr,
}

impl Target {
    /// Reads a resource. Every message says what is wrong with it.
    pub fn from_url(url: &str) -> Result<Self, Vec<String>> {
        let malformed = || vec![format!("found {}, expected {EXPECTED_URL}", shown(url))];
        let rest = url.strip_prefix(SCHEME).ok_or_else(malformed)?;
        let (authority, query) = rest.split_once('?').ok_or_else(malformed)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let address = match authority.strip_prefix('[') {
            Some(inside) => inside
                .strip_suffix(']')
                .filter(|inside| inside.contains(':')),
            None => Some(authority).filter(|authority| !authority.contains(':')),
        };
        let (mut host, mut network) = (None, None);
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("host", value)) if host.is_none() => host = Some(value),
                Some(("network", value)) if network.is_none() => network = Some(value),
                _ => return Err(malformed()),
            }
        }
        match (host, network, address) {
            (Some(host), Some(network), Some(address)) => Target::new(host, network, address),
            _ => Err(malformed()),
        }
    }

    /// Reads a line of the file without its comment.
    fn from_line(line: &str) -> Result<Self, Vec<String>> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [host, network, address] => Target::new(host, network, address),
            _ => Err(vec![format!(
                "found {} fields, expected {EXPECTED_LINE}",
                fields.len()
            )]),
        }
    }

    fn new(host: &str, network: &str, address: &str) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        if host.chars().count() > NAME_CHARS_MAX || !is_host_name(host) {
            wrong.push(format!(
                "found the host {}, expected a name as Nova knows it, {NAME_CHARS_MAX} letters, \
                 digits, '-', '_' and '.' at most",
                shown(host)
            ));
        }
        if !is_network(network) {
            wrong.push(format!(
                "found the network {}, expected a name of {NAME_CHARS_MAX} letters, digits, '-', \
                 '_' and '.' at most",
                shown(network)
            ));
        }
        match (usable(address), wrong.is_empty()) {
            (Ok(address), true) => Ok(Target {
                host: host.to_owned(),
                network: network.to_owned(),
                address,
            }),
            (Ok(_), false) => Err(wrong),
            (Err(message), _) => {
                wrong.push(message);
                Err(wrong)
            }
        }
    }
}

impl fmt::Display for Target {
    /// As a resource.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, network) = (&self.host, &self.network);
        match self.address {
            IpAddr::V4(address) => write!(f, "{SCHEME}{address}?host={host}&network={network}"),
            IpAddr::V6(address) => write!(f, "{SCHEME}[{address}]?host={host}&network={network}"),
        }
    }
}

/// Targets that fit together.
#[derive(Debug, Clone, Default)]
pub struct List {
    entries: Vec<(Target, Place)>,
    networks: Vec<String>,
}

/// Where a target is named.
#[derive(Debug, Clone)]
struct Place {
    file: PathBuf,
    line: Option<usize>,
    source: Option<String>,
}

impl List {
    /// Reads the file; `path` is for the messages.
    pub fn read_file(&mut self, path: &Path, text: &str) -> Vec<Problem> {
        let mut place = Place {
            file: path.to_owned(),
            line: None,
            source: None,
        };
        if text.len() > FILE_BYTES_MAX {
            let found = text.len();
            let message = format!("found {found} bytes, expected {FILE_BYTES_MAX} at most");
            return vec![place.problem(Severity::Error, message)];
        }
        let mut problems = Vec::new();
        for (index, line) in text.lines().enumerate() {
            place.line = Some(index + 1);
            let said = line.split('#').next().unwrap_or_default().trim();
            if line.len() > LINE_BYTES_MAX {
                let found = line.len();
                let message =
                    format!("found a line of {found} bytes, expected {LINE_BYTES_MAX} at most");
                problems.push(place.problem(Severity::Error, message));
            } else if !said.is_empty() {
                self.add(Target::from_line(said), &place, &mut problems);
            }
            if is_full(&mut problems) {
                break;
            }
        }
        problems
    }

    /// Reads the resources that a source of the pipeline names.
    pub fn read_resources(
        &mut self,
        pipeline: &Path,
        source: &str,
        resources: &[String],
    ) -> Vec<Problem> {
        let place = Place {
            file: pipeline.to_owned(),
            line: None,
            source: Some(source.to_owned()),
        };
        let mut problems = Vec::new();
        for url in resources {
            self.add(Target::from_url(url), &place, &mut problems);
            if is_full(&mut problems) {
                break;
            }
        }
        problems
    }

    /// All of them, in the order in which they were read.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.entries.iter().map(|(target, _)| target)
    }

    fn add(
        &mut self,
        read: Result<Target, Vec<String>>,
        place: &Place,
        problems: &mut Vec<Problem>,
    ) {
        let error = |message| place.problem(Severity::Error, message);
        let target = match read {
            Ok(target) => target,
            Err(messages) => return problems.extend(messages.into_iter().map(error)),
        };
        if let Some((severity, message)) = self.conflict(&target) {
            return problems.push(place.problem(severity, message));
        }
        if !self.networks.contains(&target.network) {
            self.networks.push(target.network.clone());
        }
        self.entries.push((target, place.clone()));
    }

    /// What of the list so far this target contradicts.
    fn conflict(&self, new: &Target) -> Option<(Severity, String)> {
        let Target {
            host,
            network,
            address,
        } = new;
        for (old, place) in &self.entries {
            if old == new {
                let message =
                    format!("{host} on {network} is named twice and counts once: {place}");
                return Some((Severity::Warning, message));
            }
            let message = if old.address == *address {
                format!(
                    "found {address} for {host} on {network}, expected an address of its own: \
                     {place} has it for {} on {}",
                    old.host, old.network
                )
            } else if old.host == *host && old.network == *network {
                format!(
                    "found a second address of {host} on {network}, expected one: {place} has \
                     {}. Give the other one a network of its own",
                    old.address
                )
            } else if old.network == *network && old.address.is_ipv4() != address.is_ipv4() {
                format!(
                    "found {address} on {network}, which has {} ({place}), expected one family: \
                     hosts of one network are each other's witnesses. Name the other network \
                     {network}6 or the like",
                    old.address
                )
            } else {
                continue;
            };
            return Some((Severity::Error, message));
        }
        let is_new_network = !self.networks.contains(network);
        if self.entries.len() >= ADDRESSES_MAX {
            let message = format!("found more addresses, expected {ADDRESSES_MAX} at most");
            Some((Severity::Error, message))
        } else if is_new_network && self.networks.len() >= NETWORKS_MAX {
            let message = format!("found more networks, expected {NETWORKS_MAX} at most");
            Some((Severity::Error, message))
        } else {
            None
        }
    }
}

impl Place {
    fn problem(&self, severity: Severity, message: String) -> Problem {
        let problem = Problem::new(severity, message).in_file(&self.file, self.line);
        match &self.source {
            Some(source) => problem.about(format!("source {source}: resources")),
            None => problem,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, &self.source) {
            (Some(line), _) => write!(f, "line {line} of {}", self.file.display()),
            (None, Some(source)) => write!(f, "a resource of source {source}"),
            (None, None) => write!(f, "{}", self.file.display()),
        }
    }
}

fn is_full(problems: &mut [Problem]) -> bool {
    let is_full = problems.len() >= PROBLEMS_MAX;
    if let (true, Some(last)) = (is_full, problems.last_mut()) {
        last.message.push_str("; what follows is not looked at");
    }
    is_full
}

fn is_network(name: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// An address that another host can have, in its one spelling.
fn usable(text: &str) -> Result<IpAddr, String> {
    let Ok(address) = text.parse::<IpAddr>() else {
        let found = shown(text);
        return Err(if is_host_name(text) {
            format!(
                "found the name {found}, expected an IPv4 or IPv6 address: names are not looked \
                 up, because there may be no resolver in an outage"
            )
        } else {
            format!("found {found}, expected an IPv4 or IPv6 address")
        });
    };
    let address = address.to_canonical();
    let is_unusable = address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || match address {
            IpAddr::V4(address) => address.is_broadcast(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
    if is_unusable {
        return Err(format!(
            "found {address}, expected an address of another host: no loopback, no link-local \
             IPv6, no multicast"
        ));
    }
    Ok(address)
}

fn shown(text: &str) -> String {
    let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if start.len() < text.len() {
        format!("{start:?}…")
    } else {
        format!("{start:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> (List, Vec<String>) {
        let mut list = List::default();
        let problems = list.read_file(Path::new("hosts"), text);
        let told = problems
            .iter()
            .map(|problem| format!("{}: {problem}", problem.severity))
            .collect();
        (list, told)
    }

    fn targets(list: &List) -> Vec<String> {
        list.targets().map(Target::to_string).collect()
    }

    #[test]
    fn lines_and_resources_become_targets() {
        let text = "# controllers look at these\n\n\
                    compute-1 management 10.0.0.21\n  compute-1\tstorage  192.168.0.21  # bond1\r\n\
                    compute-1 mgmt6 FD00:0::21\nnode.example mgmt6 ::ffff:fd00\n";
        let (mut list, problems) = read(text);
        assert_eq!(problems, [""; 0]);
        let more = [
            "icmp://10.0.0.22?host=compute-2&network=management",
            "icmp://[fd00::22]/?network=mgmt6&host=compute-2",
        ];
        let resources = more.map(str::to_owned);
        assert_eq!(
            list.read_resources(Path::new("p.yaml"), "outside", &resources),
            []
        );
        assert_eq!(
            targets(&list),
            [
                "icmp://10.0.0.21?host=compute-1&network=management",
                "icmp://192.168.0.21?host=compute-1&network=storage",
                "icmp://[fd00::21]?host=compute-1&network=mgmt6",
                "icmp://[::ffff:fd00]?host=node.example&network=mgmt6",
                "icmp://10.0.0.22?host=compute-2&network=management",
                "icmp://[fd00::22]?host=compute-2&network=mgmt6",
            ]
        );
    }

    #[test]
    fn every_wrong_line_is_told_at_once_with_what_would_be_right() {
        let (list, problems) = read(
            "compute-1 10.0.0.1\n\
             compute-1 management compute-1.example\n\
             10.0.0.1 manage/ment 10.0.0.300\n\
             a management 10.0.0.1 b\n\
             ok management 10.0.0.1\n\
             b management 127.0.0.1\n\
             c management fe80::1\n\
             ok management 10.0.0.2\n\
             d management 10.0.0.1\n\
             ok storage fd00::1\n\
             d storage 10.1.0.1\n\
             ok management 10.0.0.1\n",
        );
        assert_eq!(
            targets(&list),
            [
                "icmp://10.0.0.1?host=ok&network=management",
                "icmp://[fd00::1]?host=ok&network=storage"
            ]
        );
        assert_eq!(
            problems,
            [
                "error: hosts:1: found 2 fields, expected HOST NETWORK ADDRESS",
                "error: hosts:2: found the name \"compute-1.example\", expected an IPv4 or IPv6 address: names are not looked up, because there may be no resolver in an outage",
                "error: hosts:3: found the host \"10.0.0.1\", expected a name as Nova knows it, 64 letters, digits, '-', '_' and '.' at most",
                "error: hosts:3: found the network \"manage/ment\", expected a name of 64 letters, digits, '-', '_' and '.' at most",
                "error: hosts:3: found \"10.0.0.300\", expected an IPv4 or IPv6 address",
                "error: hosts:4: found 4 fields, expected HOST NETWORK ADDRESS",
                "error: hosts:6: found 127.0.0.1, expected an address of another host: no loopback, no link-local IPv6, no multicast",
                "error: hosts:7: found fe80::1, expected an address of another host: no loopback, no link-local IPv6, no multicast",
                "error: hosts:8: found a second address of ok on management, expected one: line 5 of hosts has 10.0.0.1. Give the other one a network of its own",
                "error: hosts:9: found 10.0.0.1 for d on management, expected an address of its own: line 5 of hosts has it for ok on management",
                "error: hosts:11: found 10.1.0.1 on storage, which has fd00::1 (line 10 of hosts), expected one family: hosts of one network are each other's witnesses. Name the other network storage6 or the like",
                "warning: hosts:12: ok on management is named twice and counts once: line 5 of hosts",
            ]
        );
    }

    #[test]
    fn wrong_resources_are_told_with_their_source() {
        for url in [
            "10.0.0.1",
            "http://10.0.0.1?host=a&network=b",
            "icmp://10.0.0.1",
            "icmp://10.0.0.1?host=a",
            "icmp://10.0.0.1?host=a&network=b&x=1",
            "icmp://10.0.0.1?host=a&host=b&network=c",
            "icmp://fd00::1?host=a&network=b",
            "icmp://[fd00::1?host=a&network=b",
            "icmp://[10.0.0.1]?host=a&network=b",
        ] {
            let mut list = List::default();
            let problems = list.read_resources(Path::new("p.yaml"), "outside", &[url.to_owned()]);
            assert_eq!(
                problems[0].to_string(),
                format!(
                    "p.yaml: source outside: resources: found {url:?}, expected icmp://ADDRESS?host=HOST&network=NETWORK, an IPv6 address in brackets"
                )
            );
            assert_eq!(problems.len(), 1, "{url}");
            assert_eq!(list.targets().count(), 0);
        }
        assert!(
            Target::from_url("icmp://host-1?host=a&network=b").unwrap_err()[0].contains("the name")
        );
    }

    #[test]
    fn a_list_is_bounded() {
        let line = |n: usize| format!("h{n} net 10.0.{}.{}\n", n / 250, n % 250 + 1);
        let full: String = (0..ADDRESSES_MAX).map(line).collect();
        let (list, problems) = read(&full);
        assert_eq!((list.targets().count(), problems.len()), (ADDRESSES_MAX, 0));
        let (list, problems) = read(&(full + &line(ADDRESSES_MAX)));
        assert_eq!(list.targets().count(), ADDRESSES_MAX);
        assert_eq!(
            problems,
            ["error: hosts:1001: found more addresses, expected 1000 at most"]
        );

        let networks: String = (0..=NETWORKS_MAX)
            .map(|n| format!("h net{n} 10.0.0.{n}\n"))
            .collect();
        assert_eq!(
            read(&networks).1,
            ["error: hosts:33: found more networks, expected 32 at most"]
        );

        let name = "n".repeat(NAME_CHARS_MAX / 2 - 1) + ".";
        let name = name.clone() + &name[1..] + "nn";
        assert_eq!(name.len(), NAME_CHARS_MAX + 1);
        let fits = &name[1..];
        assert_eq!(read(&format!("{fits} {fits} 10.0.0.1")).1, [""; 0]);
        assert_eq!(read(&format!("{name} {name} 10.0.0.1")).1.len(), 2);

        let comment = |length| format!("a b 10.0.0.1 #{}", "x".repeat(length - 14));
        assert_eq!(read(&comment(LINE_BYTES_MAX)).1, [""; 0]);
        assert_eq!(
            read(&comment(LINE_BYTES_MAX + 1)).1,
            ["error: hosts:1: found a line of 1025 bytes, expected 1024 at most"]
        );

        let garbage = "x\n".repeat(FILE_BYTES_MAX / 2);
        let problems = read(&garbage).1;
        assert_eq!(problems.len(), PROBLEMS_MAX);
        assert!(problems[PROBLEMS_MAX - 1].ends_with("what follows is not looked at"));
        assert_eq!(read(&(garbage + "\n")).1.len(), 1);
    }

    proptest! {
        #[test]
        fn a_target_reads_its_own_url(host in "[a-z][a-z0-9]{0,9}", network in "[a-z0-9._-]{1,9}", address: u128, v4: bool) {
            let address = if v4 { IpAddr::from(u32::try_from(address % (1 << 32)).unwrap().to_be_bytes()) } else { IpAddr::from(address.to_be_bytes()) };
            if let Ok(target) = Target::new(&host, &network, &address.to_string()) {
                prop_assert_eq!(Target::from_url(&target.to_string()), Ok(target));
            }
        }

        #[test]
        fn no_text_is_too_strange(text in any::<String>(), url in "icmp://[\\[\\]:a-f0-9?&=.]{0,30}") {
            let _ = read(&text);
            let _ = Target::from_url(&url);
        }
    }
}
