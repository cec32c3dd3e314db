//! Pure. `notifier://` publishers: their URLs' options, as current Ceilometer reads them.

use super::target::{Found, Odd, Publisher, PublisherError};

/// The longest topic: a queue's name has 255 bytes, and `.sample` is added.
const TOPIC_CHARS_MAX: usize = 200;
/// The most rounds that a `max_queue_length` may ask for: a day of one round each second takes more, and
/// is for a disk.
const QUEUE_LENGTH_MAX: usize = 65_536;
/// The most tries that a `max_retry` may ask for.
const RETRIES_MAX: u32 = 100_000;
/// The longest part of a wrong value that is repeated in a message.
const VALUE_CHARS_MAX: usize = 16;

/// What Ceilometer takes where a URL says nothing.
const QUEUE_LENGTH: usize = 1024;
const RETRIES: u32 = 100;

/// A topic on the message broker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NotifierTarget {
    /// The topic; its queue and routing key are `TOPIC.sample`.
    pub topic: String,
    /// What becomes of what can't be delivered.
    pub policy: Policy,
    /// Whether every message is sent once more, named by its meter.
    pub per_meter: bool,
    /// `notifier://?topic=TOPIC`: what readings call this path.
    pub path: String,
}

/// What becomes of rounds that can't be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// They are lost.
    Drop,
    /// They are tried so often, and then lost.
    Retry(u32),
    /// So many are kept until there is a way again.
    Queue(usize),
}

impl NotifierTarget {
    /// Reads what stands behind `notifier://`; the topic is this one unless the URL names one.
    pub(super) fn parse(rest: &str, topic: &str) -> Result<Found, PublisherError> {
        let rest = rest.split('#').next().unwrap_or_default();
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, folder) = before.split_once('/').unwrap_or((before, ""));
        if !authority.is_empty() {
            return Err(PublisherError::OwnBroker);
        }
        let mut odd = Vec::new();
        if !folder.is_empty() {
            odd.push(Odd::Ignored("found something".to_owned()));
        }
        let options = Options::read(query, &mut odd)?;
        let target = options.target(topic, &mut odd)?;
        Ok(Found {
            publisher: Publisher::Notifier(target),
            odd,
        })
    }

    /// The URL in one spelling, with every option that isn't Ceilometer's default.
    pub fn url(&self) -> String {
        let NotifierTarget {
            policy,
            per_meter,
            path,
            topic: _,
        } = self;
        let policy = match policy {
            Policy::Drop => "&policy=drop".to_owned(),
            Policy::Retry(RETRIES) => String::new(),
            Policy::Retry(tries) => format!("&max_retry={tries}"),
            Policy::Queue(QUEUE_LENGTH) => "&policy=queue".to_owned(),
            Policy::Queue(rounds) => format!("&policy=queue&max_queue_length={rounds}"),
        };
        let per_meter = if *per_meter { "&per_meter_topic=1" } else { "" };
        format!("{path}{policy}{per_meter}")
    }
}

/// The last value of each option.
#[derive(Default)]
struct Options {
    topic: Option<String>,
    policy: Option<String>,
    max_queue_length: Option<String>,
    per_meter_topic: Option<String>,
    max_retry: Option<String>,
}

impl Options {
    fn read(query: &str, odd: &mut Vec<Odd>) -> Result<Self, PublisherError> {
        let mut options = Options::default();
        for part in query.split('&') {
            // An option without a value counts as absent, as it does in Ceilometer.
            let Some((name, value)) = part.split_once('=').filter(|(_, value)| !value.is_empty())
            else {
                continue;
            };
            let place = match &*decode(name) {
                "topic" if options.topic.is_some() => return Err(PublisherError::Topics),
                "topic" => &mut options.topic,
                "policy" => &mut options.policy,
                "max_queue_length" => &mut options.max_queue_length,
                "per_meter_topic" => &mut options.per_meter_topic,
                "max_retry" => &mut options.max_retry,
                "driver" => {
                    odd.push(Odd::Driver);
                    continue;
                }
                name => {
                    odd.push(Odd::option(name));
                    continue;
                }
            };
            *place = Some(decode(value));
        }
        Ok(options)
    }

