//! Pure. What became of one target's probes: a status, or why there is none. What a path that is
//! gone on our own side means is for whoever asked: a node that lost its own way to its storage has
//! lost its storage, an observer that lost its way to a node knows nothing about the node.

use std::time::Duration;

use super::round::Tally;
use crate::model::{FailReason, GatewayStatus};

/// Slack for comparing two ratios of small whole numbers.
const RATIO_EPSILON: f64 = 1e-9;

/// A target that could be judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Why it counts as up or down.
    pub status: GatewayStatus,
    /// Lost probes over sent ones.
    pub loss_ratio: f64,
    /// Median round-trip time, if anything was answered.
    pub rtt: Option<Duration>,
}

impl Reading {
    /// Whether it counts as up.
    pub fn is_up(&self) -> bool {
        self.status == GatewayStatus::Answered
    }
}

/// Why probes say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsaid {
    /// Link, address or route went away on our own side while we sent.
    LocalPath,
    /// A fault of our own.
    Ours(FailReason),
}

/// Weighs one target's probes, of which `count` were asked for: up when lost/sent is at most
/// `accepted_loss`.
pub fn weigh(tally: &Tally, count: u16, accepted_loss: f64) -> Result<Reading, Unsaid> {
    if let Some(fault) = tally.fault {
        return Err(Unsaid::Ours(fault));
    }
    if tally.local_path > 0 {
        return Err(Unsaid::LocalPath);
    }
    if tally.sent < u32::from(count) {
        return Err(Unsaid::Ours(FailReason::ProbesNotSent));
    }
    let loss_ratio = f64::from(tally.sent - tally.answered) / f64::from(tally.sent.max(1));
    let status = if loss_ratio <= accepted_loss + RATIO_EPSILON {
        GatewayStatus::Answered
    } else {
        cause_of_loss(tally)
    };
    Ok(Reading {
        status,
        loss_ratio,
        rtt: tally.rtt,
    })
}

/// The most telling of what came back instead of answers.
fn cause_of_loss(tally: &Tally) -> GatewayStatus {
    [
        (tally.prohibited, GatewayStatus::Prohibited),
        (tally.unreachable, GatewayStatus::Unreachable),
        (tally.time_exceeded, GatewayStatus::TimeExceeded),
        (tally.path_error, GatewayStatus::PathError),
        (tally.wrong_path, GatewayStatus::WrongPath),
        (tally.too_late, GatewayStatus::TooLate),
    ]
    .into_iter()
    .find_map(|(count, status)| (count > 0).then_some(status))
    .unwrap_or(GatewayStatus::Silent)
}
