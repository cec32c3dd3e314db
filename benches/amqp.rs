//! Confirmed messages a second of a `notifier://` publisher, against bare lapin that publishes bodies
//! made beforehand: the same bodies, the same number on their way, the same private RabbitMQ, in turns.
//! What ours does beside it: sign every reading, write it as JSON, and look at every answer.

// A benchmark measures time and may stop at the first thing that is wrong.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ceilometer_ha::pipeline::Policy;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection};
use support::publishing::{Publishing, QUEUE};
use support::rabbitmq::Server;
use support::site::reading;

/// Bodies in one run.
const BODIES: usize = 10_000;
/// Runs of each, in turns; the median counts.
const RUNS: usize = 7;
/// What may be on its way unconfirmed, as ours has it.
const WINDOW: usize = 128;
/// What ours should reach of the bare rate.
const GOAL: f64 = 0.8;
/// Rounds of ours that may wait in its queue: nothing may be dropped, and nothing may be missing.
const WAITING: usize = 512;
/// Readings of a round: the shipped pipeline's fast source with two gateways makes a few more.
const READINGS: u64 = 4;

fn main() {
    let server = Server::start();
    let body = body(&server);
    println!(
        "{BODIES} bodies of {READINGS} readings, {} bytes, {WINDOW} on their way, median of {RUNS} runs:",
        body.len()
    );
    let (mut ours, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let one = rate(ours_takes(&server));
        let other = rate(bare_takes(&server, &body));
        ratios.push(one / other);
        ours.push(one);
        bare.push(other);
    }
    let (ours, bare, ratio) = (median(ours), median(bare), median(ratios));
    println!("bare lapin: {bare:.0} confirmed messages/s");
    println!(
        "ours: {ours:.0} confirmed messages/s, {:.0} readings/s",
        ours * 4.0
    );
    println!("ratio {ratio:.2} (goal {GOAL})");
}

/// A body as ours makes it.
fn body(server: &Server) -> Vec<u8> {
    let publishing = Publishing::start(&server.url(), "", Policy::Queue(1024));
    publishing.queue.push(round(1));
    publishing.wait("a confirmed body", |told| told.confirmed > 0);
    publishing.end();
    on_channel(server, async |channel| {
        let options = BasicGetOptions { no_ack: true };
        let message = channel.basic_get(QUEUE.into(), options).await.unwrap();
        message.unwrap().delivery.data
    })
}

fn round(seq: u64) -> ceilometer_ha::publisher::queue::Batch {
    (0..READINGS)
        .map(|at| reading("n", seq * READINGS + at))
        .collect()
}

fn ours_takes(server: &Server) -> Duration {
    let publishing = Publishing::start(&server.url(), "", Policy::Queue(1024));
    publishing.queue.push(round(0));
    publishing.wait("a connection", |told| told.confirmed > 0);
    let rounds: Vec<_> = (0..BODIES)
        .map(|at| round(u64::try_from(at).unwrap()))
        .collect();
    let all = usize::try_from(READINGS).unwrap() * (BODIES + 1);
    let start = Instant::now();
    for round in rounds {
        while publishing.queue.len() >= WAITING {
            std::thread::sleep(Duration::from_micros(200));
        }
        publishing.queue.push(round);
    }
    while publishing.told().confirmed < all {
        std::thread::sleep(Duration::from_micros(200));
    }
    let took = start.elapsed();
    let (told, _) = publishing.end();
    assert_eq!((told.lost, told.undelivered.len()), (0, 0), "{told:?}");
    server.delete_queue(QUEUE);
    took
}

fn bare_takes(server: &Server, body: &[u8]) -> Duration {
    let took = on_channel(server, async |channel| {
        let options = QueueDeclareOptions::default();
        channel
            .queue_declare(QUEUE.into(), options, FieldTable::default())
            .await
            .unwrap();
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        let start = Instant::now();
        let mut window = VecDeque::with_capacity(WINDOW);
        for _ in 0..BODIES {
            if window.len() == WINDOW {
                confirmed(window.pop_front()).await;
            }
            window.push_back(publish(&channel, body).await);
        }
        while !window.is_empty() {
            confirmed(window.pop_front()).await;
        }
        start.elapsed()
    });
    server.delete_queue(QUEUE);
    took
}

async fn publish(channel: &Channel, body: &[u8]) -> lapin::PublisherConfirm {
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(2)
        .with_priority(0);
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let publishing = channel.basic_publish("".into(), QUEUE.into(), options, body, properties);
    publishing.await.unwrap()
}

async fn confirmed(confirm: Option<lapin::PublisherConfirm>) {
    let answer = confirm.unwrap().await.unwrap();
    assert!(answer.is_ack());
}

fn on_channel<T>(server: &Server, work: impl AsyncFnOnce(Channel) -> T) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let uri = server.url().replacen("rabbit://", "amqp://", 1);
        let connection = Connection::connect(&uri, Default::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let done = work(channel).await;
        // The channel is closing already, which lapin may call an error.
        let _ = connection.close(200, "bye".into()).await;
        done
    })
}

fn rate(took: Duration) -> f64 {
    f64::from(u32::try_from(BODIES).unwrap()) / took.as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
