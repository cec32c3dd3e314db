//! Pure. One round of probes: when each is due, what became of it, and when all is said.
//!
//! ```text
//! Due ──sent──► Waiting ──reply in time, right interface──► Answered
//!  │               │  ▲                                        ▲
//!  │               │  └─ an error is kept, but a reply ────────┘
//!  │               │     that still comes outweighs it
//!  │               └──deadline──► lost (with the error, if one came)
//!  ├──our stack says the neighbour doesn't answer──► lost (unreachable)
//!  └──our side can't send──► Fault
//! ```

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::icmp::PathError;
use crate::model::FailReason;

/// How late a timer may be before the round says nothing. Beyond it we were stopped, paused or
/// starved, and silence could be our own.
pub const LATENESS_MAX: Duration = Duration::from_millis(100);
/// Probes sent between two looks at the socket: about a quarter of what the smallest default
/// receive buffer holds, so that a burst's replies can't overflow it.
pub const BURST: usize = 64;
/// Pause between two bursts of the same phase, so that a thousand targets don't answer at once.
const BURST_PAUSE: Duration = Duration::from_millis(1);
/// Probes in one round: what 16 bits of sequence number tell apart with room to spare. A
/// configuration that asks for more is refused.
pub const PROBES_MAX: usize = 32_768;

/// How a round is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Probes for each target.
    pub count: u16,
    /// Time between two probes of one target.
    pub spacing: Duration,
    /// How long each probe waits for its reply.
    pub timeout: Duration,
}

/// The numbers of one pollster's probes: none is used again before all were.
#[derive(Debug, Clone, Copy, Default)]
pub struct Numbers {
    next: u16,
}

impl Numbers {
    /// The first of the numbers for a round to so many targets.
    pub fn take(&mut self, plan: Plan, targets: usize) -> u16 {
        let first = self.next;
        let probes = targets * usize::from(plan.count);
        self.next = first.wrapping_add(u16::try_from(probes).unwrap_or(u16::MAX));
        first
    }
}

/// Why a probe couldn't be sent. The first two are evidence about the network or the path; the
/// rest say nothing about the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendFault {
    /// EHOSTUNREACH: our own stack says that the neighbour doesn't answer.
    NeighbourSilent,
    /// ENETUNREACH, ENETDOWN, ENODEV, EADDRNOTAVAIL …: link, address or route is gone here.
    LocalPath,
    /// Ours alone.
    Ours(FailReason),
}

/// What became of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    Due,
    Waiting {
        sent: Instant,
        heard: Option<NotAnAnswer>,
    },
    Answered {
        rtt: Duration,
    },
    Fault(SendFault),
}

/// What came back for a probe without being its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotAnAnswer {
    Error(PathError),
    WrongPath,
    TooLate,
}

/// What became of one target's probes, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Probes that left, or that our own stack took back because the neighbour is silent.
    pub sent: u32,
    /// Replies in time by the right interface.
    pub answered: u32,
    /// ICMP unreachable, or EHOSTUNREACH from our own stack.
    pub unreachable: u32,
    /// Refused by a filter on the path.
    pub prohibited: u32,
    /// Hop limit exceeded.
    pub time_exceeded: u32,
    /// Other ICMP errors.
    pub path_error: u32,
    /// Replies by another interface.
    pub wrong_path: u32,
    /// Replies after their timeout.
    pub too_late: u32,
    /// Sends that failed because link, address or route is gone here.
    pub local_path: u32,
    /// The first fault of our own.
    pub fault: Option<FailReason>,
    /// Median round-trip time of the answered probes.
    pub rtt: Option<Duration>,
}

/// Something read from the network about a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// An echo reply from this address.
    Reply {
        /// Who answered.
        from: IpAddr,
        /// When it arrived at our kernel.
        arrived: Instant,
        /// By which interface.
        interface: Option<u32>,
    },
    /// An ICMP error about a probe for this address.
    Error {
        /// Whom the probe was for.
        target: IpAddr,
        /// What was said.
        error: PathError,
    },
}

/// Whom a round probes, and by which interface answers count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aim {
    /// The target's address.
    pub address: IpAddr,
    /// The interface that its answers must come in by.
    pub interface: u32,
}

