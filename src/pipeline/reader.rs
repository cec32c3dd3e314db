//! Pure. Ceilometer's rules for a pipeline, checked over the whole tree. What is wrong is reported
//! and replaced by something empty, so that the checks after it go on; the result of a file with an
//! error is thrown away.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_saphyr::Spanned;

use super::yaml::{Kind, Node, line_of};
use super::{MeterFilter, Pipeline, Publisher, Sink, Source};
use crate::config::nearest::nearest;
use crate::config::{EFFECTIVE_TIMEOUT_MIN, Problem, Severity};

/// The longest interval, a day: whoever polls health more rarely has mistaken the unit.
const INTERVAL_MAX: Duration = Duration::from_secs(86_400);

/// Longer texts are not repeated whole in a message.
const SHOWN_CHARS_MAX: usize = 60;

const ROOT_FIELDS: &[&str] = &["sources", "sinks"];
const SOURCE_FIELDS: &[&str] = &[
    "name",
    "interval",
    "meters",
    "resources",
    "discovery",
    "sinks",
];
const SINK_FIELDS: &[&str] = &["name", "transformers", "publishers"];

/// Collects problems while the tree is read.
pub(super) struct Reader {
    path: PathBuf,
    /// What is wrong so far.
    pub(super) problems: Vec<Problem>,
}

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
}

impl Reader {
    pub(super) fn new(path: &Path) -> Self {
        Reader {
            path: path.to_path_buf(),
            problems: Vec::new(),
        }
    }

    /// Reads the whole tree.
    pub(super) fn pipeline(&mut self, root: &Node) -> Pipeline {
        let fields = self.fields(root, "pipeline", ROOT_FIELDS);
        for name in ROOT_FIELDS {
            if fields.get(name).is_none() && matches!(root.value, Kind::Map(_)) {
                let message = format!("Both sources & sinks are required, found no {name}");
                self.error(fields.line_of_field(name), None, message);
            }
        }
        let sinks = self.each(&fields, "sinks", Self::sink);
        let sources = self.each(&fields, "sources", Self::source);
        self.check_links(&sources, &sinks);
        Pipeline {
            sources: sources.into_iter().map(|(source, _)| source).collect(),
            sinks: sinks.into_iter().map(|(sink, _)| sink).collect(),
        }
    }

    fn each<T>(
        &mut self,
        fields: &Fields<'_>,
        name: &str,
        read: fn(&mut Self, &Node) -> Option<T>,
    ) -> Vec<(T, Option<usize>)> {
        let items = self.list(fields, name);
        items
            .iter()
            .filter_map(|node| Some((read(self, node)?, line_of(node))))
            .collect()
    }

    fn source(&mut self, node: &Node) -> Option<Source> {
        let fields = self.named_fields(node, "source", SOURCE_FIELDS)?;
        Some(Source {
            name: self.name(&fields),
            interval: self.interval(&fields),
            meters: self.meters(&fields),
            resources: self.texts(&fields, "resources"),
            discovery: self.texts(&fields, "discovery"),
            sinks: self.sinks_of(&fields),
        })
    }

    fn sink(&mut self, node: &Node) -> Option<Sink> {
        let fields = self.named_fields(node, "sink", SINK_FIELDS)?;
        self.check_transformers(&fields);
        Some(Sink {
            name: self.name(&fields),
            publishers: self.publishers(&fields),
        })
    }

