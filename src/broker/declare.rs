//! Declares exchange and queues as the deployment does, and takes what is there already as it is: a
//! broker refuses a second declaration with other properties, and somebody else may have been first.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ErrorKind, ExchangeKind};

use super::connect::{Link, REPLY_LIMIT, in_time};
use super::error::BrokerError;
use crate::config::Declared;

/// The reply code of a declaration that differs from what is there.
const PRECONDITION_FAILED: u16 = 406;

/// An exchange and the queues that are bound to it.
#[derive(Debug, Clone)]
pub struct Topology<'a> {
    /// How the deployment declares.
    pub declared: &'a Declared,
    /// The queues.
    pub queues: Vec<Queue>,
}

/// A queue, and the routing key that leads to it.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// The routing key that it is bound with; None for one that is reached by its name alone.
    pub routing_key: Option<String>,
    /// Its own options and arguments; None for the deployment's.
    pub own: Option<(QueueDeclareOptions, FieldTable)>,
}

impl Queue {
    /// The queue of a topic, as Ceilometer names it.
    pub fn of_topic(topic: &str) -> Self {
        let name = format!("{topic}.sample");
        Queue {
            routing_key: Some(name.clone()),
            name,
            own: None,
        }
    }
}

impl Topology<'_> {
    /// Declares everything. Returns the names of what was there with other properties and is used as
    /// it is.
    pub async fn declare(&self, link: &Link) -> Result<Vec<String>, BrokerError> {
        let mut differing = Vec::new();
        // A refusal ends its channel, so each declaration has one that it may lose.
        let mut channel = link.channel().await?;
        let exchange = &self.declared.exchange;
        if self.declare_exchange(&channel, false).await? {
            channel = link.channel().await?;
            self.declare_exchange(&channel, true).await?;
            differing.push(exchange.clone());
        }
        for queue in &self.queues {
            if self.declare_queue(&channel, queue, false).await? {
                channel = link.channel().await?;
                self.declare_queue(&channel, queue, true).await?;
                differing.push(queue.name.clone());
            }
            let Some(key) = &queue.routing_key else {
                continue;
            };
            let binding = channel.queue_bind(
                queue.name.as_str().into(),
                exchange.as_str().into(),
                key.as_str().into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            in_time(
                format!("binding queue {}", queue.name),
                REPLY_LIMIT,
                binding,
            )
            .await?;
        }
        let closing = channel.close(200, "declared".into());
        in_time("closing a channel", REPLY_LIMIT, closing).await?;
        Ok(differing)
    }

    /// True if it is there with other properties.
    async fn declare_exchange(
        &self,
        channel: &Channel,
        is_passive: bool,
    ) -> Result<bool, BrokerError> {
        let name = &self.declared.exchange;
        let options = ExchangeDeclareOptions {
            passive: is_passive,
            durable: self.declared.durable,
            auto_delete: self.declared.auto_delete,
            ..ExchangeDeclareOptions::default()
        };
        let declaring = channel.exchange_declare(
            name.as_str().into(),
            ExchangeKind::Topic,
            options,
            FieldTable::default(),
        );
        differs(in_time(format!("declaring exchange {name}"), REPLY_LIMIT, declaring).await)
    }

    async fn declare_queue(
        &self,
        channel: &Channel,
        queue: &Queue,
        is_passive: bool,
    ) -> Result<bool, BrokerError> {
        let (mut options, arguments) = match &queue.own {
            Some((options, arguments)) => (*options, arguments.clone()),
            None => usual(self.declared),
        };
        options.passive = is_passive;
        let declaring = channel.queue_declare(queue.name.as_str().into(), options, arguments);
        differs(
            in_time(
                format!("declaring queue {}", queue.name),
                REPLY_LIMIT,
                declaring,
            )
            .await,
        )
    }
}

/// What the deployment's queues are declared with; the arguments are oslo.messaging's.
fn usual(declared: &Declared) -> (QueueDeclareOptions, FieldTable) {
    let mut arguments = FieldTable::default();
    if declared.mirrored {
        let all = AMQPValue::LongString("all".into());
        arguments.insert("x-ha-policy".into(), all);
    }
    if declared.quorum {
        let quorum = AMQPValue::LongString("quorum".into());
        arguments.insert("x-queue-type".into(), quorum);
    }
    let options = QueueDeclareOptions {
        durable: declared.durable,
        auto_delete: declared.auto_delete,
        ..QueueDeclareOptions::default()
    };
    (options, arguments)
}

fn differs<T>(declared: Result<T, BrokerError>) -> Result<bool, BrokerError> {
    match declared {
        Ok(_) => Ok(false),
        Err(BrokerError::Failed { source, .. }) if is_precondition(&source) => Ok(true),
        Err(error) => Err(error),
    }
}

fn is_precondition(error: &lapin::Error) -> bool {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_id() == PRECONDITION_FAILED,
        _ => false,
    }
}
