//! `compute-ha send-sample`: sends test readings over one path, as an observer that no node can be.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::sending::{Sending, Sent};
use super::signals::{self, End};
use super::{ConfigArgs, DaemonError, Stop, files, known_secret, output};
use crate::clock;
use crate::config::{Loaded, Purpose, Settings};
use crate::model::{Metadata, Meter, MeterType, Sample, Value, Volume};
use crate::pipeline::{Emitter, Publisher};
use crate::publisher::queue::Batch;
use crate::wire::Signing;

/// What stands before the host in the observer's name. No host's name has an `@`, so that nobody takes
/// such a reading for a node's.
const OBSERVER: &str = "send-sample@";
/// The most readings that are handed over at once; more go after them, and none is lost.
const BATCH_MAX: u64 = 64;
/// The fastest that may be asked for, in readings a second. An agent's sender reaches a third of it.
const RATE_MAX: f64 = 1e6;
/// How often a terminal is told how far it is.
const PROGRESS: Duration = Duration::from_millis(500);

/// What to send.
#[derive(Debug, Clone, clap::Args)]
pub struct SendArgs {
    /// Where to, as in pipeline_ha.yaml: udp://HOST:PORT or notifier://[?topic=TOPIC]. Default: the
    /// UDP port of [collector] on this machine
    #[arg(long, value_name = "URL")]
    publisher: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// How many a second, at most
    #[arg(long, value_name = "N", default_value_t = 100.0, value_parser = rate)]
    rate: f64,
    /// The meter's name
    #[arg(long, value_name = "NAME", default_value = "test.sample")]
    meter: String,
    /// Its type
    #[arg(long = "type", value_enum, default_value_t = Type::Gauge)]
    kind: Type,
    /// Its unit
    #[arg(long, default_value = "")]
    unit: String,
    /// The value
    #[arg(long, value_name = "NUMBER", default_value = "1", allow_hyphen_values = true, value_parser = volume)]
    volume: Volume,
    /// The resource. Default: the observer, send-sample@HOST
    #[arg(long, value_name = "ID")]
    resource: Option<String>,
    /// An entry of the metadata; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = entry)]
    metadata: Vec<(String, String)>,
}

/// Ceilometer's types of meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Type {
    Gauge,
    Delta,
    Cumulative,
}

/// Sends them and says what became of them: 0 if all left or, with a broker, were confirmed.
pub fn run(args: &ConfigArgs, send: &SendArgs) -> Result<(), DaemonError> {
    let Loaded { settings, .. } = files::load_settings(args, Purpose::Wire)?;
    let publisher = publisher(send, &settings)?;
    if args.check_config {
        return output::line(format_args!("sends to {}", publisher.path()));
    }
    let runtime = signals::runtime()?;
    let (end, stop) = (End::listen(&runtime)?, Stop::default());
    let ending = stop.clone();
    runtime.spawn(async move {
        end.wait().await;
        ending.stop();
    });
    let signing = Signing::new(&settings.sample_source, known_secret::of(&settings)?);
    let sending = Sending::start(&publisher, &settings, signing)?;
    let (what, outcome) = send_all(send, &settings, sending, &stop);
    runtime.shutdown_background();
    output::line(format_args!("{what}"))?;
    match outcome.failed() {
        0 => Ok(()),
        failed => {
            let why = outcome
                .trouble
                .unwrap_or_else(|| "no answer in time".to_owned());
            let what = format!("sending {failed} of {} readings", outcome.given);
            Err(DaemonError::failed(what, why))
        }
    }
}

fn publisher(send: &SendArgs, settings: &Settings) -> Result<Publisher, DaemonError> {
    let url = match &send.publisher {
        Some(url) => url.clone(),
        None => format!("udp://127.0.0.1:{}", settings.collector.udp_port),
    };
    Publisher::read(&url, &settings.topic)
        .map_err(|error| DaemonError::failed("reading --publisher", error))
}

