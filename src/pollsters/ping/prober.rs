//! Makes one round of probes: sends what is due, reads what arrived, sleeps until the next of
//! either, and says when the round is over. It blocks its thread and nobody else.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::icmp::Family;
use super::round::{Aim, BURST, Plan, Round, SendFault, Tally};
use super::socket::{IcmpSocket, News};
use crate::clock;
use crate::model::FailReason;

/// What a round found out.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// What became of the probes, aim by aim.
    pub tallies: Vec<Tally>,
    /// The reason to believe none of them, if there is one.
    pub void: Option<FailReason>,
}

/// Probes all aims at once. `sources` holds the source address for each family, if it is set;
/// `first_seq` differs from round to round.
pub fn probe(plan: Plan, aims: Vec<Aim>, sources: &[IpAddr], first_seq: u16) -> Findings {
    let start = clock::now();
    let mut sockets = Sockets::open(&aims, sources, start);
    let mut round = Round::new(plan, aims, start, first_seq);
    let mut news = Vec::new();
    loop {
        send_due(&mut round, &sockets);
        // The time is read before the socket: whatever had arrived by then is read before the round
        // is asked whether it is over. The other way round, a stop between the two would leave
        // replies unread and the target dead.
        let now = clock::now();
        round.looked_at(now);
        sockets.drain(&mut round, &mut news);
        if round.is_over(now) {
            break;
        }
        let wake_at = round.wake_at();
        if now < wake_at {
            sockets.wait(wake_at - now);
        }
    }
    Findings {
        tallies: round.tallies(),
        void: sockets.why_void(&round),
    }
}

fn send_due(round: &mut Round, sockets: &Sockets) {
    let mut now = clock::now();
    for _ in 0..BURST {
        round.looked_at(now);
        let Some((index, aim, seq)) = round.due(now) else {
            return;
        };
        match sockets.send(aim, seq) {
            Ok(()) => round.sent(index, now),
            Err(fault) => round.not_sent(index, fault),
        }
        // A stop within the send would make its reply look slow.
        let after = clock::now();
        round.woke(now, after);
        now = after;
    }
}

/// The sockets of one round: one for each family that has a target.
struct Sockets {
    open: Vec<(Family, Result<IcmpSocket, FailReason>)>,
    sources: Vec<IpAddr>,
}

impl Sockets {
    fn open(aims: &[Aim], sources: &[IpAddr], now: Instant) -> Self {
        let mut open: Vec<(Family, Result<IcmpSocket, FailReason>)> = Vec::new();
        for family in [Family::V4, Family::V6] {
            if aims.iter().any(|aim| Family::of(aim.address) == family) {
                open.push((family, IcmpSocket::open(family, now)));
            }
        }
        Sockets {
            open,
            sources: sources.to_vec(),
        }
    }

    fn send(&self, aim: Aim, seq: u16) -> Result<(), SendFault> {
        let family = Family::of(aim.address);
        let source = self
            .sources
            .iter()
            .copied()
            .find(|source| Family::of(*source) == family);
        match self.open.iter().find(|(of, _)| *of == family) {
            Some((_, Ok(socket))) => socket.send(aim.address, source, aim.interface, seq),
            Some((_, Err(reason))) => Err(SendFault::Ours(*reason)),
            None => Err(SendFault::Ours(FailReason::SystemError)),
        }
    }

    fn drain(&mut self, round: &mut Round, news: &mut Vec<News>) {
        for socket in self.usable() {
            socket.drain(news);
        }
        for (seq, heard) in news.drain(..) {
            round.heard(seq, heard);
        }
    }

    /// Sleeps until something arrives, at most for `limit`.
    fn wait(&self, limit: Duration) {
        let mut fds: Vec<PollFd<'_>> = self
            .open
            .iter()
            .filter_map(|(_, socket)| socket.as_ref().ok())
            .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        // An interrupted or failed sleep is only a look too early.
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(limit)), None);
    }

    fn why_void(&self, round: &Round) -> Option<FailReason> {
        if round.late_by().is_some() {
            return Some(FailReason::TimersLate);
        }
        let dropped = self
            .open
            .iter()
            .filter_map(|(_, socket)| socket.as_ref().ok())
            .any(|socket| socket.dropped() > 0);
        dropped.then_some(FailReason::ReceiveOverflow)
    }

    fn usable(&mut self) -> impl Iterator<Item = &mut IcmpSocket> {
        self.open
            .iter_mut()
            .filter_map(|(_, socket)| socket.as_mut().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{setsockopt, sockopt};

    /// Opens a real ICMP socket, and so needs root or a group within net.ipv4.ping_group_range.
    #[test]
    fn replies_that_our_own_socket_dropped_void_the_round() {
        let plan = Plan {
            count: 1,
            spacing: Duration::from_millis(10),
            timeout: Duration::from_millis(500),
        };
        let aim = Aim {
            address: "127.0.0.1".parse().unwrap(),
            interface: 1,
        };
        let mut sockets = Sockets::open(&[aim], &[], clock::now());
        let mut round = Round::new(plan, vec![aim], clock::now(), 0);
        assert_eq!(sockets.why_void(&round), None);
        // The smallest buffer there is: a few replies.
        let socket = sockets.open[0].1.as_ref().unwrap();
        setsockopt(socket, sockopt::RcvBuf, &1).unwrap();
        for seq in 0..64 {
            sockets.send(aim, seq).unwrap();
        }
        let mut news = Vec::new();
        sockets.drain(&mut round, &mut news);
        // The kernel says with the next packet how many it dropped before.
        sockets.send(aim, 64).unwrap();
        sockets.drain(&mut round, &mut news);
        assert_eq!(sockets.why_void(&round), Some(FailReason::ReceiveOverflow));
    }
}
