//! Gathers messages into batches: as many as fit or as came within a time, whichever is first.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;

use crate::model::{Received, Shared};

/// Messages that may wait for the writer: some 40 MB at the most. Beyond it new ones are dropped
/// and counted; unacknowledged UDP has no better place to wait.
pub const WAITING_MAX: usize = 20_000;

/// A message and when it came.
#[derive(Debug)]
pub struct Arrived {
    /// The message, verified.
    pub message: Received,
    /// When its datagram was read.
    pub at: Instant,
}

/// Messages to be stored together.
#[derive(Debug, Default)]
pub struct Batch {
    /// The messages in order of arrival.
    pub messages: Vec<Received>,
    /// When the first of them came.
    pub since: Option<Instant>,
}

/// How large a batch may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// So many messages.
    pub size: usize,
    /// So long after the first of them came.
    pub timeout: Duration,
}

/// Waits for a message and then for more, within the limits that hold when it came; None once
/// nothing can come any more.
pub async fn next(from: &mut Receiver<Arrived>, limits: &Shared<Limits>) -> Option<Batch> {
    let mut batch = Batch::default();
    batch.take(from.recv().await?);
    let Limits { size, timeout } = *limits.get();
    let deadline = batch.since.map_or_else(
        || tokio::time::sleep(timeout),
        |since| tokio::time::sleep_until((since + timeout).into()),
    );
    tokio::pin!(deadline);
    while batch.messages.len() < size {
        tokio::select! {
            biased;
            arrived = from.recv() => match arrived {
                Some(arrived) => batch.take(arrived),
                None => break,
            },
            () = &mut deadline => break,
        }
    }
    Some(batch)
}

impl Batch {
    fn take(&mut self, arrived: Arrived) {
        let Arrived { message, at } = arrived;
        self.since.get_or_insert(at);
        self.messages.push(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::model::ReceivedMeter;
    use tokio::sync::mpsc;

    fn arrived(id: usize) -> Arrived {
        let message = Received {
            identity: None,
            path: None,
            message_id: id.to_string(),
            signature: String::new(),
            source: String::new(),
            meter: ReceivedMeter {
                name: "m".into(),
                kind: None,
                unit: None,
            },
            volume: None,
            resource_id: "r".into(),
            user_id: None,
            project_id: None,
            timestamp: None,
            metadata: crate::model::Value::Null,
        };
        Arrived {
            message,
            at: clock::now(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn full_or_due_whichever_is_first() {
        let (sender, mut receiver) = mpsc::channel(10);
        for id in 0..5 {
            sender.send(arrived(id)).await.unwrap();
        }
        let timeout = Duration::from_millis(50);
        let limits = Shared::new(Limits { size: 3, timeout });
        let full = next(&mut receiver, &limits).await.unwrap();
        assert_eq!(full.messages.len(), 3);
        let due = next(&mut receiver, &limits).await.unwrap();
        assert_eq!(due.messages.len(), 2, "what came within the timeout");
        sender.send(arrived(9)).await.unwrap();
        drop(sender);
        assert_eq!(
            next(&mut receiver, &limits).await.unwrap().messages.len(),
            1
        );
        assert!(next(&mut receiver, &limits).await.is_none());
    }
}
