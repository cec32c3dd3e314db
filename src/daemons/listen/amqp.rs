//! A topic of the message broker, by a queue of our own beside the collector's: whatever is sent to both is
//! copied by the broker, and ours goes when we go.

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};

use super::heard::Heard;
use super::{Listener, now};
use crate::broker::{Broker, BrokerError, Link, Queue, REPLY_LIMIT, Topology, in_time};
use crate::clock;
use crate::config::Settings;
use crate::daemons::DaemonError;
use crate::wire::{Via, envelope};

/// The most bodies that wait in the broker for a listener that is slow; then the oldest goes. It is a look,
/// and not a receiver.
const WAITING_MAX: i32 = 10_000;
/// How long an end may go unnoticed where nothing comes.
const LOOK: std::time::Duration = std::time::Duration::from_millis(100);

/// Shows what comes until it is enough.
pub(super) async fn listen(
    settings: &Settings,
    topic: &str,
    listener: &mut Listener<'_>,
) -> Result<(), DaemonError> {
    let what = format!("listening to the topic {topic}");
    let failed = |error: BrokerError| DaemonError::failed(what.clone(), error);
    let name = format!("listen on {}", settings.host);
    let broker = Broker::new(std::sync::Arc::new(settings.broker.clone()), name);
    let link = connect(&broker, settings).await.map_err(failed)?;
    let queue = own_queue(settings, topic);
    let (_channel, mut consumer) = consume(&broker, &link, queue).await.map_err(failed)?;
    listener.ready(&format!("{topic}.sample at {}", link.member()));
    while !listener.is_over() {
        let Ok(next) = tokio::time::timeout(LOOK, consumer.next()).await else {
            continue;
        };
        let delivery = match next {
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => return Err(DaemonError::failed(what, error)),
            None => return Err(DaemonError::failed(what, "the broker ended it")),
        };
        show(&delivery.data, topic, link.member(), listener)?;
    }
    link.close().await;
    Ok(())
}

fn show(
    body: &[u8],
    topic: &str,
    from: &str,
    listener: &mut Listener<'_>,
) -> Result<(), DaemonError> {
    let via = Via::Topic(topic);
    let opened = match envelope::open(body) {
        Ok(opened) => opened,
        Err(refusal) => {
            let nothing: Result<Vec<(String, _)>, _> = Err(refusal);
            let heard = Heard::of(nothing, (&listener.verifier, via), from, now());
            return listener.show(&heard);
        }
    };
    for message in opened.messages() {
        let heard = Heard::of(message, (&listener.verifier, via), from, now());
        listener.show(&heard)?;
    }
    Ok(())
}

/// To the first member that lets us in; the last one's words if none does.
async fn connect(broker: &Broker, settings: &Settings) -> Result<Link, BrokerError> {
    let mut last = broker.connect().await;
    for _ in settings.broker.members.iter().skip(1) {
        if last.is_ok() {
            break;
        }
        last = broker.connect().await;
    }
    last
}

/// A queue that is for this connection alone and goes with it, with a name that nobody else has.
fn own_queue(settings: &Settings, topic: &str) -> Queue {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(WAITING_MAX));
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let (host, pid) = (&settings.host, std::process::id());
    Queue {
        name: format!("{topic}.listen.{host}.{pid}.{}", clock::wall().as_micros()),
        routing_key: Some(format!("{topic}.sample")),
        own: Some((options, arguments)),
    }
}

async fn consume(
    broker: &Broker,
    link: &Link,
    queue: Queue,
) -> Result<(Channel, Consumer), BrokerError> {
    let name = queue.name.clone();
    let topology = Topology {
        declared: &broker.settings().declared,
        queues: vec![queue],
    };
    topology.declare(link).await?;
    let channel = link.channel().await?;
    let options = BasicConsumeOptions {
        no_ack: true,
        exclusive: true,
        ..BasicConsumeOptions::default()
    };
    let consuming = channel.basic_consume(
        name.as_str().into(),
        "".into(),
        options,
        FieldTable::default(),
    );
    let consumer = in_time(format!("consuming {name}"), REPLY_LIMIT, consuming).await?;
    Ok((channel, consumer))
}