/// One round in progress.
#[derive(Debug)]
pub struct Round {
    plan: Plan,
    aims: Vec<Aim>,
    start: Instant,
    burst_pause: Duration,
    /// Probe `k` is the one for aim `k % aims` in phase `k / aims`; its sequence number is
    /// `first_seq + k`.
    probes: Vec<Probe>,
    first_seq: u16,
    next: usize,
    waiting: usize,
    last_deadline: Instant,
    late_by: Option<Duration>,
}

impl Round {
    /// A round that starts at `start`. `first_seq` should differ from round to round, so that a
    /// straggler of the last one can't be taken for an answer of this one.
    pub fn new(plan: Plan, aims: Vec<Aim>, start: Instant, first_seq: u16) -> Self {
        let total = (aims.len() * usize::from(plan.count)).min(PROBES_MAX);
        let bursts = u32::try_from(aims.len().div_ceil(BURST))
            .unwrap_or(u32::MAX)
            .max(1);
        Round {
            plan,
            start,
            burst_pause: BURST_PAUSE.min(plan.spacing / bursts),
            probes: vec![Probe::Due; total],
            aims,
            first_seq,
            next: 0,
            waiting: 0,
            last_deadline: start,
            late_by: None,
        }
    }

    /// The next probe, if one is due at `now`: its index, aim and sequence number.
    pub fn due(&self, now: Instant) -> Option<(usize, Aim, u16)> {
        let index = self.next;
        if index >= self.probes.len() || now < self.due_at(index) {
            return None;
        }
        let aim = *self.aims.get(index % self.aims.len())?;
        let offset = u16::try_from(index).ok()?;
        Some((index, aim, self.first_seq.wrapping_add(offset)))
    }

    /// The probe that was due has left; `sent` is the time just before.
    pub fn sent(&mut self, index: usize, sent: Instant) {
        self.settle_due(index, Probe::Waiting { sent, heard: None });
        self.waiting += 1;
        self.last_deadline = self.last_deadline.max(sent + self.plan.timeout);
    }

    /// The probe that was due couldn't be sent.
    pub fn not_sent(&mut self, index: usize, fault: SendFault) {
        self.settle_due(index, Probe::Fault(fault));
    }

    /// Takes in what was heard about the probe with this sequence number. What isn't about a probe
    /// of this round, or comes from somebody else, changes nothing.
    pub fn heard(&mut self, seq: u16, heard: Heard) {
        let index = usize::from(seq.wrapping_sub(self.first_seq));
        let Some(aim) = self.aims.get(index % self.aims.len().max(1)).copied() else {
            return;
        };
        let Some(probe) = self.probes.get_mut(index) else {
            return;
        };
        let Probe::Waiting {
            sent,
            heard: before,
        } = *probe
        else {
            return;
        };
        let news = match heard {
            Heard::Reply { from, .. } if from != aim.address => return,
            Heard::Error { target, .. } if target != aim.address => return,
            Heard::Error { error, .. } => NotAnAnswer::Error(error),
            Heard::Reply { interface, .. }
                if interface.is_some_and(|came| came != aim.interface) =>
            {
                NotAnAnswer::WrongPath
            }
            Heard::Reply { arrived, .. } => {
                let rtt = arrived.saturating_duration_since(sent);
                if rtt <= self.plan.timeout {
                    *probe = Probe::Answered { rtt };
                    self.waiting -= 1;
                    return;
                }
                NotAnAnswer::TooLate
            }
        };
        *probe = Probe::Waiting {
            sent,
            heard: before.or(Some(news)),
        };
    }

    /// Whether nothing that may still come can change the result.
    pub fn is_over(&self, now: Instant) -> bool {
        self.next >= self.probes.len() && (self.waiting == 0 || now >= self.last_deadline)
    }

    /// When to look again if nothing is heard: the next probe that is due, or the last deadline.
    pub fn wake_at(&self) -> Instant {
        if self.next < self.probes.len() {
            self.due_at(self.next)
        } else {
            self.last_deadline
        }
    }