/// Sends at the rate that was asked for until all is sent or somebody ends it, and says what was done.
fn send_all(
    send: &SendArgs,
    settings: &Settings,
    mut sending: Sending,
    stop: &Stop,
) -> (String, Sent) {
    let observer = format!("{OBSERVER}{}", settings.host);
    let emitter = Emitter::new(&observer, clock::utc().unix_millis(), None, &[]);
    let begun = clock::now();
    let mut told = begun;
    let mut given = 0;
    while given < send.count {
        let due = due(send.rate, clock::now() - begun).clamp(given, send.count);
        let now = (due - given).min(BATCH_MAX);
        if now > 0 {
            sending.send(batch(send, &observer, &emitter, now), stop);
            given += now;
        }
        told = progress(told, given, send.count, &sending);
        let next = begun + at_rate(send.rate, given);
        if stop.wait_until(next) {
            break;
        }
    }
    let path = sending.path().to_owned();
    let outcome = sending.finish();
    let took = clock::now() - begun;
    let rate = per_second(outcome.sent, took);
    let Sent {
        sent,
        messages,
        bytes,
        ..
    } = outcome;
    let confirmed = match path.starts_with("udp") {
        true => "sent, which UDP confirms to nobody",
        false => "confirmed by the broker",
    };
    let what = format!(
        "{sent} of {given} readings of {} by {observer}, epoch {}, to {path}: {confirmed}; {messages} \
         messages, {bytes} bytes, {rate:.0} readings a second",
        send.meter,
        emitter.epoch()
    );
    (what, outcome)
}

fn batch(send: &SendArgs, observer: &str, emitter: &Emitter, count: u64) -> Batch {
    let sample = |_| Sample {
        meter: Meter {
            name: send.meter.clone().into(),
            kind: match send.kind {
                Type::Gauge => MeterType::Gauge,
                Type::Delta => MeterType::Delta,
                Type::Cumulative => MeterType::Cumulative,
            },
            unit: send.unit.clone().into(),
        },
        volume: send.volume,
        resource_id: send.resource.clone().unwrap_or_else(|| observer.to_owned()),
        user_id: None,
        project_id: None,
        timestamp: clock::utc(),
        metadata: metadata(&send.metadata),
    };
    let mut batch = Batch::from([]);
    let interval = Duration::from_secs_f64(1.0 / send.rate);
    emitter.emit(interval, (0..count).map(sample).collect(), |readings| {
        batch = readings.into();
    });
    batch
}

fn metadata(entries: &[(String, String)]) -> Metadata {
    let entries = entries.iter();
    entries
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect()
}

/// On a terminal, how far it is; at most so often.
fn progress(told: Instant, given: u64, count: u64, sending: &Sending) -> Instant {
    let now = clock::now();
    if now - told < PROGRESS || !io::stderr().is_terminal() {
        return told;
    }
    let sent = sending.so_far().sent;
    let end = if given == count { "\n" } else { "" };
    // Whoever closed the terminal doesn't miss it.
    let _ = write!(io::stderr(), "\r{given} of {count}, {sent} sent {end}");
    now
}

/// How many readings are due after this time; the first one at once.
fn due(rate: f64, elapsed: Duration) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
    let due = (elapsed.as_secs_f64() * rate) as u64;
    due.saturating_add(1)
}

/// When the next reading after so many is due.
fn at_rate(rate: f64, given: u64) -> Duration {
    #[allow(clippy::cast_precision_loss)] // a count that is never that large
    let seconds = given as f64 / rate;
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4)
}

fn per_second(count: usize, took: Duration) -> f64 {
    #[allow(clippy::cast_precision_loss)] // a rate for people
    let count = count as f64;
    count / took.as_secs_f64().max(1e-6)
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    rate.filter(|rate| (1e-3..=RATE_MAX).contains(rate))
        .ok_or_else(|| format!("expected readings a second from 0.001 to {RATE_MAX}"))
}

fn volume(text: &str) -> Result<Volume, String> {
    if let Ok(whole) = text.parse() {
        return Ok(Volume::Int(whole));
    }
    let number = text.parse().ok().and_then(Volume::measured);
    number.ok_or_else(|| "expected a number".to_owned())
}

fn entry(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_due_at_the_rate_that_was_asked_for() {
        let ms = Duration::from_millis;
        for (rate, elapsed, expected) in [
            (10.0, ms(0), 1),
            (10.0, ms(99), 1),
            (10.0, ms(100), 2),
            (0.5, ms(1999), 1),
            (0.5, ms(2000), 2),
            (RATE_MAX, ms(1000), 1_000_001),
        ] {
            assert_eq!(due(rate, elapsed), expected, "{rate} {elapsed:?}");
            let next = at_rate(rate, expected);
            assert!(next > elapsed, "{rate} {elapsed:?}");
            assert!(due(rate, next + ms(1)) > expected, "{rate} {elapsed:?}");
        }
    }

    #[test]
    fn arguments_are_numbers_and_pairs() {
        assert_eq!(volume("-3"), Ok(Volume::Int(-3)));
        assert_eq!(volume("0.1234567"), Ok(Volume::Float(0.123_457)));
        assert!(volume("NaN").is_err() && volume("inf").is_err() && volume("x").is_err());
        assert!(rate("0").is_err() && rate("1e7").is_err() && rate("0.5") == Ok(0.5));
        assert_eq!(entry("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(entry("=b").is_err() && entry("a").is_err());
    }
}
