//! Our reading of `transport_url` against oslo.messaging's: the same URLs, broker by broker. What is
//! refused here and taken there is named.

// A test's helpers may fail as the test itself may.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)] // only the wire's tests sign
#[path = "ceilometer/mod.rs"]
mod ceilometer;

use std::time::Duration;

use ceilometer_ha::config::{BrokerSettings, ConfigText, Loaded, Problems, Purpose, load};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value as Json, json};

/// Generated URLs; oslo.messaging reads all of them in one process.
const GENERATED: usize = 200;

const URLS: &[&str] = &[
    "rabbit://h",
    "rabbit://h/",
    "rabbit://h//",
    "rabbit://h/%2F",
    "RABBIT://h/V",
    "kombu://u:p@h/v",
    "rabbit://u:p@h:5673/v",
    "rabbit://u@h/v",
    "rabbit://u:@h/v",
    "rabbit://:p@h/v",
    "rabbit://u:p@/v",
    "rabbit://u:p@:5673/v",
    "rabbit://u:p@a:1,u2:p2@b:2,u3:p3@c/v",
    "rabbit://u:p@a:1,b:2/v",
    "rabbit://a,b,,c/v",
    "rabbit://u:p@[::1]:5673/v",
    "rabbit://u:p@[fd00::1],[fd00::2]:7/v",
    "rabbit://u:p@fd00::1/v",
    "rabbit://u%40x:p%3Aq%23%3F@h/a%2Fb%20c",
    "rabbit://us@er:pa:ss@h/v",
    "rabbit://u:p@ss@h/v",
    "rabbit://u:p%zz%4@h/v",
    "rabbit://u:p+q@h/a+b",
    "rabbit://żółw:hasło@h/wirtualny",
    "rabbit://h/v?ssl=1&ssl_ca_file=%2Fetc%2Fca.pem&ssl_ca_file=",
    "rabbit://h/v?heartbeat_timeout_threshold=7",
    "rabbit://h/v#fragment",
    // Refused by both.
    "h",
    "kafka://h",
    "rabbit://u:p@h:port/v",
    "rabbit://u:p@h:65536/v",
    "rabbit://u:p@[h]/v",
    "rabbit://u:p@h:/v",
    "rabbit://u:p/q@h:1/v",
    "rabbit://u:p?q@h:1/v",
    "rabbit://u:p#q@h:1/v",
    "rabbit://u:p,q@h:1/v",
];

/// URLs that are taken there and refused here, because nothing that was meant can come of them.
const REFUSED_HERE: &[&str] = &["rabbit://u:p@h:0/v", "rabbit://u:p@a b/v"];

/// A URL that is right and leads nowhere there: the password's `/` isn't escaped again for RabbitMQ's client.
const REFUSED_THERE: &str = "rabbit://u:p%2Fq@h/v";

fn read(url: &str, more: &str) -> Result<Loaded, Problems> {
    let file = ConfigText {
        path: "/etc/ha/ha.conf".into(),
        text: format!(
            "[DEFAULT]\ntransport_url = {}\n{more}",
            url.replace('$', "$$")
        ),
    };
    load(Purpose::Everything, &[file], &[], "node", false)
}

fn broker(url: &str) -> Option<BrokerSettings> {
    let loaded = read(url, "").ok();
    loaded.map(|loaded| loaded.settings.broker)
}

fn shown(settings: &BrokerSettings) -> Json {
    let members = settings.members.iter().map(|member| {
        json!({
            "host": member.host.to_lowercase(), "port": member.port, "user": member.user,
            "password": member.password.expose(), "virtual_host": settings.virtual_host,
        })
    });
    Json::Array(members.collect())
}

fn oslo(urls: &[String]) -> Vec<Json> {
    let asked = serde_json::to_string(urls).unwrap();
    let answer = ceilometer::run_script("transport.py", &[], &asked);
    serde_json::from_value(answer.unwrap_or_else(|problem| panic!("{problem}"))).unwrap()
}

#[test]
fn urls_lead_where_oslo_messaging_goes() {
    let name = "[a-zA-Z0-9&=$_.+!*()%-]{1,6}";
    let host = "(h[a-z0-9]{0,3}|10\\.0\\.0\\.[1-9]|\\[fd00::[1-9]\\])(:[1-9][0-9]{0,3})?";
    let member = format!("({name}:{name}@)?{host}");
    let generated = format!("rabbit://{member}(,{member}){{0,2}}(/{name})?");
    let strategy = proptest::string::string_regex(&generated).unwrap();
    let mut runner = TestRunner::deterministic();
    let urls: Vec<String> = URLS
        .iter()
        .chain(REFUSED_HERE)
        .chain([&REFUSED_THERE])
        .map(|url| (*url).to_owned())
        // kombu decodes a virtual host once more than oslo.messaging encoded it.
        .chain((0..GENERATED).map(|_| {
            strategy
                .new_tree(&mut runner)
                .unwrap()
                .current()
                .replace('%', "")
        }))
        .collect();
    for (url, theirs) in urls.iter().zip(oslo(&urls)) {
        let ours = broker(url);
        if REFUSED_HERE.contains(&url.as_str()) {
            assert!(
                ours.is_none() && !theirs.is_null(),
                "{url}: {ours:?} {theirs}"
            );
            continue;
        }
        let ours = ours.as_ref().map_or(Json::Null, shown);
        if url == REFUSED_THERE {
            assert!(
                ours[0]["password"] == "p/q" && theirs.is_null(),
                "{ours} {theirs}"
            );
            continue;
        }
        assert_eq!(ours, theirs["members"], "{url}");
    }
}

