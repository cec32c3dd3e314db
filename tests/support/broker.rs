//! A client of a test's broker: it publishes as senders do, and looks at what is in queues.

use ceilometer_ha::model::{Reading, Secret, UtcTime};
use ceilometer_ha::wire::envelope::{self, Notification};
use ceilometer_ha::wire::{self, Signing};
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
};
use tokio::runtime::Runtime;

use super::rabbitmq::Server;
use super::site::SECRET;

/// The topic of the HA pipeline.
pub const TOPIC: &str = "metering_ha";
/// Ceilometer's exchange.
pub const EXCHANGE: &str = "ceilometer";

/// A connection that publishes with confirms.
pub struct Client {
    runtime: Runtime,
    channel: Channel,
    connection: Connection,
}

/// What a queue gave.
pub struct Taken {
    pub body: Vec<u8>,
    pub headers: FieldTable,
}

impl Taken {
    pub fn header(&self, name: &str) -> Option<String> {
        match self.headers.inner().get(name) {
            Some(AMQPValue::LongString(text)) => Some(text.to_string()),
            _ => None,
        }
    }
}

impl Client {
    pub fn of(server: &Server) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let url = server.url().replace("rabbit://", "amqp://");
        let (connection, channel) = runtime.block_on(async {
            let connection = Connection::connect(&url, ConnectionProperties::default());
            let connection = connection.await.expect("connect to the broker");
            let channel = connection.create_channel().await.expect("open a channel");
            let confirming = channel.confirm_select(ConfirmSelectOptions::default());
            confirming.await.expect("ask for confirms");
            (connection, channel)
        });
        Client {
            runtime,
            channel,
            connection,
        }
    }

    /// Declares the queue of the topic as senders do, so that what is published waits in it.
    pub fn declare(&self, options: QueueDeclareOptions) {
        let queue = format!("{TOPIC}.sample");
        self.runtime.block_on(async {
            let none = FieldTable::default;
            let exchange = self.channel.exchange_declare(
                EXCHANGE.into(),
                ExchangeKind::Topic,
                ExchangeDeclareOptions::default(),
                none(),
            );
            exchange.await.expect("declare the exchange");
            let declaring = self
                .channel
                .queue_declare(queue.as_str().into(), options, none());
            declaring.await.expect("declare the queue");
            let binding = self.channel.queue_bind(
                queue.as_str().into(),
                EXCHANGE.into(),
                queue.as_str().into(),
                QueueBindOptions::default(),
                none(),
            );
            binding.await.expect("bind the queue");
        });
    }

    /// Publishes bodies to the topic as senders do, and waits until the broker has them.
    #[track_caller]
    pub fn publish(&self, bodies: &[Vec<u8>]) {
        let key = format!("{TOPIC}.sample");
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        self.runtime.block_on(async {
            let mut confirms = Vec::new();
            for body in bodies {
                let properties = BasicProperties::default()
                    .with_content_type(envelope::CONTENT_TYPE.into())
                    .with_content_encoding(envelope::CONTENT_ENCODING.into())
                    .with_delivery_mode(envelope::DELIVERY_MODE);
                let publishing = self.channel.basic_publish(
                    EXCHANGE.into(),
                    key.as_str().into(),
                    options,
                    body,
                    properties,
                );
                confirms.push(publishing.await.expect("publish"));
            }
            for confirm in confirms {
                assert_eq!(confirm.await.expect("a confirm"), Confirmation::Ack(None));
            }
        });
    }

    /// Takes what is first in a queue out of it; None if there is nothing, or no such queue.
    pub fn take(&self, queue: &str) -> Option<Taken> {
        let got = self.runtime.block_on(async {
            // A queue that isn't there costs its channel.
            let channel = self.connection.create_channel().await.expect("a channel");
            let options = BasicGetOptions { no_ack: true };
            let got = channel.basic_get(queue.into(), options).await.ok()?;
            channel
                .close(200, "".into())
                .await
                .expect("close a channel");
            got
        })?;
        Some(Taken {
            headers: got.properties.headers().clone().unwrap_or_default(),
            body: got.delivery.data,
        })
    }
}

/// The body that brings these readings.
pub fn body(readings: &[Reading]) -> Vec<u8> {
    body_with(readings, SECRET)
}

/// The same, signed with this secret.
pub fn body_with(readings: &[Reading], secret: &str) -> Vec<u8> {
    let signing = Signing::new("openstack", Secret::new(secret));
    let path = format!("notifier://?topic={TOPIC}");
    let sign = |reading| wire::signed(reading, &path, &signing);
    let messages: Vec<wire::Message> = readings.iter().map(sign).collect();
    let notification = Notification {
        host: "test",
        event_type: TOPIC,
        id: 1,
        at: UtcTime::from_unix_micros(0),
    };
    envelope::encode(&notification, &messages).expect("a body")
}
