//! Pure. The fleet as a table for a terminal: one line a host, and below it, indented, its gateways,
//! what can't be probed, its instances, how it is seen from outside, and the paths by which it is
//! heard. Those who look from outside come after the hosts.

use super::identity::{clock_words, conflict_words};
use super::text::{age, columns, pad_left, pad_right, wrap};
use super::view::{
    FailureView, FleetView, GatewayView, HeartbeatView, HostView, HypervisorView, InstanceView,
    InstancesView, ObserverView, OutsideNetworkView, OutsideView, PathView, Trouble, UnknownReason,
    Verdict,
};
use crate::model::{FailReason, meters};

/// How the table is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableOptions {
    /// Columns of the terminal. Below 60 the table is drawn for 60, the least in which its columns
    /// keep apart.
    pub width: usize,
    /// Whether to colour by ANSI escape sequences. Nothing is said by colour alone.
    pub colour: bool,
}

/// The narrowest terminal that the table is drawn for, in columns.
const WIDTH_MIN: usize = 60;

/// The columns of STORAGE: `reachable`.
const STORAGE_COLUMNS: usize = 9;

/// The columns of AGE: `-119 min`, where the database's clock went back.
const AGE_COLUMNS: usize = 8;

/// The columns of HEARTBEAT: `silent 119 min`.
const HEARTBEAT_COLUMNS: usize = 14;

/// The columns that CLUSTER has at least. A longer tag is cut where there is no more room, unlike a
/// host's name, by which someone may switch a machine off.
const CLUSTER_COLUMNS: usize = 10;

/// All that stands between HOST and CLUSTER, with the gaps of two columns.
const FIXED_COLUMNS: usize = 2 + STORAGE_COLUMNS + 2 + AGE_COLUMNS + 2 + HEARTBEAT_COLUMNS + 2;

/// The columns of a gateway's loss: `>99 %`.
const LOSS_COLUMNS: usize = 5;

/// The columns of a gateway's round-trip time: `99000 ms`.
const RTT_COLUMNS: usize = 8;

/// All of a gateway's line but its address and status, with the indent and the gaps.
const FIGURE_COLUMNS: usize = 2 + 2 + LOSS_COLUMNS + 2 + RTT_COLUMNS + 2;

/// The columns that a gateway's status has at least, so that at 80 columns the longest IPv6 address
/// (39) keeps its line.
const STATUS_COLUMNS_MIN: usize = 20;

/// The longest round-trip time that is shown, in microseconds: 99 s, beyond any timeout.
const RTT_US_MAX: f64 = 99e6;

/// How many instances of one host that something happened to are listed: a storage that is gone
/// pauses all of them at once, and their host must leave room for others. JSON has them all.
const INSTANCES_LISTED_MAX: usize = 10;

/// What to say of a libvirt that doesn't answer.
const LIBVIRT_DEAD: &str = "libvirt hangs or is dead: its instances can't be looked at";

/// A blank at which no line is broken; only while lines are made, never in the output.
const NO_BREAK_SPACE: &str = "\u{a0}";

/// What to say when there is nothing to show.
const EMPTY: &str = "No host has reported yet. Check that ceilometer-polling-ha runs on the compute \
    nodes, that a publisher in their pipeline_ha.yaml names this collector's address and port, that \
    telemetry_secret is the same on both sides, and that [database] connection is the one that \
    ceilometer-collector-ha writes to.";

/// Draws the table; every line ends in a line feed and is at most `options.width` columns wide.
pub fn render_table(view: &FleetView, options: &TableOptions) -> String {
    let width = options.width.max(WIDTH_MIN);
    let table = Table {
        width,
        colour: options.colour,
        host_columns: host_columns(view, width),
        address_columns: address_columns(view, width),
    };
    let lines = match view.hosts.is_empty() && view.observers.is_empty() {
        true => wrap(EMPTY, width),
        false => table.lines(view),
    };
    lines
        .iter()
        .flat_map(|line| [line.trim_end(), "\n"])
        .collect()
}

