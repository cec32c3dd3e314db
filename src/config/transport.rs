//! Pure. The URL of a message broker, read as oslo.messaging reads its `transport_url`.

use std::net::Ipv6Addr;

use super::broker::{BROKERS_MAX, BrokerMember};
use super::connection::{decoded, host_and_port};
use crate::model::Secret;

/// The port of AMQP where a URL names none.
pub(super) const AMQP_PORT: u16 = 5672;

/// Who logs in, and with which password, where nothing is said: as RabbitMQ is delivered.
const GUEST: &str = "guest";

/// The most options of a URL that are looked at. The driver has some fifty; with more it is something
/// else, and is refused.
const OPTIONS_MAX: usize = 64;

/// What a URL looks like, for messages.
const EXPECTED: &str = "rabbit://USER:PASSWORD@HOST:PORT[,USER:PASSWORD@HOST:PORT]/VIRTUAL_HOST with / ? # and , \
                        in a name or a password written %2F %3F %23 and %2C";

/// Drivers of oslo.messaging, which may be named in a message: another word may be anything.
const FOREIGN_DRIVERS: &[&str] = &["amqp", "fake", "kafka", "kombu", "pika", "qpid", "zmq"];

/// What a URL says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Transport {
    /// The brokers; none if it names no host.
    pub(super) members: Vec<BrokerMember>,
    /// The virtual host, if it names one.
    pub(super) virtual_host: Option<String>,
    /// Options of the driver, with their values.
    pub(super) options: Vec<(String, String)>,
    /// Some brokers have a user and a password, and others don't.
    pub(super) has_mixed_logins: bool,
    /// Something stands behind a `#`, where nobody reads it.
    pub(super) has_fragment: bool,
}

/// Reads a URL; the empty one says nothing. The error says what would have been right, and repeats
/// nothing of the URL but a driver's name.
pub(super) fn parse(url: &str) -> Result<Transport, String> {
    if url.is_empty() {
        return Ok(Transport::default());
    }
    let (driver, rest) = url.split_once("://").ok_or(EXPECTED)?;
    check_driver(driver)?;
    let (rest, fragment) = cut(rest, '#');
    let (rest, query) = cut(rest, '?');
    let (hosts, path) = cut(rest, '/');
    let listed = hosts.split(',').filter(|member| !member.is_empty());
    let members = listed.map(member).collect::<Result<Vec<_>, _>>()?;
    if members.len() > BROKERS_MAX {
        return Err(format!("{BROKERS_MAX} brokers at most"));
    }
    let complete = members.iter().filter(|(_, is_complete)| *is_complete);
    let complete = complete.count();
    Ok(Transport {
        has_mixed_logins: complete > 0 && complete < members.len(),
        members: members.into_iter().map(|(member, _)| member).collect(),
        virtual_host: path.map(virtual_host).transpose()?,
        options: options(query.unwrap_or_default())?,
        has_fragment: fragment.is_some_and(|fragment| !fragment.is_empty()),
    })
}

fn check_driver(driver: &str) -> Result<(), String> {
    match driver.to_ascii_lowercase().as_str() {
        "rabbit" => Ok(()),
        driver if FOREIGN_DRIVERS.contains(&driver) => Err(format!(
            "{EXPECTED}: this build has no driver {driver}, it has rabbit"
        )),
        _ => Err(EXPECTED.to_owned()),
    }
}

/// What stands before a sign, and what behind it if it is there.
fn cut(text: &str, sign: char) -> (&str, Option<&str>) {
    match text.split_once(sign) {
        Some((before, behind)) => (before, Some(behind)),
        None => (text, None),
    }
}

/// A broker, and whether it has both user and password. What a URL leaves out is what RabbitMQ is
/// delivered with; an earlier broker's login is not taken over.
fn member(text: &str) -> Result<(BrokerMember, bool), String> {
    let (login, address) = match text.rsplit_once('@') {
        Some((login, address)) => (Some(login), address),
        None => (None, text),
    };
    let (user, password) = login.map_or((None, None), |login| {
        let (user, password) = cut(login, ':');
        (Some(user), password)
    });
    let is_complete = user.is_some() && password.is_some();
    let (host, port) = host_of(address).ok_or(EXPECTED)?;
    let member = BrokerMember {
        host,
        port,
        user: or_guest(user, "the user")?,
        password: Secret::new(or_guest(password, "the password")?),
    };
    Ok((member, is_complete))
}

fn or_guest(text: Option<&str>, what: &str) -> Result<String, String> {
    match text.filter(|text| !text.is_empty()) {
        Some(text) => unescaped(text, false, what),
        None => Ok(GUEST.to_owned()),
    }
}

/// Host and port; an address of IPv6 may stand without brackets if no port follows.
fn host_of(address: &str) -> Option<(String, u16)> {
    if let Ok(bare) = address.parse::<Ipv6Addr>() {
        return Some((bare.to_string(), AMQP_PORT));
    }
    match address.strip_prefix(':') {
        Some(_) => host_and_port(&format!("localhost{address}"), AMQP_PORT),
        None if address.is_empty() => Some(("localhost".to_owned(), AMQP_PORT)),
        None => host_and_port(address, AMQP_PORT),
    }
}

/// The path is the virtual host, and an empty one stands for that of the name `/`.
fn virtual_host(path: &str) -> Result<String, String> {
    match path {
        "" => Ok("/".to_owned()),
        path => unescaped(path, false, "the virtual host"),
    }
}