    fn target(self, topic: &str, odd: &mut Vec<Odd>) -> Result<NotifierTarget, PublisherError> {
        let topic = self.topic.as_deref().unwrap_or(topic);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !(1..=TOPIC_CHARS_MAX).contains(&topic.len()) || !topic.chars().all(is_plain) {
            return Err(PublisherError::Topic);
        }
        let tries = number(
            self.max_retry.as_deref(),
            |tries| *tries <= RETRIES_MAX,
            ("max_retry", "a whole number up to 100000"),
        )?;
        let rounds = number(
            self.max_queue_length.as_deref(),
            |rounds| (1..=QUEUE_LENGTH_MAX).contains(rounds),
            (
                "max_queue_length",
                "a whole number from 1 to 65536, for no queue here is without bound",
            ),
        )?;
        let per_meter = number(
            self.per_meter_topic.as_deref(),
            |truth: &u8| *truth <= 1,
            ("per_meter_topic", "0 or 1"),
        )?;
        // The first try is none of again; who asks for none has it all the same.
        let retry = Policy::Retry(tries.unwrap_or(RETRIES).max(1));
        let policy = match self.policy.as_deref() {
            None | Some("default") => retry,
            Some("queue") => Policy::Queue(rounds.unwrap_or(QUEUE_LENGTH)),
            Some("drop") => Policy::Drop,
            Some(other) => {
                odd.push(Odd::Policy(shown(other)));
                retry
            }
        };
        Ok(NotifierTarget {
            path: format!("notifier://?topic={topic}"),
            topic: topic.to_owned(),
            policy,
            per_meter: per_meter == Some(1),
        })
    }
}

fn number<T: std::str::FromStr>(
    text: Option<&str>,
    fits: impl Fn(&T) -> bool,
    (name, expected): (&'static str, &'static str),
) -> Result<Option<T>, PublisherError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let is_plain = text.chars().all(|c| c.is_ascii_digit());
    let number = text.parse().ok().filter(|number| is_plain && fits(number));
    number.map(Some).ok_or_else(|| PublisherError::Option {
        name,
        found: shown(text),
        expected,
    })
}

fn shown(text: &str) -> String {
    text.chars().take(VALUE_CHARS_MAX).collect()
}