/// The widths that all lines share.
struct Table {
    width: usize,
    colour: bool,
    host_columns: usize,
    address_columns: usize,
}

/// What a colour stands for.
#[derive(Clone, Copy)]
enum Tone {
    Good,
    Doubtful,
    Bad,
}

impl Tone {
    fn ansi_code(self) -> u8 {
        match self {
            Tone::Good => 32,
            Tone::Doubtful => 33,
            Tone::Bad => 31,
        }
    }
}

impl Table {
    fn lines(&self, view: &FleetView) -> Vec<String> {
        let mut lines = wrap(&summary(view), self.width);
        lines.push(String::new());
        lines.push(self.heading());
        lines.extend(view.hosts.iter().flat_map(|host| self.host(host)));
        if !view.observers.is_empty() {
            lines.push(String::new());
        }
        let observers = view.observers.iter();
        lines.extend(observers.flat_map(|observer| self.observer(observer)));
        lines
    }

    fn heading(&self) -> String {
        let host = pad_right("HOST", self.host_columns);
        let storage = pad_right("STORAGE", STORAGE_COLUMNS);
        let age = pad_left("AGE", AGE_COLUMNS);
        let heartbeat = pad_right("HEARTBEAT", HEARTBEAT_COLUMNS);
        format!("{host}  {storage}  {age}  {heartbeat}  CLUSTER")
    }

    fn host(&self, host: &HostView) -> Vec<String> {
        let (mut lines, name) = self.name("", &host.host, self.host_columns);
        lines.push(format!("{name}{}", self.host_cells(host)));
        lines.extend(self.why_unknown(host));
        lines.extend(self.clock(host.clock_behind_seconds));
        lines.extend(self.outside_troubled(&host.outside));
        lines.extend(
            host.gateways
                .iter()
                .flat_map(|gateway| self.gateway(gateway)),
        );
        lines.extend(self.failures(host));
        lines.extend(self.instances(host));
        lines.extend(self.outside_calm(&host.outside));
        lines.extend(self.paths(&host.paths));
        lines.extend(self.quality(host));
        lines
    }

    /// Only where it is better than what every sender of the fleet has.
    fn quality(&self, host: &HostView) -> Vec<String> {
        match host.quality.as_deref() {
            Some("host_key") => self.paragraph("  ", "proven by a key of its own", None),
            _ => Vec::new(),
        }
    }

    fn observer(&self, observer: &ObserverView) -> Vec<String> {
        let tone = observer.stale.then_some(Tone::Doubtful);
        let words = format!("{} {}", observer.observer, observer_words(observer));
        let mut lines = self.paragraph("observer ", &words, tone);
        // What is said of a host stands there.
        if !observer.is_host {
            if let Some(conflict) = &observer.conflict {
                lines.extend(self.paragraph("  ! ", &conflict_words(conflict), Some(Tone::Bad)));
            }
            lines.extend(self.clock(observer.clock_behind_seconds));
        }
        lines.extend(self.outside_troubled(&observer.outside));
        lines.extend(self.failure_lines(&observer.failures));
        lines.extend(self.outside_calm(&observer.outside));
        // Those of a host stand there.
        if !observer.is_host {
            lines.extend(self.paths(&observer.paths));
        }
        lines
    }

    fn host_cells(&self, host: &HostView) -> String {
        let (word, tone) = match host.storage.verdict {
            Verdict::Lost => ("LOST", Tone::Bad),
            Verdict::Unknown => (Verdict::Unknown.as_str(), Tone::Doubtful),
            Verdict::Reachable => (Verdict::Reachable.as_str(), Tone::Good),
        };
        let storage = self.paint(&pad_right(word, STORAGE_COLUMNS), Some(tone));
        let age = host.storage.age_seconds.map_or_else(|| "-".to_owned(), age);
        let age = pad_left(&age, AGE_COLUMNS);
        let (words, tone) = heartbeat_words(host.heartbeat.as_ref());
        let heartbeat = self.paint(&pad_right(&words, HEARTBEAT_COLUMNS), tone);
        let cluster = self.cut_cluster(host.cluster.as_deref().unwrap_or("-"));
        format!("  {storage}  {age}  {heartbeat}  {cluster}")
    }

