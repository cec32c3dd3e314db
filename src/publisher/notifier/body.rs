//! Pure. Rounds as bodies: one round is one body, unless it is large.

use crate::model::{Reading, UtcTime, Value};
use crate::publisher::queue::Batch;
use crate::wire::envelope::Notification;
use crate::wire::{self, Message, Signing};

/// Readings in one body: what is lost with it is sent again as a whole.
const READINGS_MAX: usize = 128;
/// The most bytes of a body. What alone has more is refused: no message of ours comes near.
const BODY_BYTES_MAX: usize = 128 << 10;
/// The key by which messages are told apart where each meter has a notification of its own.
const METER: &str = "counter_name";

/// How bodies are made.
pub(super) struct Maker<'a> {
    /// The host that sends.
    pub(super) host: &'a str,
    /// The topic.
    pub(super) topic: &'a str,
    /// What readings call this path.
    pub(super) path: &'a str,
    /// Whether every message is sent once more, named by its meter.
    pub(super) per_meter: bool,
    /// Who signs.
    pub(super) signing: &'a Signing,
}

/// Readings that are delivered together or not at all.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    pub(super) batch: Batch,
    /// What brings them. None for a reading that no body holds.
    pub(super) bodies: Vec<Vec<u8>>,
}

impl Maker<'_> {
    /// The parcels of a round, in its order. Each body has an id of its own.
    pub(super) fn parcels(
        &self,
        batch: &Batch,
        at: UtcTime,
        mut id: impl FnMut() -> u128,
    ) -> Vec<Parcel> {
        let mut parcels = Vec::new();
        if batch.len() <= READINGS_MAX {
            self.pack(batch.clone(), at, &mut id, &mut parcels);
        } else {
            for chunk in batch.chunks(READINGS_MAX) {
                self.pack(chunk.into(), at, &mut id, &mut parcels);
            }
        }
        parcels
    }

    fn pack(
        &self,
        batch: Batch,
        at: UtcTime,
        id: &mut impl FnMut() -> u128,
        parcels: &mut Vec<Parcel>,
    ) {
        if batch.is_empty() {
            return;
        }
        match self.bodies(&batch, at, id) {
            Some(bodies) => parcels.push(Parcel { batch, bodies }),
            None if batch.len() == 1 => parcels.push(Parcel {
                batch,
                bodies: Vec::new(),
            }),
            None => {
                let half = batch.len().div_ceil(2);
                for part in batch.chunks(half) {
                    self.pack(part.into(), at, id, parcels);
                }
            }
        }
    }

    /// The bodies of readings that fit into one; None if they don't.
    fn bodies(
        &self,
        readings: &[Reading],
        at: UtcTime,
        id: &mut impl FnMut() -> u128,
    ) -> Option<Vec<Vec<u8>>> {
        let sign = |reading| wire::signed(reading, self.path, self.signing);
        let mut messages: Vec<Message> = readings.iter().map(sign).collect();
        let mut bodies = vec![self.body(self.topic, &messages, at, id())?];
        if self.per_meter {
            messages.sort_by_cached_key(meter);
            for of_meter in messages.chunk_by(|one, next| meter(one) == meter(next)) {
                let name = of_meter.first().map(meter).unwrap_or_default();
                let topic = format!("{}.{name}", self.topic);
                bodies.push(self.body(&topic, of_meter, at, id())?);
            }
        }
        Some(bodies)
    }

    fn body(
        &self,
        event_type: &str,
        messages: &[Message],
        at: UtcTime,
        id: u128,
    ) -> Option<Vec<u8>> {
        let notification = Notification {
            host: self.host,
            event_type,
            id,
            at,
        };
        wire::envelope::encode(&notification, messages).filter(|body| body.len() <= BODY_BYTES_MAX)
    }
}

