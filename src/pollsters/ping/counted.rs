//! Pure. What became of each probe of a round, for the metrics. Every probe that was due is counted
//! once, so that the counters add up to rounds times targets times probes.

use super::round::Tally;
use crate::events::{ProbeResult, Probes};

/// The probes of a round: `asked` were due for each target, and a tally is None where none could be
/// tried.
pub fn of_round<'t>(
    asked: u16,
    tallies: impl Iterator<Item = Option<&'t Tally>>,
    is_void: bool,
) -> Probes {
    let mut probes = Probes::default();
    for tally in tallies {
        add(&mut probes, asked, tally, is_void);
    }
    probes
}

fn add(probes: &mut Probes, asked: u16, tally: Option<&Tally>, is_void: bool) {
    let asked = u32::from(asked);
    if is_void {
        probes.add(ProbeResult::Void, asked);
        return;
    }
    let Tally {
        sent,
        answered,
        unreachable,
        prohibited,
        time_exceeded,
        path_error,
        wrong_path,
        too_late,
        local_path,
        fault: _,
        rtt: _,
    } = tally.copied().unwrap_or_default();
    let came_to = [
        (ProbeResult::Answered, answered),
        (ProbeResult::Unreachable, unreachable),
        (ProbeResult::Prohibited, prohibited),
        (ProbeResult::TimeExceeded, time_exceeded),
        (ProbeResult::PathError, path_error),
        (ProbeResult::WrongPath, wrong_path),
        (ProbeResult::TooLate, too_late),
    ];
    let heard_of: u32 = came_to.iter().map(|(_, number)| number).sum();
    for (result, number) in came_to {
        probes.add(result, number);
    }
    probes.add(ProbeResult::Silent, sent.saturating_sub(heard_of));
    probes.add(ProbeResult::LocalPathLost, local_path);
    let left = asked.saturating_sub(sent).saturating_sub(local_path);
    probes.add(ProbeResult::NotSent, left);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProbeResult::{Answered, LocalPathLost, NotSent, Silent, Unreachable, Void};

    fn counted(tally: Option<Tally>, is_void: bool) -> Vec<(ProbeResult, u64)> {
        let probes = of_round(4, std::iter::once(tally.as_ref()), is_void);
        let all = ProbeResult::ALL
            .iter()
            .map(|result| (*result, probes.of(*result)));
        let some: Vec<_> = all.filter(|(_, number)| *number > 0).collect();
        let sum: u64 = some.iter().map(|(_, number)| number).sum();
        assert_eq!(sum, 4, "each probe once");
        some
    }

    #[test]
    fn every_probe_that_was_due_is_counted_once() {
        let tally = Tally {
            sent: 4,
            answered: 1,
            unreachable: 1,
            ..Tally::default()
        };
        assert_eq!(
            counted(Some(tally), false),
            [(Answered, 1), (Silent, 2), (Unreachable, 1)]
        );
        assert_eq!(counted(Some(tally), true), [(Void, 4)]);
        assert_eq!(counted(None, false), [(NotSent, 4)]);
        let cut = Tally {
            sent: 1,
            answered: 1,
            local_path: 2,
            ..Tally::default()
        };
        assert_eq!(
            counted(Some(cut), false),
            [(Answered, 1), (LocalPathLost, 2), (NotSent, 1)]
        );
    }
}