    /// What a failed probe says stands below among the failures.
    fn why_unknown(&self, host: &HostView) -> Vec<String> {
        match (&host.storage.words, host.storage.reason) {
            (None, _) | (_, Some(UnknownReason::ProbeFailed)) => Vec::new(),
            (Some(words), _) => self.paragraph("  ? ", words, Some(Tone::Doubtful)),
        }
    }

    fn clock(&self, behind_seconds: Option<f64>) -> Vec<String> {
        let words = behind_seconds.and_then(clock_words);
        words.map_or_else(Vec::new, |words| {
            self.paragraph("  ! ", &words, Some(Tone::Doubtful))
        })
    }

    fn gateway(&self, gateway: &GatewayView) -> Vec<String> {
        let (mut lines, address) = self.name("  ", &gateway.address, self.address_columns);
        let figure = |value: Option<f64>, words: fn(f64) -> String| {
            let shown = value.filter(|_| !gateway.stale).map(words);
            shown.unwrap_or_else(|| "-".to_owned())
        };
        let loss = pad_left(&figure(gateway.loss_ratio, loss_words), LOSS_COLUMNS);
        let rtt = pad_left(&figure(gateway.rtt_us, rtt_words), RTT_COLUMNS);
        let (words, tone) = gateway_words(gateway);
        lines.extend(self.paragraph(&format!("{address}  {loss}  {rtt}  "), &words, tone));
        lines
    }

    fn failures(&self, host: &HostView) -> Vec<String> {
        let is_dead = host
            .hypervisor
            .as_ref()
            .is_some_and(HypervisorView::is_dead);
        let dead = is_dead.then(|| self.paragraph("  ! ", LIBVIRT_DEAD, Some(Tone::Bad)));
        // libvirt's death is why instances can't be looked at, and is said once.
        let follows = |failure: &&FailureView| {
            is_dead
                && failure.pollster == meters::INSTANCE_ROUND.name
                && failure.reason.code == Some(FailReason::HypervisorSilent.code())
        };
        let failures = host.failures.iter().filter(|failure| !follows(failure));
        let mut lines = dead.unwrap_or_default();
        lines.extend(self.failure_lines(failures));
        lines
    }

