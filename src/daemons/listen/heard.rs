//! Pure. One message as somebody who listens sees it: what it says, and whether it may be believed.

use std::fmt;

use serde::Serialize;

use crate::model::{Proof, Received, UtcTime, Value};
use crate::status::printable;
use crate::wire::{Refusal, Verifier, Via, accept};

/// A message, or what couldn't be read as one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Heard {
    /// When it came, by our clock.
    at: String,
    /// Whom it came from.
    from: String,
    /// `ok`, or the label of a refusal.
    verdict: &'static str,
    /// The refusal in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// What the message says. Where the verdict isn't `ok`, anybody may have written it.
    #[serde(skip_serializing_if = "Option::is_none")]
    says: Option<Says>,
    /// How its origin is proven, and whether it speaks of now; of a message that is ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<Shown>,
}

/// The part of a message that a person looks for.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct Says {
    observer: Option<String>,
    epoch: Option<u64>,
    seq: Option<u64>,
    path: Option<String>,
    meter: Option<String>,
    volume: Option<f64>,
    unit: Option<String>,
    resource_id: Option<String>,
    timestamp: Option<String>,
    /// Its time before ours, in seconds.
    age_seconds: Option<f64>,
    message_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Shown {
    proof: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<u32>,
    standing: String,
}

/// How many messages were heard, and how many of each verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    verdicts: std::collections::BTreeMap<&'static str, u64>,
}

/// The verdict on a message that may be believed.
const OK: &str = "ok";

impl Heard {
    /// Judges one message as the collector would.
    pub(super) fn of<K: AsRef<str> + Clone>(
        message: Result<Vec<(K, Value)>, Refusal>,
        (verifier, via): (&Verifier, Via<'_>),
        from: &str,
        now: UtcTime,
    ) -> Self {
        let (outcome, says) = match message {
            Ok(message) => {
                let says = Says::claimed(&message, now);
                (accept(message, verifier, via), Some(says))
            }
            Err(refusal) => (Err(refusal), None),
        };
        let (verdict, why) = match &outcome {
            Ok(_) => (OK, None),
            Err(refusal) => (refusal.as_str(), Some(refusal.to_string())),
        };
        Heard {
            at: now.to_string(),
            from: from.to_owned(),
            verdict,
            why,
            says,
            evidence: outcome.ok().map(|received| Shown::of(&received)),
        }
    }
}

impl Says {
    fn claimed<K: AsRef<str>>(message: &[(K, Value)], now: UtcTime) -> Self {
        let value = |name: &str| {
            let found = message.iter().find(|(key, _)| key.as_ref() == name);
            found.map(|(_, value)| value)
        };
        let text = |name| value(name).and_then(Value::as_str).map(str::to_owned);
        let number = |name| value(name).and_then(Value::as_u64);
        let timestamp = text("timestamp");
        let time = timestamp
            .as_deref()
            .and_then(|text| UtcTime::parse(text).ok());
        Says {
            observer: text("ha_observer"),
            epoch: number("ha_epoch"),
            seq: number("ha_seq"),
            path: text("ha_path"),
            meter: text("counter_name"),
            volume: value("counter_volume").and_then(Value::as_f64),
            unit: text("counter_unit"),
            resource_id: text("resource_id"),
            age_seconds: time.map(|time| now.seconds_since(time)),
            timestamp,
            message_id: text("message_id"),
        }
    }
}

impl Shown {
    fn of(received: &Received) -> Self {
        let (proof, key) = match received.evidence.proof {
            Proof::SharedSecret => ("shared_secret", None),
            Proof::HostKey(number) => ("host_key", Some(number)),
        };
        Shown {
            proof,
            key,
            standing: format!("{:?}", received.evidence.standing).to_lowercase(),
        }
    }
}

impl fmt::Display for Heard {
    /// One line for people; what comes from the network can't obey a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.at, self.verdict)?;
        if let Some(why) = &self.why {
            write!(f, ": {why};")?;
        }
        let Some(says) = &self.says else {
            return write!(f, " from {}", self.from);
        };
        if self.evidence.is_none() {
            f.write_str(" whoever wrote it says:")?;
        }
        let or_none = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), printable);
        let number =
            |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let volume = says
            .volume
            .map_or("-".to_owned(), |volume| volume.to_string());
        write!(
            f,
            " {} {}/{} {}={volume}",
            or_none(&says.observer),
            number(says.epoch),
            number(says.seq),
            or_none(&says.meter)
        )?;
        if says.unit.as_deref().is_some_and(|unit| !unit.is_empty()) {
            write!(f, " {}", or_none(&says.unit))?;
        }
        write!(f, " of {}", or_none(&says.resource_id))?;
        if let Some(age) = says.age_seconds {
            write!(f, ", {age:.3} s old")?;
        }
        write!(f, ", by {} from {}", or_none(&says.path), self.from)?;
        match &self.evidence {
            Some(Shown { proof, key, .. }) => {
                let key = key.map_or(String::new(), |key| format!(" {key}"));
                write!(f, ", {proof}{key}")
            }
            None => Ok(()),
        }
    }
}

