//! Pure. Sorts rows by the host that reported them, and hosts by how much they need a look.

use std::collections::BTreeMap;

use super::host::{HostRows, host_view};
use super::view::{FleetView, HostView};
use crate::model::{PathRow, StateRow, UtcTime};

/// What the rows say at `now`, which is the database's clock as the rows' times of receipt are.
pub fn view(now: UtcTime, states: &[StateRow], paths: &[PathRow]) -> FleetView {
    let mut by_host: BTreeMap<&str, HostRows<'_>> = BTreeMap::new();
    for row in states {
        by_host.entry(&row.observer).or_default().add_state(row);
    }
    for row in paths {
        by_host.entry(&row.observer).or_default().add_path(row);
    }
    let mut hosts: Vec<HostView> = by_host
        .iter()
        .map(|(host, rows)| host_view(now, host, rows))
        .collect();
    hosts.sort_by(|a, b| {
        urgency(a)
            .cmp(&urgency(b))
            .then_with(|| a.host.cmp(&b.host))
    });
    FleetView { now, hosts }
}

/// Lost before unknown before reachable with some other problem before the rest.
fn urgency(host: &HostView) -> (bool, super::Verdict) {
    (!host.has_problem(), host.storage.verdict)
}
