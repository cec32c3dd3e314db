//! Pure. Ceilometer's rules for a pipeline, checked over the whole tree. What is wrong is reported
//! and replaced by something empty, so that the checks after it go on; the result of a file with an
//! error is thrown away.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_saphyr::Spanned;

use super::keys::{Of, names};
use super::target::{Found, Odd};
use super::yaml::{Kind, Node, line_of};
use super::{Against, MeterFilter, Pipeline, Publisher, Sink, Source};
use crate::config::nearest::nearest;
use crate::config::{EFFECTIVE_TIMEOUT_MIN, Problem, Severity};

/// The longest interval, a day: whoever polls health more rarely has mistaken the unit.
const INTERVAL_MAX: Duration = Duration::from_secs(86_400);

/// The most sources, the most sinks, and the most publishers of a sink. Each pollster of a source and
/// each publisher has a thread of its own; a deployment has a handful of each. What is beyond is refused.
const ITEMS_MAX: usize = 64;

/// Problems told of one file. Whoever mistook it needs no thousand lines to see it; how many more
/// there are is said.
const PROBLEMS_MAX: usize = 100;

/// Longer texts are not repeated whole in a message.
const SHOWN_CHARS_MAX: usize = 60;

/// Collects problems while the tree is read.
pub(super) struct Reader<'a> {
    path: PathBuf,
    against: &'a Against,
    problems: Vec<Problem>,
    /// Problems beyond [`PROBLEMS_MAX`], which are only counted, and the worst of them.
    untold: usize,
    worst_untold: Severity,
}

/// What was read, and where it stands.
struct Placed<T> {
    value: T,
    line: Option<usize>,
}

/// A source, and where its sinks are named.
type PlacedSource = (Placed<Source>, Vec<Placed<String>>);

/// A map, what to call it, and where it stands.
struct Fields<'n> {
    title: String,
    line: Option<usize>,
    entries: &'n [(Spanned<String>, Node)],
}

