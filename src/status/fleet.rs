//! Pure. Sorts rows by the host that reported them, and hosts by how much they need a look.

use std::collections::BTreeMap;

use super::host::{HostFacts, HostRows, host_view};
use super::instances::placed_instances;
use super::outside::Looks;
use super::view::{
    FleetView, HostView, ObserverView, OutsideView, PlacedInstanceView, UnknownReason, Verdict,
};
use crate::model::{Fleet, UtcTime};

/// How others see a host, by host.
type Outside<'a> = BTreeMap<&'a str, Vec<OutsideView>>;

/// What the rows say at their `now`, which is the database's clock as their times of receipt are.
pub fn view(fleet: &Fleet) -> FleetView {
    let now = fleet.now;
    let by_observer = sorted(fleet);
    let facts: Vec<HostFacts<'_>> = by_observer
        .iter()
        .map(|(host, rows)| HostFacts::new(now, host, rows))
        .collect();
    let mut instances: Vec<PlacedInstanceView> = facts.iter().flat_map(placed_instances).collect();
    instances.sort_by(|a, b| (&a.uuid, &a.host).cmp(&(&b.uuid, &b.host)));
    let mut outside = Outside::new();
    let mut looking = Vec::new();
    let mut itself = Vec::new();
    for facts in &facts {
        let looks = Looks::of(facts).map(|looks| (looks.views(), looks));
        let is_host = looks.is_none() || facts.senses_itself();
        if is_host {
            itself.push(facts);
        }
        let Some((views, looks)) = looks else {
            continue;
        };
        for (host, view) in &views {
            outside.entry(host).or_default().push(view.clone());
        }
        looking.push((facts.host, is_host, looks, views));
    }
    let observers = looking.into_iter().map(|(host, is_host, looks, views)| {
        // One that is no host is shown once, as an observer, even if another looks at it.
        let seen = (!is_host).then(|| outside.remove(host)).flatten();
        looks.observer_view(is_host, &views, seen.unwrap_or_default())
    });
    let observers = by_urgency(observers.collect(), observer_urgency, |view| &view.observer);
    let hosts = hosts(now, &itself, outside);
    FleetView {
        now,
        hosts: by_urgency(hosts, host_urgency, |view| &view.host),
        observers,
        instances,
    }
}

/// By observer. What is known beside states and paths belongs to those that have any.
fn sorted(fleet: &Fleet) -> BTreeMap<&str, HostRows<'_>> {
    let Fleet {
        now: _,
        states,
        paths,
        rounds,
        complete_rounds,
        observers,
    } = fleet;
    let mut by_observer: BTreeMap<&str, HostRows<'_>> = BTreeMap::new();
    for row in states {
        by_observer.entry(&row.observer).or_default().add_state(row);
    }
    for row in paths {
        by_observer.entry(&row.observer).or_default().add_path(row);
    }
    for row in rounds {
        by_observer.entry(&row.observer).or_default().add_round(row);
    }
    for row in complete_rounds {
        if let Some(rows) = by_observer.get_mut(row.observer.as_str()) {
            rows.complete_round = Some(row);
        }
    }
    for row in observers {
        if let Some(rows) = by_observer.get_mut(row.observer.as_str()) {
            rows.observer = Some(row);
        }
    }
    by_observer
}

/// Those that report about themselves, and those that are only seen by others.
fn hosts(now: UtcTime, itself: &[&HostFacts<'_>], mut outside: Outside<'_>) -> Vec<HostView> {
    let mut hosts: Vec<HostView> = itself
        .iter()
        .map(|facts| host_view(facts, outside.remove(facts.host).unwrap_or_default()))
        .collect();
    let nothing = HostRows::default();
    let others = outside
        .into_iter()
        .map(|(host, views)| host_view(&HostFacts::new(now, host, &nothing), views));
    hosts.extend(others);
    hosts
}

fn by_urgency<T, U: Ord>(
    mut views: Vec<T>,
    urgency: fn(&T) -> U,
    name: fn(&T) -> &String,
) -> Vec<T> {
    views.sort_by(|a, b| {
        let by_name = || name(a).cmp(name(b));
        urgency(a).cmp(&urgency(b)).then_with(by_name)
    });
    views
}

/// Lost; then unknown, and of these first whoever gives no answer outside either, because it is
/// likely to be dead; then reachable with some other problem. Whatever never reported but answers
/// from outside may be a router that serves as a witness, and comes after all of these.
fn host_urgency(host: &HostView) -> (bool, u8) {
    let answer = |answers| {
        let mut outside = host.outside.iter();
        outside.any(|view| view.answers == Some(answers))
    };
    let never_reported = host.storage.reason == Some(UnknownReason::NeverReported);
    let rank = match host.storage.verdict {
        Verdict::Lost => 0,
        Verdict::Unknown if answer(false) => 1,
        Verdict::Unknown if never_reported && answer(true) => 4,
        Verdict::Unknown => 2,
        Verdict::Reachable => 3,
    };
    (!host.has_problem(), rank)
}

fn observer_urgency(observer: &ObserverView) -> bool {
    !observer.has_problem()
}