    fn interval(&mut self, fields: &Fields<'_>) -> Duration {
        let line = fields.line_of_field("interval");
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
            self.error(line, Some(&fields.title), message);
            return Duration::ZERO;
        };
        // What is too small for a Duration is too small to wait for.
        let interval = Duration::try_from_secs_f64(number).unwrap_or(INTERVAL_MAX * 2);
        if number <= 0.0 || interval.is_zero() {
            let message = format!("Interval value should > 0, found {number}");
            self.error(line, Some(&fields.title), message);
        } else if interval > INTERVAL_MAX {
            let message = format!(
                "Invalid interval value: found {number}, expected seconds up to {}",
                INTERVAL_MAX.as_secs()
            );
            self.error(line, Some(&fields.title), message);
        } else if interval < EFFECTIVE_TIMEOUT_MIN {
            let message = format!(
                "an interval of {number} s is shorter than a silent gateway is waited for, {} s",
                EFFECTIVE_TIMEOUT_MIN.as_secs_f64()
            );
            self.warn(line, Some(&fields.title), message);
        }
        interval
    }

    fn meters(&mut self, fields: &Fields<'_>) -> MeterFilter {
        let before = self.problems.len();
        let meters = self.texts(fields, "meters");
        MeterFilter::new(&meters).unwrap_or_else(|error| {
            if self.problems.len() == before {
                let line = fields.line_of_field("meters");
                self.error(line, Some(&fields.title), error.to_string());
            }
            MeterFilter::everything()
        })
    }

    fn sinks_of(&mut self, fields: &Fields<'_>) -> Vec<String> {
        if fields.has_nothing("sinks") {
            let message = format!("No sink defined in {}", fields.title);
            let line = fields.line_of_field("sinks");
            self.error(line, Some(&fields.title), message);
        }
        self.texts(fields, "sinks")
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
            self.error(line_of(first), Some(&fields.title), message);
        }
    }

    fn publishers(&mut self, fields: &Fields<'_>) -> Vec<Publisher> {
        let urls = self.list(fields, "publishers");
        if fields.has_nothing("publishers") {
            let line = fields.line_of_field("publishers");
            let message = "No publisher specified, expected at least one URL under publishers";
            self.error(line, Some(&fields.title), message);
        }
        let mut publishers: Vec<Publisher> = Vec::new();
        for node in urls {
            let Some(publisher) = self.publisher(fields, node) else {
                continue;
            };
            if publishers.contains(&publisher) {
                let message = format!("{} is named twice and used once", publisher.path());
                self.warn(line_of(node), Some(&fields.title), message);
            } else {
                publishers.push(publisher);
            }
        }
        publishers
    }

    fn publisher(&mut self, fields: &Fields<'_>, node: &Node) -> Option<Publisher> {
        let url = self.text(&fields.title, "publishers", node)?;
        match Publisher::parse(url) {
            Ok((publisher, surplus)) => {
                if surplus {
                    let message = format!("what follows {} is ignored", publisher.path());
                    self.warn(line_of(node), Some(&fields.title), message);
                }
                Some(publisher)
            }
            Err(error) => {
                self.error(line_of(node), Some(&fields.title), error.to_string());
                None
            }
        }
    }

    fn check_links(
        &mut self,
        sources: &[(Source, Option<usize>)],
        sinks: &[(Sink, Option<usize>)],
    ) {
        let sink_names: Vec<&str> = sinks.iter().map(|(sink, _)| sink.name.as_str()).collect();
        self.check_unique(
            "sink",
            sinks.iter().map(|(sink, line)| (&*sink.name, *line)),
        );
        self.check_unique(
            "source",
            sources.iter().map(|(source, line)| (&*source.name, *line)),
        );
        for (source, line) in sources {
            let title = format!("source {}", source.name);
            for sink in &source.sinks {
                if !sink_names.contains(&sink.as_str()) {
                    let mut message = format!("Dangling sink {sink} from source {}", source.name);
                    if let Some(meant) = nearest(sink, sink_names.iter().copied()) {
                        message.push_str(&format!("; the nearest one there is {meant}"));
                    }
                    self.error(*line, Some(&title), message);
                }
            }
        }
        for (sink, line) in sinks {
            let used = sources
                .iter()
                .any(|(source, _)| source.sinks.contains(&sink.name));
            if !used && !sink.name.is_empty() {
                let message = "no source leads here";
                self.warn(*line, Some(&format!("sink {}", sink.name)), message);
            }
        }
    }

    fn check_unique<'n>(
        &mut self,
        what: &str,
        names: impl Iterator<Item = (&'n str, Option<usize>)>,
    ) {
        let mut seen: Vec<&str> = Vec::new();
        for (name, line) in names {
            if seen.contains(&name) && !name.is_empty() {
                let message = format!("Duplicated {what} names: {name}");
                self.error(line, Some(&format!("{what} {name}")), message);
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
            )) = name
            {
                title = format!("{what} {name}");
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
            self.error(line_of(node), Some(title), message);
            &[]
        };
        for (key, _) in entries {
            if !known.contains(&key.value.as_str()) {
                let mut message = format!("unknown field {} is ignored", quoted(&key.value));
                if let Some(meant) = nearest(&key.value, known.iter().copied()) {
                    message.push_str(&format!("; the nearest known one is {meant}"));
                }
                self.warn(line_of(key), Some(title), message);
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
            Some(node) => match self.text(&fields.title, "name", node) {
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
        self.error(fields.line_of_field(name), Some(&fields.title), message);
    }

    fn texts(&mut self, fields: &Fields<'_>, name: &str) -> Vec<String> {
        self.list(fields, name)
            .iter()
            .filter_map(|node| self.text(&fields.title, name, node).map(str::to_owned))
            .collect()
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
                self.error(line_of(other), Some(&fields.title), message);
                &[]
            }
        }
    }

    fn text<'n>(&mut self, title: &str, name: &str, node: &'n Node) -> Option<&'n str> {
        if let Kind::Text(text) = &node.value {
            return Some(text);
        }
        let message = format!(
            "found {} under {name}, expected text; quotes make it text",
            node.value.words()
        );
        self.error(line_of(node), Some(title), message);
        None
    }

    fn error(&mut self, line: Option<usize>, title: Option<&str>, message: impl Into<String>) {
        self.report(Severity::Error, line, title, message.into());
    }

    fn warn(&mut self, line: Option<usize>, title: Option<&str>, message: impl Into<String>) {
        self.report(Severity::Warning, line, title, message.into());
    }

    fn report(
        &mut self,
        severity: Severity,
        line: Option<usize>,
        title: Option<&str>,
        message: String,
    ) {
        let mut problem = Problem::new(severity, message).in_file(&self.path, line);
        problem.option = title.map(str::to_owned);
        self.problems.push(problem);
    }
}

fn shown(node: &Node) -> String {
    match &node.value {
        Kind::Text(text) => quoted(text),
        Kind::Number(number) => number.to_string(),
        other => other.words().to_owned(),
    }
}

fn quoted(text: &str) -> String {
    let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{start:?}")
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters
        .next()
        .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
        .unwrap_or_default()
}