    fn failure_lines<'a>(
        &self,
        failures: impl IntoIterator<Item = &'a FailureView>,
    ) -> Vec<String> {
        let lines = failures.into_iter().flat_map(|failure| {
            let words = format!("{}: {}", failure.pollster, failure.words());
            self.paragraph("  ! ", &words, Some(Tone::Doubtful))
        });
        lines.collect()
    }

    fn instances(&self, host: &HostView) -> Vec<String> {
        let Some(instances) = &host.instances else {
            return Vec::new();
        };
        let troubled = instances.troubled.iter().take(INSTANCES_LISTED_MAX);
        let tone = if instances.stale {
            Tone::Doubtful
        } else {
            Tone::Bad
        };
        let mut lines: Vec<String> = troubled
            .flat_map(|instance| {
                let words = instance_words(instance, instances);
                self.paragraph("  ! instance ", &words, Some(tone))
            })
            .collect();
        let more = instances
            .troubled
            .len()
            .saturating_sub(INSTANCES_LISTED_MAX);
        if more > 0 {
            let words = format!("and {more} more instances, see --format json");
            lines.extend(self.paragraph("  ! ", &words, Some(tone)));
        }
        let (words, tone) = instances_words(instances);
        lines.extend(self.paragraph("  instances ", &words, tone));
        lines
    }

    /// Those who see anything but answers: a line each.
    fn outside_troubled(&self, outside: &[OutsideView]) -> Vec<String> {
        let troubled = outside.iter().filter(|view| !is_calm(view));
        troubled
            .flat_map(|view| {
                let (words, tone) = outside_words(view);
                self.paragraph("  outside ", &words, Some(tone))
            })
            .collect()
    }

    /// Those who get every answer, in one paragraph.
    fn outside_calm(&self, outside: &[OutsideView]) -> Vec<String> {
        let calm = outside.iter().filter(|view| is_calm(view));
        let calm: Vec<_> = calm
            .map(|view| tied(&format!("{} {}", view.observer, age(view.age_seconds))))
            .collect();
        if calm.is_empty() {
            return Vec::new();
        }
        untied(&self.paragraph("  outside answers ", &calm.join(", "), None))
    }

    /// All paths as one paragraph; a path and its age stay on one line where they fit.
    fn paths(&self, paths: &[PathView]) -> Vec<String> {
        if paths.is_empty() {
            return Vec::new();
        }
        let words: Vec<_> = paths.iter().map(path_words).collect();
        let tone = paths
            .iter()
            .any(|path| !path.fresh)
            .then_some(Tone::Doubtful);
        untied(&self.paragraph("  via ", &words.join(", "), tone))
    }

    /// A name and its column. A name is never cut, because someone may act on it: one that is too
    /// long gets lines of its own, and its column stays blank.
    fn name(&self, indent: &str, name: &str, width: usize) -> (Vec<String>, String) {
        let fits = columns(name) <= width;
        let own_lines = match fits {
            true => Vec::new(),
            false => self.paragraph(indent, name, None),
        };
        let cell = if fits { name } else { "" };
        (own_lines, format!("{indent}{}", pad_right(cell, width)))
    }

    /// Words behind a prefix, wrapped, the following lines indented to where the words begin.
    fn paragraph(&self, prefix: &str, words: &str, tone: Option<Tone>) -> Vec<String> {
        let indent = columns(prefix);
        let first = std::iter::once(prefix.to_owned());
        let rest = std::iter::repeat_with(|| " ".repeat(indent));
        first
            .chain(rest)
            .zip(wrap(words, self.width.saturating_sub(indent)))
            .map(|(margin, line)| format!("{margin}{}", self.paint(&line, tone)))
            .collect()
    }

    fn cut_cluster(&self, cluster: &str) -> String {
        let others = self.host_columns + FIXED_COLUMNS;
        let mut lines = wrap(cluster, self.width.saturating_sub(others + 1)).into_iter();
        match (lines.next(), lines.next()) {
            (Some(start), Some(_)) => format!("{start}…"),
            (start, _) => start.unwrap_or_default(),
        }
    }

    fn paint(&self, text: &str, tone: Option<Tone>) -> String {
        match tone.filter(|_| self.colour) {
            Some(tone) => format!("\x1b[{}m{text}\x1b[0m", tone.ansi_code()),
            None => text.to_owned(),
        }
    }
}

/// As wide as the longest name, as long as the other columns have their room.
fn host_columns(view: &FleetView, width: usize) -> usize {
    let longest = view
        .hosts
        .iter()
        .map(|host| columns(&host.host))
        .max()
        .unwrap_or(0);
    longest
        .max("HOST".len())
        .min(width.saturating_sub(FIXED_COLUMNS + CLUSTER_COLUMNS))
}

fn address_columns(view: &FleetView, width: usize) -> usize {
    let gateways = view.hosts.iter().flat_map(|host| &host.gateways);
    let longest = gateways
        .map(|gateway| columns(&gateway.address))
        .max()
        .unwrap_or(0);
    longest.min(width.saturating_sub(FIGURE_COLUMNS + STATUS_COLUMNS_MIN))
}

/// How many hosts there are of each verdict, and when this was so.
fn summary(view: &FleetView) -> String {
    let count = |verdict| {
        view.hosts
            .iter()
            .filter(|host| host.storage.verdict == verdict)
            .fold(0, |count, _| count + 1)
    };
    let verdicts = [Verdict::Lost, Verdict::Unknown, Verdict::Reachable];
    let counts = verdicts
        .into_iter()
        .map(|verdict| (count(verdict), verdict.as_str()));
    let counts = counts_words(counts);
    let hosts = match view.hosts.len() {
        1 => "1 host".to_owned(),
        number => format!("{number} hosts"),
    };
    let now = view.now.to_sql_text();
    let whole_seconds = now.split('.').next().unwrap_or_default();
    let impaired = view
        .observers
        .iter()
        .filter(|observer| observer.has_problem());
    let impaired = match impaired.count() {
        0 => String::new(),
        1 => "; 1 observer impaired".to_owned(),
        number => format!("; {number} observers impaired"),
    };
    format!("{hosts} at {whole_seconds} UTC{counts}{impaired}")
}