/// Text of a query: `+` is a blank, `%41` a byte; what is no such thing stays.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let escaped = rest
            .get(1..3)
            .filter(|hex| c == '%' && hex.chars().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let taken = match (escaped, c) {
            (Some(byte), _) => {
                bytes.push(byte);
                3
            }
            (None, '+') => {
                bytes.push(b' ');
                1
            }
            (None, c) => {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                c.len_utf8()
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOPIC: &str = "metering_ha";

    fn parse(url: &str) -> Result<(NotifierTarget, Vec<Odd>), PublisherError> {
        let Found { publisher, odd } = Publisher::parse(url, TOPIC)?;
        match publisher {
            Publisher::Notifier(target) => Ok((target, odd)),
            Publisher::Udp(target) => panic!("{target:?}"),
        }
    }

    #[test]
    fn options_are_read_as_current_ceilometer_does() {
        for (url, topic, policy, per_meter) in [
            ("notifier://", TOPIC, Policy::Retry(100), false),
            ("notifier", TOPIC, Policy::Retry(100), false),
            ("notifier:///", TOPIC, Policy::Retry(100), false),
            ("notifier://?", TOPIC, Policy::Retry(100), false),
            ("notifier://?topic=", TOPIC, Policy::Retry(100), false),
            ("notifier://?topic=a", "a", Policy::Retry(100), false),
            (
                "notifier://?topic=a%2Eb#x",
                "a.b",
                Policy::Retry(100),
                false,
            ),
            (
                "notifier://?policy=drop&max_retry=5",
                TOPIC,
                Policy::Drop,
                false,
            ),
            (
                "notifier://?policy=queue",
                TOPIC,
                Policy::Queue(1024),
                false,
            ),
            (
                "notifier://?policy=drop&policy=queue&max_queue_length=9&max_queue_length=7",
                TOPIC,
                Policy::Queue(7),
                false,
            ),
            ("notifier://?max_retry=0", TOPIC, Policy::Retry(1), false),
            (
                "notifier://?max_retry=3&policy=default",
                TOPIC,
                Policy::Retry(3),
                false,
            ),
            (
                "notifier://?per_meter_topic=1",
                TOPIC,
                Policy::Retry(100),
                true,
            ),
            (
                "notifier://?per_meter_topic=1&per_meter_topic=0",
                TOPIC,
                Policy::Retry(100),
                false,
            ),
        ] {
            let target = NotifierTarget {
                topic: topic.to_owned(),
                policy,
                per_meter,
                path: format!("notifier://?topic={topic}"),
            };
            assert_eq!(parse(url), Ok((target, vec![])), "{url}");
        }
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let ignored = |words: &str| Odd::Ignored(words.to_owned());
        for (url, odd) in [
            ("notifier://?driver=kafka", vec![Odd::Driver]),
            (
                "notifier://?copies=2",
                vec![ignored("found the option copies")],
            ),
            (
                "notifier://?pass%20word=2",
                vec![ignored("found something")],
            ),
            ("notifier:///x", vec![ignored("found something")]),
            (
                "notifier://?policy=qeue",
                vec![Odd::Policy("qeue".to_owned())],
            ),
        ] {
            let (target, found) = parse(url).unwrap();
            assert_eq!(found, odd, "{url}");
            assert_eq!(target.policy, Policy::Retry(100), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        use PublisherError::*;
        let option = |name, found: &str, expected| Option {
            name,
            found: found.to_owned(),
            expected,
        };
        let length = "a whole number from 1 to 65536, for no queue here is without bound";
        let tries = "a whole number up to 100000";
        for (url, error) in [
            ("notifier://u:hunter2@h:5672/?topic=a", OwnBroker),
            ("notifier://h", OwnBroker),
            ("notifier://?topic=a&topic=b", Topics),
            ("notifier://?topic=a%20b", Topic),
            ("notifier://?topic=a+b", Topic),
            ("notifier://?topic=a/b", Topic),
            (
                "notifier://?max_retry=ten",
                option("max_retry", "ten", tries),
            ),
            ("notifier://?max_retry=-1", option("max_retry", "-1", tries)),
            ("notifier://?max_retry=+1", option("max_retry", " 1", tries)),
            (
                "notifier://?max_retry=100001",
                option("max_retry", "100001", tries),
            ),
            (
                "notifier://?max_queue_length=0",
                option("max_queue_length", "0", length),
            ),
            (
                "notifier://?max_queue_length=65537",
                option("max_queue_length", "65537", length),
            ),
            (
                "notifier://?per_meter_topic=2",
                option("per_meter_topic", "2", "0 or 1"),
            ),
        ] {
            assert_eq!(parse(url), Err(error), "{url}");
        }
        assert!(Publisher::parse("notifier://", "").is_err());
        assert!(Publisher::parse("notifier://", &"a".repeat(201)).is_err());
    }

    proptest! {
        #[test]
        fn a_url_in_one_spelling_reads_back(
            topic in "[a-z._-]{1,9}",
            policy in prop_oneof![
                Just(Policy::Drop),
                (1u32..200).prop_map(Policy::Retry),
                (1usize..2000).prop_map(Policy::Queue),
            ],
            per_meter: bool,
        ) {
            let path = format!("notifier://?topic={topic}");
            let target = NotifierTarget { topic, policy, per_meter, path: path.clone() };
            prop_assert_eq!(parse(&target.url()), Ok((target.clone(), vec![])));
            prop_assert_eq!(parse(&path).unwrap().0.path, path);
        }

        #[test]
        fn no_query_is_too_strange(query in any::<String>()) {
            let _ = Publisher::parse(&format!("notifier://?{query}"), TOPIC);
        }

        #[test]
        fn what_has_an_escape_is_decoded_and_the_rest_stays(text in "([a-z+%]|%[0-9a-f]{2}|ż){0,9}") {
            let decoded = decode(&text);
            prop_assert!(text.contains(['%', '+']) || decoded == text);
        }
    }
}
