//! Pure. The queues of a topic, and how the collector's own are declared.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

use crate::broker::Queue;
use crate::config::Declared;

/// How long a body may wait to be shown as the present. An older one is history alone, which comes by the
/// other queue.
const LIVE_AGE_MAX: Duration = Duration::from_secs(30);
/// How long the queue of the present outlives the last collector.
const LIVE_IDLE_MAX: Duration = Duration::from_secs(60);
/// Bodies that may wait there: a thousand hosts with one a second, for half of the time above. Beyond it the
/// oldest go, which newer ones have overtaken.
const LIVE_LENGTH_MAX: u32 = 20_000;
/// Their bytes. What goes beyond it is as above.
const LIVE_BYTES_MAX: u32 = 64 << 20;

/// Bodies that may be in the quarantine. Beyond it the oldest go.
const QUARANTINE_LENGTH_MAX: u32 = 1000;
/// Their bytes. Beyond it the oldest go.
const QUARANTINE_BYTES_MAX: u32 = 64 << 20;

/// The queue that everything of the topic waits in until it is stored.
pub(super) fn history(topic: &str) -> Queue {
    Queue::of_topic(topic)
}

/// The queue that the collectors have of what is said just now.
pub(super) fn live(topic: &str) -> Queue {
    let arguments = [
        ("x-message-ttl", millis(LIVE_AGE_MAX)),
        ("x-expires", millis(LIVE_IDLE_MAX)),
        ("x-max-length", LIVE_LENGTH_MAX),
        ("x-max-length-bytes", LIVE_BYTES_MAX),
    ];
    Queue {
        name: format!("{topic}.live"),
        routing_key: history(topic).routing_key,
        own: Some((QueueDeclareOptions::default(), bounded(&arguments))),
    }
}

/// The queue for bodies with something in them that can't be read or verified. It lasts as the
/// deployment's queues do.
pub(super) fn quarantine(topic: &str, declared: &Declared) -> Queue {
    let mut arguments = bounded(&[
        ("x-max-length", QUARANTINE_LENGTH_MAX),
        ("x-max-length-bytes", QUARANTINE_BYTES_MAX),
    ]);
    if declared.quorum {
        let quorum = AMQPValue::LongString("quorum".into());
        arguments.insert("x-queue-type".into(), quorum);
    }
    let options = QueueDeclareOptions {
        durable: declared.durable,
        ..QueueDeclareOptions::default()
    };
    Queue {
        name: format!("{topic}.quarantine"),
        routing_key: None,
        own: Some((options, arguments)),
    }
}

/// A queue that drops its oldest where it is full.
fn bounded(numbers: &[(&str, u32)]) -> FieldTable {
    let mut arguments = FieldTable::default();
    for (name, number) in numbers {
        arguments.insert((*name).into(), AMQPValue::LongLongInt(i64::from(*number)));
    }
    let oldest = AMQPValue::LongString("drop-head".into());
    arguments.insert("x-overflow".into(), oldest);
    arguments
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
