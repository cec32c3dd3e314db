//! Pure. What each kind of option takes: from a text to a value, or to what would be right.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::{self, CommandLine, PluginSpec};
use super::connection::Connection;
use super::options::Kind;
use super::settings::Quorum;
use crate::model::Secret;

/// The longest interface name, as the kernel has it: IFNAMSIZ less the final zero.
const INTERFACE_BYTES_MAX: usize = 15;

/// The longest host name, RFC 1123.
const HOST_BYTES_MAX: usize = 253;

/// The longest part of a host name between dots, RFC 1123.
const LABEL_BYTES_MAX: usize = 63;

/// A value that fits its kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Parsed {
    Text(String),
    Secret(Secret),
    Path(PathBuf),
    File(Option<PathBuf>),
    Bool(bool),
    Int(i64),
    Float(f64),
    Seconds(Duration),
    Words(Vec<String>),
    Sources(Vec<IpAddr>),
    Address(Option<IpAddr>),
    Listen(Option<SocketAddr>),
    Tags(Vec<(String, String)>),
    Quorum(Quorum),
    Command(CommandLine),
    Plugins(Vec<PluginSpec>),
}

/// A text that doesn't fit its kind.
pub(super) struct Wrong {
    /// The part of it that doesn't; None if all of it.
    pub(super) found: Option<String>,
    pub(super) expected: String,
}

pub(super) fn wrong(expected: impl Into<String>) -> Wrong {
    Wrong {
        found: None,
        expected: expected.into(),
    }
}

pub(super) fn wrong_part(found: &str, expected: impl Into<String>) -> Wrong {
    Wrong {
        found: Some(found.to_owned()),
        expected: expected.into(),
    }
}

pub(super) fn parse_kind(kind: Kind, text: &str, base: &Path) -> Result<Parsed, Wrong> {
    let many = matches!(
        kind,
        Kind::List | Kind::Choices(_) | Kind::Hosts | Kind::Sources | Kind::Tags
    );
    // A value that begins on the line below its name still has one line.
    let text = text.strip_prefix('\n').unwrap_or(text);
    if !many && text.contains('\n') {
        return Err(wrong("one line; indented lines continue the value"));
    }
    match kind {
        Kind::Text => Ok(Parsed::Text(text.to_owned())),
        Kind::Secret => Ok(Parsed::Secret(Secret::new(text))),
        Kind::Connection => connection(text, base),
        Kind::Path if text.is_empty() => Err(wrong("a path")),
        Kind::Path => Ok(Parsed::Path(base.join(text))),
        Kind::File if text.is_empty() => Ok(Parsed::File(None)),
        Kind::File => Ok(Parsed::File(Some(base.join(text)))),
        Kind::Interface => interface(text),
        Kind::Bool => truth(text),
        Kind::Int { least, most } => int(text, least, most),
        Kind::Float { least, most } => float(text, least, most).map(Parsed::Float),
        Kind::Seconds { least, most } => seconds(text, least, most),
        Kind::Choice(words) => choice(text, words),
        Kind::Choices(words) => choices(text, words),
        Kind::Multi(words) if words.contains(&text) => Ok(Parsed::Words(items(text))),
        Kind::Multi(words) => Err(wrong(format!("{}: no other is built", one_of(words)))),
        Kind::List => Ok(Parsed::Words(items(text))),
        Kind::Command => command::command(text).map(Parsed::Command),
        Kind::Plugins => command::plugin(text).map(|plugin| Parsed::Plugins(vec![plugin])),
        Kind::Hosts => hosts(text),
        Kind::Sources => sources(text),
        Kind::Address => address(text),
        Kind::Listen => listen(text),
        Kind::Tags => tags(text),
        Kind::Quorum => quorum(text),
    }
}

fn items(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

fn truth(text: &str) -> Result<Parsed, Wrong> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(Parsed::Bool(true)),
        "false" | "0" | "off" | "no" => Ok(Parsed::Bool(false)),
        _ => Err(wrong("true or false")),
    }
}

fn int(text: &str, least: i64, most: i64) -> Result<Parsed, Wrong> {
    let number = text.parse().ok();
    number
        .filter(|number| (least..=most).contains(number))
        .map(Parsed::Int)
        .ok_or_else(|| {
            wrong(if least == i64::MIN {
                format!("a whole number up to {most}")
            } else {
                format!("a whole number from {least} to {most}")
            })
        })
}

fn float(text: &str, least: f64, most: f64) -> Result<f64, Wrong> {
    let number = text.parse().ok();
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| wrong(format!("a number from {least} to {most}")))
}

fn seconds(text: &str, least: f64, most: f64) -> Result<Parsed, Wrong> {
    float(text, least, most)
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number).ok())
        .map(Parsed::Seconds)
        .ok_or_else(|| {
            let has_unit = text.ends_with(|c: char| c.is_ascii_alphabetic());
            let plain = if has_unit { ", without a unit" } else { "" };
            wrong(format!("seconds from {least} to {most}{plain}"))
        })
}

fn choice(text: &str, words: &[&str]) -> Result<Parsed, Wrong> {
    if words.contains(&text) {
        Ok(Parsed::Text(text.to_owned()))
    } else {
        Err(wrong(one_of(words)))
    }
}