impl Tally {
    /// One more.
    pub(super) fn add(&mut self, heard: &Heard) {
        *self.verdicts.entry(heard.verdict).or_default() += 1;
    }

    /// How many messages were heard.
    pub(super) fn all(&self) -> u64 {
        self.verdicts.values().sum()
    }

    /// How many of them were refused.
    pub(super) fn refused(&self) -> u64 {
        self.all() - self.verdicts.get(OK).copied().unwrap_or(0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages", self.all())?;
        for (at, (verdict, count)) in self.verdicts.iter().enumerate() {
            write!(f, "{} {count} {verdict}", if at == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Identity, Metadata, Meter, MeterType, Reading, Sample, Secret, Volume};
    use crate::wire::{self, Signing, msgpack};

    const NOW: i64 = 1_462_330_923_000_000;

    fn datagram(observer: &str, secret: &str) -> Vec<u8> {
        let reading = Reading {
            identity: Identity {
                observer: observer.to_owned(),
                epoch: 7,
                seq: 9,
            },
            message_id: "id".to_owned(),
            sample: Sample {
                meter: Meter::new("m", MeterType::Gauge, "W"),
                volume: Volume::Float(0.5),
                resource_id: "r".to_owned(),
                user_id: None,
                project_id: None,
                timestamp: UtcTime::from_unix_micros(NOW - 2_000_000),
                metadata: Metadata::new(),
            },
        };
        wire::encode(
            &reading,
            "udp://h:1",
            &Signing::new("s", Secret::new(secret)),
        )
    }

    fn heard(datagram: &[u8]) -> Heard {
        let message = msgpack::messages(datagram).remove(0);
        let verifier = Verifier::new(Secret::new("right"));
        let now = UtcTime::from_unix_micros(NOW);
        Heard::of(message, (&verifier, Via::Anywhere), "192.0.2.1:5", now)
    }

    #[test]
    fn a_message_says_who_what_and_how_old_and_a_forged_one_that_anybody_may_have_said_it() {
        let good = heard(&datagram("n", "right"));
        assert_eq!(
            good.to_string(),
            "2016-05-04T03:02:03.000000 ok n 7/9 m=0.5 W of r, 2.000 s old, by udp://h:1 from \
             192.0.2.1:5, shared_secret"
        );
        let json = serde_json::to_value(&good).unwrap();
        assert_eq!(json["says"]["epoch"], 7);
        assert_eq!(json["evidence"]["proof"], "shared_secret");
        assert_eq!(json["evidence"]["standing"], "live");
        let forged = heard(&datagram("n\u{1b}[2J", "wrong"));
        let line = forged.to_string();
        assert!(line.contains("bad_signature: the message's signature is wrong; whoever wrote it says: n\u{fffd}[2J 7/9"), "{line}");
        assert!(forged.evidence.is_none());
        let noise = heard(&[0xc1]);
        assert!(noise.to_string().ends_with("from 192.0.2.1:5"), "{noise}");
        let mut tally = Tally::default();
        for one in [&good, &good, &forged, &noise] {
            tally.add(one);
        }
        assert_eq!((tally.all(), tally.refused()), (4, 2));
        assert_eq!(
            tally.to_string(),
            "4 messages: 1 bad_signature, 1 not_msgpack, 2 ok"
        );
    }
}