fn meter(message: &Message) -> String {
    let name = message.iter().find(|(key, _)| *key == METER);
    match name {
        Some((_, Value::Text(name))) => name.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;
    use crate::model::{Identity, Metadata, Sample, Secret, Volume, meters};

    fn readings(sizes: &[usize]) -> Batch {
        let meters = [
            meters::STORAGE_CONNECTIVITY,
            meters::HEARTBEAT,
            meters::POLLSTER_FAILED,
        ];
        let reading = |(seq, size): (u64, &usize)| Reading {
            identity: Identity {
                observer: "n".into(),
                epoch: 1,
                seq,
            },
            message_id: seq.to_string(),
            sample: Sample {
                meter: meters[usize::try_from(seq).unwrap() % 3].clone(),
                volume: Volume::Int(0),
                resource_id: "n".into(),
                user_id: None,
                project_id: None,
                timestamp: UtcTime::from_unix_micros(0),
                metadata: Metadata::from([("x".to_owned(), Value::from("x".repeat(*size)))]),
            },
        };
        let readings: Vec<Reading> = (1u64..).zip(sizes).map(reading).collect();
        readings.into()
    }

    fn parcels(batch: &Batch, per_meter: bool) -> Vec<Parcel> {
        let signing = Signing::new("openstack", Secret::new("s".to_owned()));
        let maker = Maker {
            host: "n",
            topic: "t",
            path: "notifier://?topic=t",
            per_meter,
            signing: &signing,
        };
        let mut last = 0;
        maker.parcels(batch, UtcTime::from_unix_micros(0), || {
            last += 1;
            last
        })
    }

    /// The event type of a body, and its messages' ids and meters.
    fn opened(body: &[u8]) -> (String, Vec<(String, String)>) {
        let outer: Json = serde_json::from_slice(body).unwrap();
        let inner: Json = serde_json::from_str(outer["oslo.message"].as_str().unwrap()).unwrap();
        let text = |value: &Json| value.as_str().unwrap().to_owned();
        let messages = inner["payload"].as_array().unwrap().iter();
        let messages = messages.map(|message| {
            assert_eq!(message["ha_path"], "notifier://?topic=t");
            (text(&message["message_id"]), text(&message["counter_name"]))
        });
        (text(&inner["event_type"]), messages.collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn every_reading_is_in_one_body_in_order_or_alone_too_large(
            sizes in prop::collection::vec(prop_oneof![
                60 => 0usize..300,
                2 => 30_000usize..60_000,
                1 => Just(BODY_BYTES_MAX),
            ], 0..300),
        ) {
            let batch = readings(&sizes);
            let parcels = parcels(&batch, false);
            let together: Vec<Reading> =
                parcels.iter().flat_map(|parcel| parcel.batch.iter().cloned()).collect();
            prop_assert_eq!(&together[..], &batch[..]);
            for parcel in parcels {
                let ids: Vec<String> =
                    parcel.batch.iter().map(|reading| reading.message_id.clone()).collect();
                let Some(body) = parcel.bodies.first() else {
                    let size = sizes[ids[0].parse::<usize>().unwrap() - 1];
                    prop_assert_eq!((ids.len(), size), (1, BODY_BYTES_MAX));
                    continue;
                };
                prop_assert!(body.len() <= BODY_BYTES_MAX && ids.len() <= READINGS_MAX);
                let (event_type, messages) = opened(body);
                let in_body: Vec<String> = messages.into_iter().map(|(id, _)| id).collect();
                prop_assert_eq!((&*event_type, in_body), ("t", ids));
            }
        }
    }

    #[test]
    fn each_meter_has_a_body_more_where_that_is_asked_for() {
        let parcels = parcels(&readings(&[1; 5]), true);
        assert_eq!(parcels.len(), 1, "delivered together or not at all");
        let bodies: Vec<_> = parcels[0].bodies.iter().map(|body| opened(body)).collect();
        let types: Vec<&str> = bodies.iter().map(|(event_type, _)| &**event_type).collect();
        assert_eq!(
            types,
            [
                "t",
                "t.compute.heartbeat",
                "t.pollster.failed",
                "t.storage_connectivity"
            ]
        );
        for (event_type, messages) in &bodies[1..] {
            let other = messages
                .iter()
                .find(|(_, meter)| format!("t.{meter}") != *event_type);
            assert_eq!(other, None, "{event_type}");
        }
        let mut again: Vec<_> = bodies[1..]
            .iter()
            .flat_map(|(_, messages)| messages)
            .collect();
        again.sort();
        assert_eq!(again, bodies[0].1.iter().collect::<Vec<_>>());
    }
}