fn choices(text: &str, words: &[&str]) -> Result<Parsed, Wrong> {
    let items = items(text);
    if items.is_empty() {
        return Err(wrong(one_of(words)));
    }
    match items.iter().find(|item| !words.contains(&item.as_str())) {
        Some(item) => Err(wrong_part(item, one_of(words))),
        None => Ok(Parsed::Words(items)),
    }
}

fn one_of(words: &[&str]) -> String {
    let words: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| !word.is_empty())
        .collect();
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

fn interface(text: &str) -> Result<Parsed, Wrong> {
    let good = text.len() <= INTERFACE_BYTES_MAX
        && !text.contains(|c: char| c.is_whitespace() || c == '/' || c.is_control());
    if good {
        Ok(Parsed::Text(text.to_owned()))
    } else {
        Err(wrong(format!(
            "the name of one network interface, {INTERFACE_BYTES_MAX} characters at most"
        )))
    }
}

fn hosts(text: &str) -> Result<Parsed, Wrong> {
    let hosts = items(text)
        .iter()
        .map(|item| host(item))
        .collect::<Result<_, _>>()?;
    Ok(Parsed::Words(hosts))
}

fn host(item: &str) -> Result<String, Wrong> {
    let bare = without_brackets(item);
    let expected = "IPv4 or IPv6 addresses or host names, separated by commas";
    match bare.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() || address.is_multicast() => Err(wrong_part(
            item,
            "the address of one host that can answer a ping",
        )),
        Ok(address) => Ok(address.to_string()),
        Err(_) if bare == item && is_host_name(bare) => Ok(bare.to_owned()),
        Err(_) => Err(wrong_part(item, expected)),
    }
}

fn without_brackets(text: &str) -> &str {
    text.strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .filter(|text| text.contains(':'))
        .unwrap_or(text)
}

/// RFC 1123; a name whose last part is a number is a mistyped address.
pub(crate) fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= HOST_BYTES_MAX
        && name.split('.').all(is_label)
        && !last.chars().all(|c| c.is_ascii_digit())
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= LABEL_BYTES_MAX
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

fn sources(text: &str) -> Result<Parsed, Wrong> {
    let expected = "one IPv4 and one IPv6 address at most, separated by a comma";
    let mut addresses: Vec<IpAddr> = Vec::new();
    for item in items(text) {
        let address: IpAddr = without_brackets(&item)
            .parse()
            .map_err(|_| wrong_part(&item, expected))?;
        let is_second = addresses
            .iter()
            .any(|other| other.is_ipv4() == address.is_ipv4());
        if is_second || address.is_unspecified() || address.is_multicast() {
            return Err(wrong_part(&item, expected));
        }
        addresses.push(address);
    }
    Ok(Parsed::Sources(addresses))
}

fn address(text: &str) -> Result<Parsed, Wrong> {
    if text.is_empty() {
        return Ok(Parsed::Address(None));
    }
    without_brackets(text)
        .parse()
        .map(|address| Parsed::Address(Some(address)))
        .map_err(|_| wrong("an IPv4 or IPv6 address, or nothing to switch it off"))
}

fn listen(text: &str) -> Result<Parsed, Wrong> {
    if text.is_empty() {
        return Ok(Parsed::Listen(None));
    }
    text.parse()
        .map(|address| Parsed::Listen(Some(address)))
        .map_err(|_| {
            wrong("address:port such as 127.0.0.1:9180 or [::1]:9180, or nothing to switch it off")
        })
}

fn tags(text: &str) -> Result<Parsed, Wrong> {
    let expected = "key:value, separated by commas, keys of letters, digits, '_' and '-'";
    let mut tags: Vec<(String, String)> = Vec::new();
    for item in items(text) {
        let Some((key, value)) = item.split_once(':') else {
            return Err(wrong_part(&item, expected));
        };
        let (key, value) = (key.trim(), value.trim());
        if !is_label(key) || value.is_empty() || value.contains('\n') {
            return Err(wrong_part(&item, expected));
        }
        if tags.iter().any(|(other, _)| other == key) {
            return Err(wrong_part(&item, "each key once"));
        }
        tags.push((key.to_owned(), value.to_owned()));
    }
    Ok(Parsed::Tags(tags))
}

fn quorum(text: &str) -> Result<Parsed, Wrong> {
    let quorum = match text {
        "any" => Some(Quorum::Any),
        "majority" => Some(Quorum::Majority),
        "all" => Some(Quorum::All),
        number => number
            .parse()
            .ok()
            .filter(|least| *least > 0)
            .map(Quorum::AtLeast),
    };
    quorum
        .map(Parsed::Quorum)
        .ok_or_else(|| wrong("any, majority, all or a number of gateways"))
}

