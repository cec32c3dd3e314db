//! Pure. Turns samples into readings: tags them with what the host is known by and
//! how often they come, and numbers them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::model::{Identity, Metadata, Reading, Sample, Value, Volume, meters};

/// The key under which tags appear once more, as an existing decider looks for them.
const USER_METADATA: &str = "user_metadata";
/// The key under which a reading says how often it comes, in seconds: who looks at it later must
/// know when it is overdue.
const INTERVAL: &str = "interval";

/// Numbers everything that one life of an agent says. Numbers start at 1 and none is given twice.
#[derive(Debug)]
pub struct Emitter {
    observer: String,
    epoch: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last_seq: u64,
    tags: Metadata,
}

impl Emitter {
    /// An emitter for one epoch. `tags` go into every reading's metadata.
    pub fn new(
        observer: &str,
        epoch: u64,
        cluster: Option<&str>,
        host_tags: &[(String, String)],
    ) -> Self {
        Emitter {
            observer: observer.to_owned(),
            epoch,
            state: Mutex::new(State {
                last_seq: 0,
                tags: tags(cluster, host_tags),
            }),
        }
    }

    /// Other tags from the next number on; numbers go on.
    pub fn retag(&self, cluster: Option<&str>, host_tags: &[(String, String)]) {
        self.state().tags = tags(cluster, host_tags);
    }

    /// The epoch that it numbers in.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Numbers the samples of one round, which comes every `interval`, and hands them to `publish` before anybody else gets a
    /// number, so that they leave in the order of their numbers.
    pub fn emit(
        &self,
        interval: Duration,
        samples: Vec<Sample>,
        publish: impl FnOnce(Vec<Reading>),
    ) {
        let mut state = self.state();
        let number = |sample| {
            state.last_seq += 1;
            self.reading(&state, interval, sample)
        };
        let readings: Vec<Reading> = samples.into_iter().map(number).collect();
        publish(readings);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading(&self, state: &State, interval: Duration, mut sample: Sample) -> Reading {
        let seq = state.last_seq;
        let declared = Value::from(interval.as_secs_f64());
        sample.metadata.insert(INTERVAL.to_owned(), declared);
        tag(&state.tags, &mut sample.metadata);
        if sample.meter == meters::HEARTBEAT {
            sample.volume = Volume::Int(i64::try_from(seq).unwrap_or(i64::MAX));
        }
        let identity = Identity {
            observer: self.observer.clone(),
            epoch: self.epoch,
            seq,
        };
        Reading {
            message_id: message_id(&identity),
            identity,
            sample,
        }
    }
}

fn tags(cluster: Option<&str>, host_tags: &[(String, String)]) -> Metadata {
    let cluster = cluster.map(|cluster| ("cluster", cluster));
    let others = host_tags
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    others
        .chain(cluster)
        .map(|(key, value)| (key.to_owned(), Value::from(value)))
        .collect()
}

/// As `cluster` and as `user_metadata.cluster`; what a pollster said itself stays, there as well.
fn tag(tags: &Metadata, metadata: &mut Metadata) {
    if tags.is_empty() {
        return;
    }
    for (key, value) in tags {
        metadata.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let user_metadata = metadata
        .entry(USER_METADATA.to_owned())
        .or_insert_with(|| Value::Map(Vec::new()));
    if let Value::Map(entries) = user_metadata {
        for (key, value) in tags {
            if !entries.iter().any(|(known, _)| known == key) {
                entries.push((key.clone(), value.clone()));
            }
        }
    }
}

/// An id in the form of a UUID (RFC 9562, version 8) that is the same for every path the reading
/// takes and, by way of the epoch, differs from every other.
fn message_id(identity: &Identity) -> String {
    let mut hasher = Sha256::new();
    hasher.update(identity.observer.as_bytes());
    hasher.update([0]);
    hasher.update(identity.epoch.to_be_bytes());
    hasher.update(identity.seq.to_be_bytes());
    let digest = hasher.finalize();
    let mut bits = digest
        .iter()
        .take(16)
        .fold(0u128, |bits, byte| (bits << 8) | u128::from(*byte));
    bits = (bits & !(0xf << 76)) | (0x8 << 76);
    bits = (bits & !(0x3 << 62)) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let mut id = String::with_capacity(36);
    for (at, digit) in hex.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            id.push('-');
        }
        id.push(digit);
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Meter, UtcTime};