fn heartbeat_words(heartbeat: Option<&HeartbeatView>) -> (String, Option<Tone>) {
    match heartbeat {
        Some(beat) if beat.fresh => (age(beat.age_seconds), None),
        Some(beat) if beat.earlier_life => ("none yet".to_owned(), Some(Tone::Doubtful)),
        Some(beat) if beat.silent => (
            format!("silent {}", age(beat.age_seconds)),
            Some(Tone::Doubtful),
        ),
        Some(beat) => (age(beat.age_seconds), Some(Tone::Doubtful)),
        None => ("none yet".to_owned(), Some(Tone::Doubtful)),
    }
}

fn gateway_words(gateway: &GatewayView) -> (String, Option<Tone>) {
    let status = gateway.status.as_ref();
    let words = status.map_or("no status has arrived", |status| status.words.as_str());
    if gateway.stale {
        let stale = ago_words(gateway.age_seconds);
        (format!("{stale}: {words}"), Some(Tone::Doubtful))
    } else if gateway.answers {
        (words.to_owned(), None)
    } else if status.is_some_and(|status| status.name.is_some()) {
        (words.to_owned(), Some(Tone::Bad))
    } else {
        (words.to_owned(), Some(Tone::Doubtful))
    }
}

/// Tied together, so that no line ends between a path and its age.
fn path_words(path: &PathView) -> String {
    let age = age(path.age_seconds);
    let words = match path.fresh {
        true => format!("{} {age}", path.path),
        false => format!("{} quiet {age}", path.path),
    };
    tied(&words)
}

/// Words between which no line ends.
fn tied(words: &str) -> String {
    words.replace(' ', NO_BREAK_SPACE)
}

fn untied(lines: &[String]) -> Vec<String> {
    let lines = lines.iter();
    lines
        .map(|line| line.replace(NO_BREAK_SPACE, " "))
        .collect()
}

/// Its name, if it has one, its UUID, and what happened to it.
fn instance_words(instance: &InstanceView, all: &InstancesView) -> String {
    let InstanceView { uuid, name, .. } = instance;
    let named = match name {
        Some(name) => format!("{name} ({uuid})"),
        None => uuid.clone(),
    };
    let stale = aside_if(all.stale, instance.age_seconds);
    let words = instance.trouble.map_or("", Trouble::words);
    format!("{named}{stale}: {words}")
}

/// `12: 11 running, 1 shutoff`, and what makes that doubtful.
fn instances_words(instances: &InstancesView) -> (String, Option<Tone>) {
    let mut states: Vec<_> = instances.by_state.iter().collect();
    states.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), name.as_str()));
    let states = counts_words(
        states
            .into_iter()
            .map(|(name, count)| (*count, name.as_str())),
    );
    let stale = aside_if(instances.stale, instances.age_seconds);
    let doubt = match &instances.round {
        None => "; no complete round has arrived".to_owned(),
        Some(round) if round.missing_readings > 0 => format!(
            "; {} of the last round's {} readings missing, {} not confirmed{}",
            round.missing_readings,
            round.instances,
            instances.unconfirmed.len(),
            last_complete(instances)
        ),
        Some(_) => String::new(),
    };
    let doubtful = instances.stale || !doubt.is_empty();
    let words = format!("{}{stale}{states}{doubt}", instances.there);
    (words, doubtful.then_some(Tone::Doubtful))
}

/// `; last complete round 40 s ago`, if there was one.
fn last_complete(instances: &InstancesView) -> String {
    match &instances.complete_round {
        Some(round) => format!("; last complete round {} ago", age(round.age_seconds)),
        None => String::new(),
    }
}