fn connection(text: &str, base: &Path) -> Result<Parsed, Wrong> {
    Connection::based(text, base)
        .map(Parsed::Secret)
        .map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(kind: Kind, text: &str) -> Parsed {
        match parse_kind(kind, text, Path::new("/etc/ha")) {
            Ok(parsed) => parsed,
            Err(wrong) => panic!("{text:?}: expected {}", wrong.expected),
        }
    }

    fn is_wrong(kind: Kind, text: &str) -> bool {
        parse_kind(kind, text, Path::new("/etc/ha")).is_err()
    }

    #[test]
    fn a_file_may_be_unset_and_starts_where_its_option_stands() {
        assert_eq!(ok(Kind::File, ""), Parsed::File(None));
        let expected = Some(PathBuf::from("/etc/ha/hosts"));
        assert_eq!(ok(Kind::File, "hosts"), Parsed::File(expected));
        assert!(is_wrong(Kind::Path, ""));
    }

    #[test]
    fn truth_has_the_words_of_oslo() {
        for (text, truth) in [
            ("True", true),
            ("1", true),
            ("on", true),
            ("YES", true),
            ("False", false),
            ("0", false),
            ("off", false),
            ("no", false),
        ] {
            assert_eq!(ok(Kind::Bool, text), Parsed::Bool(truth), "{text}");
        }
        assert!(is_wrong(Kind::Bool, "y") && is_wrong(Kind::Bool, ""));
    }

    #[test]
    fn numbers_keep_their_range() {
        let kind = Kind::Int { least: 1, most: 9 };
        assert_eq!(ok(kind, "+4"), Parsed::Int(4));
        for text in ["0", "10", "4.0", "four", "", "4 5", "99999999999999999999"] {
            assert!(is_wrong(kind, text), "{text}");
        }
        let kind = Kind::Float {
            least: 0.0,
            most: 1.0,
        };
        assert_eq!(ok(kind, "0.25"), Parsed::Float(0.25));
        for text in ["-0.1", "1.1", "nan", "inf", "half"] {
            assert!(is_wrong(kind, text), "{text}");
        }
    }

    #[test]
    fn gateways_are_addresses_or_names() {
        let words = |words: &[&str]| Parsed::Words(words.iter().map(|w| (*w).to_owned()).collect());
        assert_eq!(
            ok(
                Kind::Hosts,
                " 192.168.0.10, ,gw-1.storage.example,\n[FD00::1], fd00::2,"
            ),
            words(&["192.168.0.10", "gw-1.storage.example", "fd00::1", "fd00::2"])
        );
        for text in [
            "192.168.0.300",
            "192.168.0",
            "0.0.0.0",
            "224.0.0.1",
            "::",
            "gw 1",
            "gw1;reboot",
            "[gw1]",
            "-gw",
            "gw..x",
            "10.0.0.1:80",
            "fe80::1%eth0",
        ] {
            assert!(is_wrong(Kind::Hosts, text), "{text}");
        }
        assert!(is_wrong(Kind::Hosts, &"x".repeat(64)));
        assert!(is_wrong(Kind::Hosts, &"x.".repeat(200)));
    }

    #[test]
    fn sources_are_one_of_each_family() {
        assert_eq!(ok(Kind::Sources, ""), Parsed::Sources(vec![]));
        assert_eq!(
            ok(Kind::Sources, "[fd00::1], 10.0.0.1"),
            Parsed::Sources(vec![
                "fd00::1".parse().unwrap(),
                "10.0.0.1".parse().unwrap()
            ])
        );
        for text in ["10.0.0.1, 10.0.0.2", "eth0", "0.0.0.0"] {
            assert!(is_wrong(Kind::Sources, text), "{text}");
        }
    }

    #[test]
    fn tags_split_at_the_first_colon() {
        assert_eq!(
            ok(Kind::Tags, "rack: r1, url:http://x"),
            Parsed::Tags(vec![
                ("rack".into(), "r1".into()),
                ("url".into(), "http://x".into())
            ])
        );
        for text in ["rack", "rack:", ":r1", "a.b:c", "a:1,a:2"] {
            assert!(is_wrong(Kind::Tags, text), "{text}");
        }
    }

    #[test]
    fn a_file_of_a_database_starts_where_its_option_stands() {
        let url = |text: &str| match ok(Kind::Connection, text) {
            Parsed::Secret(secret) => secret.expose().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(url("sqlite:////var/x.db"), "sqlite:////var/x.db");
        assert_eq!(
            url("sqlite:///x.db?mode=rw"),
            "sqlite:////etc/ha/x.db?mode=rw"
        );
        assert_eq!(url("sqlite+pysqlite:///x.db"), "sqlite:////etc/ha/x.db");
        let mysql = "mysql+pymysql://u:p@h/d?charset=utf8";
        assert_eq!(url(mysql), mysql);
        for text in ["", "x.db", "sqlite:///", "mysql://u:p@h", "secret://h"] {
            assert!(is_wrong(Kind::Connection, text), "{text}");
        }
    }

    #[test]
    fn one_line_means_one_line() {
        assert!(is_wrong(Kind::Text, "a\n# b"));
        assert!(is_wrong(Kind::Secret, "a\nb"));
        assert_eq!(ok(Kind::Text, "\na"), Parsed::Text("a".into()));
        assert_eq!(
            ok(Kind::List, "a,\nb"),
            Parsed::Words(vec!["a".into(), "b".into()])
        );
    }
}