    fn sample(meter: Meter) -> Sample {
        Sample {
            meter,
            volume: Volume::Int(0),
            resource_id: "n".into(),
            user_id: None,
            project_id: None,
            timestamp: UtcTime::from_unix_micros(0),
            metadata: Metadata::from([("node".to_owned(), Value::from("n"))]),
        }
    }

    fn emit(emitter: &Emitter, samples: Vec<Sample>) -> Vec<Reading> {
        let mut all = Vec::new();
        emitter.emit(Duration::from_secs(1), samples, |readings| all = readings);
        all
    }

    #[test]
    fn numbers_go_on_and_the_heartbeat_counts_them() {
        let emitter = Emitter::new("n", 7, None, &[]);
        let first = emit(
            &emitter,
            vec![
                sample(meters::STORAGE_CONNECTIVITY),
                sample(meters::HEARTBEAT),
            ],
        );
        let second = emit(&emitter, vec![sample(meters::HEARTBEAT)]);
        let seqs: Vec<u64> = first
            .iter()
            .chain(&second)
            .map(|reading| reading.identity.seq)
            .collect();
        assert_eq!(seqs, [1, 2, 3]);
        assert_eq!(second[0].sample.volume, Volume::Int(3));
        assert_eq!(
            first[0].sample.volume,
            Volume::Int(0),
            "only the heartbeat counts"
        );
    }

    #[test]
    fn other_tags_hold_from_the_next_number_on() {
        let emitter = Emitter::new("n", 7, Some("blue"), &[]);
        let before = emit(&emitter, vec![sample(meters::HEARTBEAT)]);
        emitter.retag(None, &[("rack".to_owned(), "r7".to_owned())]);
        let after = emit(&emitter, vec![sample(meters::HEARTBEAT)]);
        assert_eq!((before[0].identity.seq, after[0].identity.seq), (1, 2));
        assert_eq!(before[0].sample.metadata["cluster"], Value::from("blue"));
        assert!(!after[0].sample.metadata.contains_key("cluster"));
        assert_eq!(after[0].sample.metadata["rack"], Value::from("r7"));
    }

    #[test]
    fn message_ids_are_uuids_and_differ() {
        let of = |epoch, seq| {
            message_id(&Identity {
                observer: "n".into(),
                epoch,
                seq,
            })
        };
        let id = of(1, 1);
        let groups: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "8");
        assert!("89ab".contains(&id[19..20]));
        assert_ne!(id, of(1, 2));
        assert_ne!(id, of(2, 1));
        assert_eq!(id, of(1, 1), "the same on every path");
    }

    #[test]
    fn tags_appear_twice_and_replace_nothing() {
        let tags = [
            ("rack".to_owned(), "r7".to_owned()),
            ("node".to_owned(), "other".to_owned()),
        ];
        let emitter = Emitter::new("n", 1, Some("blue"), &tags);
        let metadata = emit(&emitter, vec![sample(meters::HEARTBEAT)])[0]
            .sample
            .metadata
            .clone();
        assert_eq!(metadata["cluster"], Value::from("blue"));
        assert_eq!(metadata["rack"], Value::from("r7"));
        assert_eq!(metadata["node"], Value::from("n"));
        assert_eq!(metadata["interval"], Value::from(1.0));
        let again = metadata[USER_METADATA].as_map().unwrap();
        assert!(again.contains(&("cluster".to_owned(), Value::from("blue"))));
    }

    #[test]
    fn tags_join_user_metadata_that_is_there() {
        let tags = [("rack".to_owned(), "r7".to_owned())];
        let emitter = Emitter::new("n", 1, Some("blue"), &tags);
        let mut of_a_user = sample(meters::INSTANCE);
        let entries = vec![
            ("stack".to_owned(), Value::from("web")),
            ("rack".to_owned(), Value::from("mine")),
        ];
        let key = USER_METADATA.to_owned();
        of_a_user.metadata.insert(key, Value::Map(entries));
        let metadata = emit(&emitter, vec![of_a_user])[0].sample.metadata.clone();
        assert_eq!(metadata["rack"], Value::from("r7"));
        let mut entries = metadata[USER_METADATA].as_map().unwrap().to_vec();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [("cluster", "blue"), ("rack", "mine"), ("stack", "web")];
        let expected = expected.map(|(key, value)| (key.to_owned(), Value::from(value)));
        assert_eq!(entries, expected);
    }
}