    /// Tells the round that we look at it `now`: late, if what it waits for was due long before.
    pub fn looked_at(&mut self, now: Instant) {
        if self.next < self.probes.len() || self.waiting > 0 {
            self.woke(self.wake_at(), now);
        }
    }

    /// Tells the round that we looked at `now` although `wanted` was the time to.
    pub fn woke(&mut self, wanted: Instant, now: Instant) {
        let late = now.saturating_duration_since(wanted);
        if late > LATENESS_MAX {
            self.late_by = Some(self.late_by.unwrap_or_default().max(late));
        }
    }

    /// How late our timers were, if that was too late for the round to say anything.
    pub fn late_by(&self) -> Option<Duration> {
        self.late_by
    }

    /// What became of each aim's probes, in the order of the aims.
    pub fn tallies(&self) -> Vec<Tally> {
        (0..self.aims.len()).map(|aim| self.tally(aim)).collect()
    }

    fn tally(&self, aim: usize) -> Tally {
        let mut tally = Tally::default();
        let mut rtts = Vec::with_capacity(usize::from(self.plan.count));
        for probe in self.probes.iter().skip(aim).step_by(self.aims.len().max(1)) {
            tally.add(probe);
            if let Probe::Answered { rtt } = probe {
                rtts.push(*rtt);
            }
        }
        rtts.sort_unstable();
        tally.rtt = rtts.get(rtts.len() / 2).copied();
        tally
    }

    fn due_at(&self, index: usize) -> Instant {
        let aims = self.aims.len().max(1);
        let phase = u32::try_from(index / aims).unwrap_or(u32::MAX);
        let burst = u32::try_from(index % aims / BURST).unwrap_or(u32::MAX);
        self.start + self.plan.spacing * phase + self.burst_pause * burst
    }

    fn settle_due(&mut self, index: usize, to: Probe) {
        if let Some(probe) = self.probes.get_mut(index) {
            *probe = to;
        }
        self.next = index + 1;
    }
}

impl Tally {
    fn add(&mut self, probe: &Probe) {
        match *probe {
            Probe::Due | Probe::Fault(SendFault::Ours(_) | SendFault::LocalPath) => {}
            Probe::Waiting { .. }
            | Probe::Answered { .. }
            | Probe::Fault(SendFault::NeighbourSilent) => self.sent += 1,
        }
        match *probe {
            Probe::Answered { .. } => self.answered += 1,
            Probe::Waiting {
                heard: Some(heard), ..
            } => *self.count_of(heard) += 1,
            Probe::Fault(SendFault::NeighbourSilent) => self.unreachable += 1,
            Probe::Fault(SendFault::LocalPath) => self.local_path += 1,
            Probe::Fault(SendFault::Ours(reason)) => self.fault = self.fault.or(Some(reason)),
            Probe::Due | Probe::Waiting { heard: None, .. } => {}
        }
    }