impl<'n> Fields<'n> {
    /// A field; one with nothing behind it counts as missing.
    fn get(&self, name: &str) -> Option<&'n Node> {
        self.entries
            .iter()
            .find(|(key, node)| key.value == name && !matches!(node.value, Kind::Null))
            .map(|(_, node)| node)
    }

    /// Whether a field that should hold a list is missing or holds an empty one.
    fn has_nothing(&self, name: &str) -> bool {
        self.get(name)
            .is_none_or(|node| matches!(&node.value, Kind::List(items) if items.is_empty()))
    }

    fn line_of_field(&self, name: &str) -> Option<usize> {
        self.entries
            .iter()
            .find(|(key, _)| key.value == name)
            .map_or(self.line, |(key, _)| line_of(key))
    }

    /// `source a: interval`.
    fn about(&self, name: &str) -> String {
        format!("{}: {name}", self.title)
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &Path, against: &'a Against) -> Self {
        Reader {
            path: path.to_path_buf(),
            against,
            problems: Vec::new(),
            untold: 0,
            worst_untold: Severity::Note,
        }
    }

    /// What is wrong, in the order of the lines.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line);
        if self.untold > 0 {
            let message = format!("{} more problems are not told", self.untold);
            let last = self.problems.last().and_then(|problem| problem.line);
            let problem = Problem::new(self.worst_untold, message);
            self.problems.push(problem.in_file(&self.path, last));
        }
        self.problems
    }

    /// Reads the whole tree.
    pub(super) fn pipeline(&mut self, root: &Node) -> Pipeline {
        let both = names(Of::File);
        let fields = self.fields(root, "pipeline", &both);
        for name in both {
            if fields.get(name).is_none() && matches!(root.value, Kind::Map(_)) {
                let message = format!("Both sources & sinks are required, found no {name}");
                self.error(fields.line_of_field(name), &fields.title, message);
            }
        }
        let sinks = self.each(&fields, "sinks", Self::sink);
        let sources = self.each(&fields, "sources", Self::source);
        self.check_links(&sources, &sinks);
        Pipeline {
            sources: sources
                .into_iter()
                .map(|(source, _)| source.value)
                .collect(),
            sinks: sinks.into_iter().map(|sink| sink.value).collect(),
        }
    }

    fn each<T>(
        &mut self,
        fields: &Fields<'_>,
        name: &str,
        read: fn(&mut Self, &Node) -> Option<T>,
    ) -> Vec<T> {
        let items = self.few(fields, name);
        items.iter().filter_map(|node| read(self, node)).collect()
    }

    fn source(&mut self, node: &Node) -> Option<PlacedSource> {
        let fields = self.named_fields(node, "source", &names(Of::Source))?;
        let sinks = self.sinks_of(&fields);
        let source = Source {
            name: self.name(&fields),
            interval: self.interval(&fields),
            meters: self.meters(&fields),
            resources: self.plain_texts(&fields, "resources"),
            discovery: self.discovery(&fields),
            sinks: sinks.iter().map(|sink| sink.value.clone()).collect(),
        };
        let line = line_of(node);
        let value = source;
        Some((Placed { value, line }, sinks))
    }

    fn sink(&mut self, node: &Node) -> Option<Placed<Sink>> {
        let fields = self.named_fields(node, "sink", &names(Of::Sink))?;
        self.check_transformers(&fields);
        let value = Sink {
            name: self.name(&fields),
            publishers: self.publishers(&fields),
        };
        let line = line_of(node);
        Some(Placed { value, line })
    }

    fn interval(&mut self, fields: &Fields<'_>) -> Duration {
        let (line, about) = (fields.line_of_field("interval"), fields.about("interval"));
        let Some(node) = fields.get("interval") else {
            self.required(fields, "interval");
            return Duration::ZERO;
        };
        let number = match &node.value {
            Kind::Number(number) => Some(*number),
            Kind::Text(text) => text.trim().parse().ok(),
            Kind::Null | Kind::Bool | Kind::List(_) | Kind::Map(_) => None,
        };
        let Some(number) = number.filter(|number| !number.is_nan()) else {
            let message = format!(
                "Invalid interval value: found {}, expected seconds, fractions allowed",
                shown(node)
            );
            self.error(line, &about, message);
            return Duration::ZERO;
        };
        // What is too small for a Duration is too small to wait for.
        let interval = Duration::try_from_secs_f64(number).unwrap_or(INTERVAL_MAX * 2);
        if number <= 0.0 || interval.is_zero() {
            let message = format!("Interval value should > 0, found {}", number_text(number));
            self.error(line, &about, message);
        } else if interval > INTERVAL_MAX {
            let message = format!(
                "Invalid interval value: found {}, expected seconds up to {}",
                number_text(number),
                INTERVAL_MAX.as_secs()
            );
            self.error(line, &about, message);
        } else if interval < EFFECTIVE_TIMEOUT_MIN {
            let message = format!(
                "an interval of {} s is shorter than a silent gateway is waited for, {} s",
                number_text(number),
                EFFECTIVE_TIMEOUT_MIN.as_secs_f64()
            );
            self.warn(line, &about, message);
        }
        interval
    }

    fn meters(&mut self, fields: &Fields<'_>) -> MeterFilter {
        let is_told = match fields.get("meters").map(|node| &node.value) {
            Some(Kind::List(items)) => items
                .iter()
                .any(|item| !matches!(item.value, Kind::Text(_))),
            other => other.is_some(),
        };
        let meters = self.texts(fields, "meters");
        for meter in &meters {
            self.check_meter(fields, meter);
        }
        let names: Vec<String> = meters.into_iter().map(|meter| meter.value).collect();
        MeterFilter::new(&names).unwrap_or_else(|error| {
            if !is_told {
                let line = fields.line_of_field("meters");
                self.error(line, &fields.about("meters"), error.to_string());
            }
            MeterFilter::everything()
        })
    }

    /// A name that no pollster yields, whichever namespace it runs in: one file may serve nodes of all
    /// kinds.
    fn check_meter(&mut self, fields: &Fields<'_>, meter: &Placed<String>) {
        let name = meter.value.strip_prefix('!').unwrap_or(&meter.value);
        let known = &self.against.meters;
        if name.is_empty() || known.may_hold(name) {
            return;
        }
        let meant = known.nearest(name).map_or_else(String::new, |meant| {
            format!("; the nearest known one is {meant}")
        });
        let message = format!("no pollster of this version yields {}{meant}", plain(name));
        self.unknown(meter.line, &fields.about("meters"), message);
    }

    fn discovery(&mut self, fields: &Fields<'_>) -> Vec<String> {
        let discovery = self.plain_texts(fields, "discovery");
        if !discovery.is_empty() {
            let message = "accepted, but without effect in this version";
            let line = fields.line_of_field("discovery");
            self.report(
                Severity::Note,
                line,
                &fields.about("discovery"),
                message.into(),
            );
        }
        discovery
    }

    fn sinks_of(&mut self, fields: &Fields<'_>) -> Vec<Placed<String>> {
        if fields.has_nothing("sinks") {
            let message = format!("No sink defined in {}", fields.title);
            let line = fields.line_of_field("sinks");
            self.error(line, &fields.about("sinks"), message);
        }
        let mut sinks: Vec<Placed<String>> = Vec::new();
        for sink in self.texts_among(fields, "sinks", Self::few) {
            if sinks.iter().any(|known| known.value == sink.value) {
                let message = format!("{} is named twice and used once", plain(&sink.value));
                self.warn(sink.line, &fields.about("sinks"), message);
            } else {
                sinks.push(sink);
            }
        }
        sinks
    }

    fn check_transformers(&mut self, fields: &Fields<'_>) {
        let transformers = self.list(fields, "transformers");
        if let Some(first) = transformers.first() {
            let named = match &first.value {
                Kind::Map(entries) => entries
                    .iter()
                    .find(|(key, _)| key.value == "name")
                    .map_or_else(|| shown(first), |(_, node)| shown(node)),
                _ => shown(first),
            };
            let message = format!(
                "No transformer named {named} loaded: this version has none; leave `transformers:` \
                 empty and derive from the stored samples what it would have made"
            );
            self.error(line_of(first), &fields.about("transformers"), message);
        }
    }

    fn publishers(&mut self, fields: &Fields<'_>) -> Vec<Publisher> {
        let urls = self.few(fields, "publishers");
        if fields.has_nothing("publishers") {
            let line = fields.line_of_field("publishers");
            let message = "No publisher specified, expected at least one URL under publishers";
            self.error(line, &fields.about("publishers"), message);
        }
        let mut publishers: Vec<Publisher> = Vec::new();
        for node in urls {
            let Some(publisher) = self.publisher(fields, node) else {
                continue;
            };
            // Readings call their path by this name, so that it must be one publisher's.
            if publishers
                .iter()
                .any(|known| known.path() == publisher.path())
            {
                let message = format!("{} is named twice and used once", publisher.path());
                self.warn(line_of(node), &fields.about("publishers"), message);
            } else {
                publishers.push(publisher);
            }
        }
        publishers
    }

    fn publisher(&mut self, fields: &Fields<'_>, node: &Node) -> Option<Publisher> {
        let url = self.text(fields, "publishers", node)?;
        let (line, about) = (line_of(node), fields.about("publishers"));
        match Publisher::parse(url, &self.against.topic) {
            Ok(Found { publisher, odd }) => {
                for odd in odd {
                    self.odd(line, &about, &publisher, odd);
                }
                Some(publisher)
            }
            Err(error) => {
                self.error(line, &about, error.to_string());
                None
            }
        }
    }

    fn odd(&mut self, line: Option<usize>, about: &str, publisher: &Publisher, odd: Odd) {
        let path = publisher.path();
        match odd {
            Odd::Ignored(found) => {
                let message = format!("{found} behind {path}, expected nothing: it is ignored");
                self.unknown(line, about, message);
            }
            Odd::Driver => {
                let message = format!("driver behind {path}: without effect, RabbitMQ is spoken");
                self.report(Severity::Note, line, about, message);
            }
            Odd::Policy(policy) => {
                let policy = plain(&policy);
                let message = format!(
                    "found the policy {policy} behind {path}, expected default, queue or drop: default is used"
                );
                self.warn(line, about, message);
            }
        }
    }

    fn check_links(&mut self, sources: &[PlacedSource], sinks: &[Placed<Sink>]) {
        let sinks: Vec<(&str, Option<usize>)> = sinks
            .iter()
            .map(|sink| (&*sink.value.name, sink.line))
            .collect();
        let sources_named = sources
            .iter()
            .map(|(source, _)| (&*source.value.name, source.line));
        self.check_unique("sink", sinks.iter().copied());
        self.check_unique("source", sources_named);
        for (source, its_sinks) in sources {
            for sink in its_sinks {
                if !sinks.iter().any(|(name, _)| *name == sink.value) {
                    self.dangling(&source.value.name, sink, &sinks);
                }
            }
        }
        for (name, line) in sinks {
            let mut used = sources.iter().flat_map(|(source, _)| &source.value.sinks);
            if !name.is_empty() && !used.any(|sink| sink == name) {
                let title = format!("sink {}", plain(name));
                self.warn(line, &title, "no source leads here");
            }
        }
    }

    fn dangling(&mut self, source: &str, sink: &Placed<String>, sinks: &[(&str, Option<usize>)]) {
        let names = || {
            sinks
                .iter()
                .map(|(name, _)| *name)
                .filter(|name| !name.is_empty())
        };
        let there = match (nearest(&sink.value, names()), names().next()) {
            (Some(meant), _) => format!("the nearest one there is {}", plain(meant)),
            (None, Some(first)) => format!("the first one there is {}", plain(first)),
            (None, None) => "there is none".to_owned(),
        };
        let (source, name) = (plain(source), plain(&sink.value));
        let message = format!("Dangling sink {name} from source {source}; {there}");
        self.error(sink.line, &format!("source {source}: sinks"), message);
    }

    fn check_unique<'n>(
        &mut self,
        what: &str,
        names: impl Iterator<Item = (&'n str, Option<usize>)>,
    ) {
        let mut seen: Vec<&str> = Vec::new();
        for (name, line) in names {
            if seen.contains(&name) && !name.is_empty() {
                let title = format!("{what} {}", plain(name));
                let message = format!("Duplicated {what} names: {}", plain(name));
                self.error(line, &title, message);
            }
            seen.push(name);
        }
    }

    /// A map's fields, with a name for it if it has one. None, and a problem, if it is no map.
    fn named_fields<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        known: &[&str],
    ) -> Option<Fields<'n>> {
        let mut title = what.to_owned();
        if let Kind::Map(entries) = &node.value {
            let name = entries.iter().find(|(key, _)| key.value == "name");
            if let Some((
                _,
                Node {
                    value: Kind::Text(name),
                    ..
                },
            )) =
                name.filter(|(_, node)| !matches!(&node.value, Kind::Text(name) if name.is_empty()))
            {
                title = format!("{what} {}", plain(name));
            }
        }
        let is_map = matches!(node.value, Kind::Map(_));
        let fields = self.fields(node, &title, known);
        is_map.then_some(fields)
    }

    fn fields<'n>(&mut self, node: &'n Node, title: &str, known: &[&str]) -> Fields<'n> {
        let entries: &[(Spanned<String>, Node)] = if let Kind::Map(entries) = &node.value {
            entries
        } else {
            let message = format!(
                "found {}, expected a map with {}",
                node.value.words(),
                known.join(", ")
            );
            self.error(line_of(node), title, message);
            &[]
        };
        for (key, _) in entries {
            if !known.contains(&key.value.as_str()) {
                let mut message = format!("unknown field {} is ignored", quoted(&key.value));
                if let Some(meant) = nearest(&key.value, known.iter().copied()) {
                    message.push_str(&format!("; the nearest known one is {meant}"));
                }
                self.unknown(line_of(key), title, message);
            }
        }
        Fields {
            title: title.to_owned(),
            line: line_of(node),
            entries,
        }
    }

    /// The name; an empty one, after a problem, if there is none.
    fn name(&mut self, fields: &Fields<'_>) -> String {
        let name = match fields.get("name") {
            Some(Node {
                value: Kind::Text(text),
                ..
            }) if text.is_empty() => None,
            Some(node) => match self.text(fields, "name", node) {
                Some(name) => Some(name),
                None => return String::new(),
            },
            None => None,
        };
        if name.is_none() {
            self.required(fields, "name");
        }
        name.unwrap_or_default().to_owned()
    }

    fn required(&mut self, fields: &Fields<'_>, name: &str) {
        let message = format!("Required field {name} not specified");
        self.error(fields.line_of_field(name), &fields.about(name), message);
    }

    fn plain_texts(&mut self, fields: &Fields<'_>, name: &str) -> Vec<String> {
        let texts = self.texts(fields, name);
        texts.into_iter().map(|text| text.value).collect()
    }

    fn texts(&mut self, fields: &Fields<'_>, name: &str) -> Vec<Placed<String>> {
        self.texts_among(fields, name, Self::list)
    }

    fn texts_among<'n>(
        &mut self,
        fields: &Fields<'n>,
        name: &str,
        list: fn(&mut Self, &Fields<'n>, &str) -> &'n [Node],
    ) -> Vec<Placed<String>> {
        let mut texts = Vec::new();
        for node in list(self, fields, name) {
            if let Some(text) = self.text(fields, name, node) {
                let (value, line) = (text.to_owned(), line_of(node));
                texts.push(Placed { value, line });
            }
        }
        texts
    }

    /// A list of which each item has a thread, or leads to one that has.
    fn few<'n>(&mut self, fields: &Fields<'n>, name: &str) -> &'n [Node] {
        let items = self.list(fields, name);
        if items.len() > ITEMS_MAX {
            let message = format!("found {} {name}, expected {ITEMS_MAX} at most", items.len());
            self.error(fields.line_of_field(name), &fields.about(name), message);
        }
        items.get(..ITEMS_MAX).unwrap_or(items)
    }

    fn list<'n>(&mut self, fields: &Fields<'n>, name: &str) -> &'n [Node] {
        match fields.get(name) {
            None => &[],
            Some(Node {
                value: Kind::List(items),
                ..
            }) => items,
            Some(other) => {
                let message = format!(
                    "{} should be a list, found {}",
                    capitalised(name),
                    other.value.words()
                );
                self.error(line_of(other), &fields.about(name), message);
                &[]
            }
        }
    }

    fn text<'n>(&mut self, fields: &Fields<'_>, name: &str, node: &'n Node) -> Option<&'n str> {
        if let Kind::Text(text) = &node.value {
            return Some(text);
        }
        let message = format!(
            "found {}, expected text; quotes make it text",
            node.value.words()
        );
        self.error(line_of(node), &fields.about(name), message);
        None
    }

    fn error(&mut self, line: Option<usize>, title: &str, message: impl Into<String>) {
        self.report(Severity::Error, line, title, message.into());
    }

    fn warn(&mut self, line: Option<usize>, title: &str, message: impl Into<String>) {
        self.report(Severity::Warning, line, title, message.into());
    }

    /// A name that nobody knows: as an unknown option, an error only to whoever wants it to be.
    fn unknown(&mut self, line: Option<usize>, title: &str, message: String) {
        let severity = if self.against.strict {
            Severity::Error
        } else {
            Severity::Warning
        };
        self.report(severity, line, title, message);
    }

    fn report(&mut self, severity: Severity, line: Option<usize>, title: &str, message: String) {
        if self.problems.len() >= PROBLEMS_MAX {
            self.untold += 1;
            self.worst_untold = self.worst_untold.max(severity);
            return;
        }
        let problem = Problem::new(severity, message).in_file(&self.path, line);
        self.problems.push(problem.about(title));
    }
}

fn shown(node: &Node) -> String {
    match &node.value {
        Kind::Text(text) => quoted(text),
        Kind::Number(number) => number_text(*number),
        other => other.words().to_owned(),
    }
}

/// As one writes it; with an exponent where that would be a long row of zeros.
fn number_text(number: f64) -> String {
    if number.abs() < 1e15 && number.fract() == 0.0 {
        number.to_string()
    } else {
        format!("{number:?}")
    }
}

/// A name as it is, if it is one; otherwise between quotes, and not all of it.
fn plain(name: &str) -> String {
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace();
    if name.chars().all(is_plain) && name.chars().nth(SHOWN_CHARS_MAX).is_none() {
        name.to_owned()
    } else {
        quoted(name)
    }
}

fn quoted(text: &str) -> String {
    let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let rest = if start.len() < text.len() { "…" } else { "" };
    format!("{start:?}{rest}")
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters
        .next()
        .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
        .unwrap_or_default()
}