#[test]
fn options_behind_a_question_mark_win() {
    let files = "[oslo_messaging_rabbit]\nssl = false\nssl_ca_file = /other\nssl_cert_file = c.pem\n\
                 ssl_key_file = k.pem\nheartbeat_timeout_threshold = 9\n";
    let url = "rabbit://h/v?ssl=yes&ssl_ca_file=ca.pem&heartbeat_timeout_threshold=0&rabbit_quorum_queue=True";
    let theirs = &oslo(&[url.to_owned()])[0]["options"];
    assert_eq!(theirs["ssl_ca_file"], "ca.pem");
    let broker = read(url, files).unwrap().settings.broker;
    let tls = broker.tls.unwrap();
    assert_eq!(tls.ca.unwrap().to_str(), Some("/etc/ha/ca.pem"));
    assert_eq!(tls.identity.unwrap().1.to_str(), Some("/etc/ha/k.pem"));
    assert_eq!(broker.heartbeat, None);
    assert!(broker.declared.quorum && broker.declared.durable);
    let plain = read("rabbit://h/v", files).unwrap().settings.broker;
    assert_eq!(
        (plain.tls, plain.heartbeat),
        (None, Some(Duration::from_secs(9)))
    );
}

/// What is said about a URL, and whether it can be used.
#[test]
fn what_is_odd_about_a_url_is_said_without_a_word_of_it() {
    for (url, is_usable, words) in [
        ("rabbit://u:s3cret@a,b/v", true, "log in as guest"),
        ("rabbit://u:s3cret@a/v#s3cret", true, "%23"),
        (
            "rabbit://u:s3cret@a/v?kombu_ssl_version=s3cret",
            true,
            "kombu_ssl_version in the URL, which has no effect",
        ),
        (
            "rabbit://u:s3cret@a/v?s3cret=1",
            true,
            "unknown option in the URL, which has no effect",
        ),
        (
            "rabbit://u:s3cret@a/v?ssl_ca_fil=s3cret",
            true,
            "one that is like it",
        ),
        (
            "rabbit://u:s3cret@a/v?ssl=s3cret",
            false,
            "unusable ssl in the URL, expected true or false",
        ),
        (
            "rabbit://u:s3cret@a/v?ssl=1&ssl_cert_file=/s3cret",
            false,
            "ssl_key_file as well",
        ),
        (
            "rabbit://u:s3cret@a/v?ssl=1&ssl_key_file=/s3cret",
            false,
            "ssl_cert_file as well",
        ),
        ("rabbit://u:s3cret@a:x/v", false, "a URL that can't be used"),
    ] {
        let said = match read(url, "") {
            Ok(loaded) => {
                assert!(is_usable, "{url}");
                let lines = loaded.warnings.iter().map(ToString::to_string);
                lines.collect::<Vec<_>>().join("\n")
            }
            Err(problems) => {
                assert!(!is_usable, "{url}: {problems}");
                problems.to_string()
            }
        };
        assert!(said.contains(words), "{url}: {said}");
        assert!(!said.contains("s3cret"), "{url}: {said}");
    }
}

/// Brokers that options name; None where that is an error.
#[test]
fn options_name_brokers_as_well() {
    let section = |lines: &str| format!("[oslo_messaging_rabbit]\nrabbit_port = 99\n{lines}");
    let many = |count: usize| format!("rabbit_hosts = {}", vec!["h"; count].join(","));
    for (url, lines, expected) in [
        ("", "", Some("localhost:99")),
        ("", "rabbit_host = a", Some("a:99")),
        ("", "rabbit_host = [fd00::1]", Some("[fd00::1]:99")),
        ("", "rabbit_host = fd00::1", Some("[fd00::1]:99")),
        (
            "",
            "rabbit_hosts = a, b:7, [::1]:8",
            Some("a:99 b:7 [::1]:8"),
        ),
        ("rabbit://c/v", "rabbit_hosts = a", Some("c:5672")),
        ("rabbit:///v", "rabbit_hosts = a", Some("a:99")),
        ("", "rabbit_hosts =", None),
        ("", "rabbit_hosts = a:b", None),
        ("", "rabbit_host = a b", None),
        ("", &many(16), Some(&vec!["h:99"; 16].join(" "))),
        ("", &many(17), None),
    ] {
        let found = read(url, &section(lines)).ok();
        let found = found.map(|loaded| {
            let members = loaded
                .settings
                .broker
                .members
                .iter()
                .map(ToString::to_string);
            members.collect::<Vec<_>>().join(" ")
        });
        assert_eq!(found.as_deref(), expected, "{url} {lines}");
    }
}