    fn count_of(&mut self, heard: NotAnAnswer) -> &mut u32 {
        match heard {
            NotAnAnswer::Error(PathError::Unreachable) => &mut self.unreachable,
            NotAnAnswer::Error(PathError::Prohibited) => &mut self.prohibited,
            NotAnAnswer::Error(PathError::TimeExceeded) => &mut self.time_exceeded,
            NotAnAnswer::Error(PathError::Other) => &mut self.path_error,
            NotAnAnswer::WrongPath => &mut self.wrong_path,
            NotAnAnswer::TooLate => &mut self.too_late,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const MS: Duration = Duration::from_millis(1);
    const PLAN: Plan = Plan {
        count: 4,
        spacing: Duration::from_millis(100),
        timeout: Duration::from_millis(500),
    };

    fn aim(last: u8) -> Aim {
        Aim {
            address: Ipv4Addr::new(192, 0, 2, last).into(),
            interface: 3,
        }
    }

    fn reply(last: u8, arrived: Instant) -> Heard {
        Heard::Reply {
            from: aim(last).address,
            arrived,
            interface: Some(3),
        }
    }

    /// Sends everything on time and returns (sequence number, aim, time sent) of each probe.
    fn send_all(round: &mut Round) -> Vec<(u16, Aim, Instant)> {
        let mut sent = Vec::new();
        while round.next < round.probes.len() {
            let now = round.wake_at();
            let (index, aim, seq) = round.due(now).expect("due when it asked to be woken");
            round.sent(index, now);
            sent.push((seq, aim, now));
        }
        sent
    }

    #[test]
    fn no_two_rounds_share_a_sequence_number_until_all_were_used() {
        let plan = Plan {
            count: 4,
            spacing: Duration::from_millis(10),
            timeout: Duration::from_millis(10),
        };
        let mut numbers = Numbers::default();
        let firsts: Vec<u16> = (0..3).map(|_| numbers.take(plan, 2)).collect();
        assert_eq!(firsts, [0, 8, 16]);
        numbers.next = u16::MAX;
        numbers.take(plan, 2);
        assert_eq!(numbers.take(plan, 2), 7, "they begin again");
    }

    #[test]
    fn all_answered_ends_at_once() {
        let start = clock::now();
        let mut round = Round::new(PLAN, vec![aim(1), aim(2)], start, 65_530);
        for (seq, aim, sent) in send_all(&mut round) {
            assert!(!round.is_over(sent));
            let heard = Heard::Reply {
                from: aim.address,
                arrived: sent + 2 * MS,
                interface: Some(3),
            };
            round.heard(seq, heard);
        }
        assert!(round.is_over(start + 301 * MS));
        for tally in round.tallies() {
            assert_eq!(
                tally,
                Tally {
                    sent: 4,
                    answered: 4,
                    rtt: Some(2 * MS),
                    ..Tally::default()
                }
            );
        }
    }

    #[test]
    fn a_dead_gateway_lengthens_the_round_by_its_timeout_and_sixteen_by_no_more() {
        for dead in [1u8, 16] {
            let start = clock::now();
            let mut round = Round::new(PLAN, (0..dead).map(aim).collect(), start, 0);
            send_all(&mut round);
            assert!(!round.is_over(start + 799 * MS));
            assert!(round.is_over(start + 801 * MS), "{dead} dead ones");
            assert!(round.tallies().iter().all(|tally| *tally
                == Tally {
                    sent: 4,
                    ..Tally::default()
                }));
        }
    }

    #[test]
    fn arrival_decides_and_not_when_it_was_read() {
        let start = clock::now();
        let mut round = Round::new(PLAN, vec![aim(1)], start, 0);
        let sent = send_all(&mut round);
        round.heard(sent[0].0, reply(1, sent[0].2 + 500 * MS));
        round.heard(sent[1].0, reply(1, sent[1].2 + 501 * MS));
        let tally = round.tallies()[0];
        assert_eq!((tally.answered, tally.too_late), (1, 1));
    }

    #[test]
    fn an_answer_outweighs_an_error_and_a_repeat_changes_nothing() {
        let start = clock::now();
        let mut round = Round::new(PLAN, vec![aim(1)], start, 0);
        let sent = send_all(&mut round);
        let error = Heard::Error {
            target: aim(1).address,
            error: PathError::Prohibited,
        };
        round.heard(sent[0].0, error);
        round.heard(sent[0].0, reply(1, sent[0].2 + MS));
        round.heard(sent[0].0, error);
        round.heard(sent[0].0, reply(1, sent[0].2 + MS));
        round.heard(sent[1].0, error);
        let tally = round.tallies()[0];
        assert_eq!((tally.answered, tally.prohibited), (1, 1));
        assert_eq!(round.waiting, 3);
    }

    #[test]
    fn somebody_elses_answer_or_another_interface_is_no_answer() {
        let start = clock::now();
        let mut round = Round::new(PLAN, vec![aim(1), aim(2)], start, 100);
        let sent = send_all(&mut round);
        let (seq, _, at) = sent[0];
        round.heard(seq, reply(9, at + MS));
        round.heard(seq.wrapping_sub(1), reply(1, at + MS));
        round.heard(seq + 8, reply(1, at + MS));
        let around = Heard::Reply {
            from: aim(1).address,
            arrived: at + MS,
            interface: Some(2),
        };
        round.heard(seq, around);
        let tally = round.tallies()[0];
        assert_eq!((tally.answered, tally.wrong_path), (0, 1));
    }

    #[test]
    fn faults_of_our_own_are_kept_apart_from_the_networks() {
        let mut round = Round::new(PLAN, vec![aim(1)], clock::now(), 0);
        for (at, fault) in [
            (0, SendFault::NeighbourSilent),
            (1, SendFault::LocalPath),
            (2, SendFault::Ours(FailReason::NoBuffers)),
            (3, SendFault::Ours(FailReason::OutputBlocked)),
        ] {
            round.not_sent(at, fault);
        }
        let expected = Tally {
            sent: 1,
            unreachable: 1,
            local_path: 1,
            fault: Some(FailReason::NoBuffers),
            ..Tally::default()
        };
        assert_eq!(round.tallies()[0], expected);
        assert!(round.is_over(round.start));
    }

    #[test]
    fn late_timers_are_noticed_from_100_ms_on() {
        let start = clock::now();
        let mut round = Round::new(PLAN, vec![aim(1)], start, 0);
        round.woke(start, start + LATENESS_MAX);
        assert_eq!(round.late_by(), None);
        round.woke(start, start + LATENESS_MAX + MS);
        round.woke(start, start + LATENESS_MAX);
        assert_eq!(round.late_by(), Some(LATENESS_MAX + MS));
    }

    #[test]
    fn a_look_is_late_only_while_something_is_due_or_waited_for() {
        let start = clock::now();
        let late = LATENESS_MAX + MS;
        let mut waits = Round::new(PLAN, vec![aim(1)], start, 0);
        waits.looked_at(start + LATENESS_MAX);
        assert_eq!(waits.late_by(), None);
        waits.looked_at(start + late);
        assert_eq!(waits.late_by(), Some(late), "the first probe was due");

        let mut silent = Round::new(PLAN, vec![aim(1)], start, 0);
        send_all(&mut silent);
        silent.looked_at(start + 800 * MS + late);
        assert_eq!(silent.late_by(), Some(late), "the last deadline had passed");

        let mut unsent = Round::new(PLAN, vec![aim(1)], start, 0);
        for index in 0..4 {
            unsent.not_sent(index, SendFault::Ours(FailReason::OutputBlocked));
        }
        unsent.looked_at(start + 10 * late);
        assert_eq!(unsent.late_by(), None, "there is nothing to be late for");
    }

    #[test]
    fn a_thousand_targets_are_spread_within_their_phase() {
        let start = clock::now();
        let aims: Vec<Aim> = (0..1000).map(|_| aim(1)).collect();
        let mut round = Round::new(PLAN, aims, start, 0);
        let sent = send_all(&mut round);
        assert_eq!(sent.len(), 4000);
        let phase_ends: Vec<Duration> = sent
            .chunks(1000)
            .map(|phase| phase[999].2 - start)
            .collect();
        for (phase, end) in phase_ends.iter().enumerate() {
            let base = PLAN.spacing * u32::try_from(phase).unwrap();
            assert!(
                *end >= base && *end < base + 20 * MS,
                "phase {phase} ends at {end:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_probe_is_counted_once_whatever_is_heard(
            gateways in 1u8..20,
            first_seq: u16,
            news in proptest::collection::vec((any::<u16>(), 0u8..20, 0u64..900, any::<bool>(), 0u32..5), 0..200),
        ) {
            let start = clock::now();
            let mut round = Round::new(PLAN, (0..gateways).map(aim).collect(), start, first_seq);
            send_all(&mut round);
            for (seq, from, at, is_reply, interface) in news {
                let heard = if is_reply {
                    Heard::Reply { from: aim(from).address, arrived: start + MS * u32::try_from(at).unwrap(), interface: Some(interface) }
                } else {
                    Heard::Error { target: aim(from).address, error: PathError::Unreachable }
                };
                round.heard(seq, heard);
                round.heard(first_seq.wrapping_add(seq % 100), heard);
            }
            for tally in round.tallies() {
                prop_assert_eq!(tally.sent, 4);
                let named = tally.answered + tally.unreachable + tally.wrong_path + tally.too_late;
                prop_assert!(named <= 4);
                prop_assert_eq!(tally.rtt.is_some(), tally.answered > 0);
            }
            prop_assert!(round.is_over(start + 801 * MS));
        }
    }
}