/// Whether the observer gets an answer on every network now.
fn is_calm(view: &OutsideView) -> bool {
    view.answers == Some(true) && view.networks.iter().all(|network| network.answers)
}

/// `controller-1 0.6 s: no answer: management silent, storage silent`.
fn outside_words(view: &OutsideView) -> (String, Tone) {
    let who = match view.stale {
        true => format!("{}{}", view.observer, aside_if(true, view.age_seconds)),
        false => format!("{} {}", view.observer, age(view.age_seconds)),
    };
    let networks = view.networks.iter();
    let networks: Vec<_> = networks
        .map(|network| network_words(network, !view.stale))
        .collect();
    let answer = match view.answers {
        Some(false) => Some("no answer"),
        Some(true) if networks.is_empty() => Some("answers"),
        _ => None,
    };
    let networks = Some(networks.join(", ")).filter(|words| !words.is_empty());
    let parts = [Some(who), answer.map(str::to_owned), networks];
    let tone = match view.has_problem() {
        true => Tone::Bad,
        false => Tone::Doubtful,
    };
    (
        parts.into_iter().flatten().collect::<Vec<_>>().join(": "),
        tone,
    )
}

fn network_words(view: &OutsideNetworkView, tell_stale: bool) -> String {
    let words = match &view.status {
        Some(status) => status.words.as_str(),
        None if view.answers => "answers",
        None if view.stale => "no status has arrived",
        None => "does not answer",
    };
    let stale = match tell_stale && view.stale {
        true => format!(" ({})", ago_words(view.age_seconds)),
        false => String::new(),
    };
    format!("{}{stale} {words}", view.network)
}

/// `0.6 s, 300 hosts: 299 answering, 1 silent`.
fn observer_words(observer: &ObserverView) -> String {
    let counts = [
        (observer.hosts_answering, "answering"),
        (observer.hosts_silent, "silent"),
        (observer.hosts_unknown, "unknown"),
    ];
    let hosts = match counts.iter().map(|(count, _)| count).sum() {
        1 => "1 host".to_owned(),
        number => format!("{number} hosts"),
    };
    let when = match (&observer.heartbeat, observer.stale) {
        (_, true) => ago_words(observer.age_seconds),
        (Some(beat), _) if beat.silent && !observer.is_host => {
            format!("no heartbeat for {}", age(beat.age_seconds))
        }
        _ => age(observer.age_seconds),
    };
    format!("{when}, {hosts}{}", counts_words(counts))
}

/// `: 11 running, 1 shutoff`, without those of which there are none.
fn counts_words<'a>(counts: impl IntoIterator<Item = (u64, &'a str)>) -> String {
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let counts: Vec<_> = counts
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    match counts.is_empty() {
        true => String::new(),
        false => format!(": {}", counts.join(", ")),
    }
}

/// `, stale, 4 min ago` behind what isn't so any more, if it isn't.
fn aside_if(stale: bool, age_seconds: f64) -> String {
    match stale {
        true => format!(", {}", ago_words(age_seconds)),
        false => String::new(),
    }
}

/// `stale, 4 min ago`.
fn ago_words(age_seconds: f64) -> String {
    let direction = if age_seconds < 0.0 { "ahead" } else { "ago" };
    format!("stale, {} {direction}", age(age_seconds.abs()))
}

/// Never `0 %` for a loss and never `100 %` for a partial one.
fn loss_words(ratio: f64) -> String {
    match ratio {
        0.0..=1.0 if ratio > 0.0 && ratio < 0.01 => "<1 %".to_owned(),
        0.0..=1.0 if ratio > 0.99 && ratio < 1.0 => ">99 %".to_owned(),
        0.0..=1.0 => format!("{:.0} %", ratio * 100.0),
        _ => "?".to_owned(),
    }
}

fn rtt_words(microseconds: f64) -> String {
    let milliseconds = microseconds / 1000.0;
    match microseconds {
        0.0..9_950.0 => format!("{milliseconds:.2} ms"),
        9_950.0..=RTT_US_MAX => format!("{milliseconds:.0} ms"),
        _ => "?".to_owned(),
    }
}
