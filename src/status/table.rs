//! Pure. The fleet as a table for a terminal: one line a host, and below it, indented, its gateways,
//! what can't be probed, and the paths by which it is heard.

use super::text::{age, columns, pad_left, pad_right, wrap};
use super::view::{
    FleetView, GatewayView, HeartbeatView, HostView, PathView, UnknownReason, Verdict,
};

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
    let lines = match view.hosts.is_empty() {
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
        lines.extend(
            host.gateways
                .iter()
                .flat_map(|gateway| self.gateway(gateway)),
        );
        lines.extend(self.failures(host));
        lines.extend(self.paths(&host.paths));
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
        let lines = host.failures.iter().flat_map(|failure| {
            let words = format!("{}: {}", failure.pollster, failure.words());
            self.paragraph("  ! ", &words, Some(Tone::Doubtful))
        });
        lines.collect()
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
        self.paragraph("  via ", &words.join(", "), tone)
            .iter()
            .map(|line| line.replace(NO_BREAK_SPACE, " "))
            .collect()
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
            .count()
    };
    let verdicts = [Verdict::Lost, Verdict::Unknown, Verdict::Reachable];
    let counts: Vec<_> = verdicts
        .into_iter()
        .map(|verdict| (count(verdict), verdict.as_str()))
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{number} {word}"))
        .collect();
    let hosts = match view.hosts.len() {
        1 => "1 host".to_owned(),
        number => format!("{number} hosts"),
    };
    let now = view.now.to_sql_text();
    let whole_seconds = now.split('.').next().unwrap_or_default();
    format!("{hosts} at {whole_seconds} UTC: {}", counts.join(", "))
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
        let direction = if gateway.age_seconds < 0.0 {
            "ahead"
        } else {
            "ago"
        };
        let age = age(gateway.age_seconds.abs());
        (
            format!("stale, {age} {direction}: {words}"),
            Some(Tone::Doubtful),
        )
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
    words.replace(' ', NO_BREAK_SPACE)
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