/// Options without a value are left out; values of a repeated one are joined by commas.
fn options(query: &str) -> Result<Vec<(String, String)>, String> {
    let mut options: Vec<(String, String)> = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if value.is_empty() {
            continue;
        }
        let name = unescaped(name, true, "the options")?;
        let value = unescaped(value, true, "the options")?;
        match options.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => {
                values.push(',');
                values.push_str(&value);
            }
            None => options.push((name, value)),
        }
        if options.len() > OPTIONS_MAX {
            return Err(format!("{OPTIONS_MAX} options behind ? at most"));
        }
    }
    Ok(options)
}

fn unescaped(text: &str, has_plus: bool, what: &str) -> Result<String, String> {
    decoded(text, has_plus, what).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Members as `user:password@host:port`, an address of IPv6 in brackets.
    fn shown(transport: &Transport) -> Vec<String> {
        let members = transport.members.iter();
        members
            .map(|member| format!("{}:{}@{member}", member.user, member.password.expose()))
            .collect()
    }

    #[test]
    fn what_is_refused_says_what_would_be_right_and_nothing_of_the_url() {
        for (url, word) in [
            ("s3cret", "rabbit://USER"),
            ("s3cret://h", "rabbit://USER"),
            ("kafka://u:s3cret@h", "no driver kafka"),
            ("amqp://u:s3cret@h", "no driver amqp"),
            ("rabbit://u:s3cret/x@h:5672/", "%2F"),
            ("rabbit://u:s3cret?x@h:5672/", "%3F"),
            ("rabbit://u:s3cret#x@h:5672/", "%23"),
            ("rabbit://u:s3c,ret@h:5672/", "%2C"),
            ("rabbit://u:s3cret@h:/", "rabbit://USER"),
            ("rabbit://u:s3cret@h:0/", "rabbit://USER"),
            ("rabbit://u:s3cret@h:65536/", "rabbit://USER"),
            ("rabbit://u:s3cret@h:amqp/", "rabbit://USER"),
            ("rabbit://u:s3cret@a b/", "rabbit://USER"),
            ("rabbit://u:s3cret@[::1/", "rabbit://USER"),
            ("rabbit://u:s3cret@[::1]5672/", "rabbit://USER"),
            ("rabbit://u:s3cret@[h]/", "rabbit://USER"),
            ("rabbit://u:s3cret@fd00::1:x/", "rabbit://USER"),
            ("rabbit://u:s3cret%ff@h/", "UTF-8 behind % in the password"),
            (
                "rabbit://u:s3cret@h/%ff",
                "UTF-8 behind % in the virtual host",
            ),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(word), "{url}: {error}");
            assert!(!error.contains("s3c"), "{url}: {error}");
        }
    }

    #[test]
    fn so_many_brokers_and_options_and_no_more() {
        let hosts = |count: usize| format!("rabbit://{}/", vec!["h"; count].join(","));
        assert_eq!(
            parse(&hosts(BROKERS_MAX)).unwrap().members.len(),
            BROKERS_MAX
        );
        assert!(
            parse(&hosts(BROKERS_MAX + 1))
                .unwrap_err()
                .contains("16 brokers")
        );
        let options = |count: usize| {
            let pairs: Vec<String> = (0..count).map(|number| format!("o{number}=1")).collect();
            format!("rabbit://h/?{}", pairs.join("&"))
        };
        let most = parse(&options(OPTIONS_MAX)).unwrap();
        assert_eq!(most.options.len(), OPTIONS_MAX);
        assert!(
            parse(&options(OPTIONS_MAX + 1))
                .unwrap_err()
                .contains("64 options")
        );
    }

    #[test]
    fn what_nobody_reads_is_noticed() {
        let found = parse("rabbit://u:p@a,b/v#x").unwrap();
        assert!(found.has_fragment && found.has_mixed_logins);
        let found = parse("rabbit://u:p@a,u:q@b/v#").unwrap();
        assert!(!found.has_fragment && !found.has_mixed_logins);
        assert!(!parse("rabbit://a,b/v").unwrap().has_mixed_logins);
        assert!(parse("rabbit://u@a,u:p@b/v").unwrap().has_mixed_logins);
    }

    proptest! {
        #[test]
        fn whatever_a_name_is_it_comes_through_and_is_not_shown(
            user in "[^\\p{C}]{1,8}",
            password in "[^\\p{C}]{1,12}",
            virtual_host in "[^\\p{C}]{1,8}",
        ) {
            let coded = |text: &str| -> String {
                text.bytes().map(|byte| format!("%{byte:02X}")).collect()
            };
            let login = format!("{}:{}", coded(&user), coded(&password));
            let url = format!("rabbit://{login}@[fd00::1]:1,{login}@b/{}", coded(&virtual_host));
            let found = parse(&url).unwrap();
            let expected = [format!("{user}:{password}@[fd00::1]:1"), format!("{user}:{password}@b:5672")];
            prop_assert_eq!(shown(&found), expected);
            prop_assert_eq!(found.virtual_host.as_deref(), Some(virtual_host.as_str()));
            let long = password.chars().count() > 6;
            let debug = format!("{:?}", found.members);
            prop_assert!(!long || !debug.contains(&password));
        }

        #[test]
        fn no_text_panics_and_no_error_repeats_it(text in "\\PC{0,40}", begin in 0..4usize) {
            let begin = ["", "rabbit://", "rabbit://u:", "rabbit://u:p@h/"][begin];
            if let Err(error) = parse(&format!("{begin}{text}")) {
                prop_assert!(text.len() < 8 || !error.contains(&text));
            }
        }
    }
}
