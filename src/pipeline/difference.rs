//! Pure. In which sources and publishers two pipelines differ, in words for the log.

use std::collections::BTreeSet;

use super::{Pipeline, Source};

/// Each difference: sources first, then publishers.
pub fn differences(running: &Pipeline, new: &Pipeline) -> Vec<String> {
    let mut words = names(&sources_of(running), &sources_of(new));
    for source in &new.sources {
        let before = running.sources.iter().find(|old| old.name == source.name);
        words.extend(before.and_then(|before| of_source(before, source)));
    }
    words.extend(names(&publishers_of(running), &publishers_of(new)));
    words
}

fn sources_of(pipeline: &Pipeline) -> BTreeSet<String> {
    let sources = pipeline.sources.iter();
    sources
        .map(|source| format!("source {}", source.name))
        .collect()
}

fn publishers_of(pipeline: &Pipeline) -> BTreeSet<String> {
    let of_sink = pipeline.sinks.iter().flat_map(|sink| {
        let publishers = sink.publishers.iter();
        publishers.map(|publisher| format!("publisher {} of sink {}", publisher.url(), sink.name))
    });
    of_sink.collect()
}

fn names(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Vec<String> {
    let new = after
        .difference(before)
        .map(|name| format!("{name} is new"));
    let gone = before
        .difference(after)
        .map(|name| format!("{name} is gone"));
    new.chain(gone).collect()
}

/// What differs between two sources of one name.
fn of_source(before: &Source, after: &Source) -> Option<String> {
    let Source {
        name,
        interval,
        meters,
        resources,
        discovery,
        sinks,
    } = after;
    let parts = [
        ("interval", before.interval != *interval),
        ("meters", before.meters != *meters),
        ("resources", before.resources != *resources),
        ("discovery", before.discovery != *discovery),
        ("sinks", before.sinks != *sinks),
    ];
    let changed: Vec<&str> = parts
        .into_iter()
        .filter_map(|(part, differs)| differs.then_some(part))
        .collect();
    (!changed.is_empty()).then(|| format!("source {name} has other {}", changed.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn pipeline(sources: &[(&str, &str, &str)], publishers: &[&str]) -> Pipeline {
        let source = |(name, interval, meters): &(&str, &str, &str)| {
            format!(
                "    - name: {name}\n      interval: {interval}\n      meters: [{meters}]\n      sinks: [s]\n"
            )
        };
        let sources: String = sources.iter().map(source).collect();
        let text = format!(
            "sources:\n{sources}sinks:\n    - name: s\n      publishers: [{}]\n",
            publishers.join(", ")
        );
        crate::pipeline::parse(
            Path::new("p.yaml"),
            &text,
            &crate::pipeline::Against::default(),
        )
        .unwrap()
        .0
    }

    #[test]
    fn differences_are_named() {
        let before = pipeline(&[("a", "1", "cpu"), ("b", "1", "cpu")], &["udp://h:1"]);
        assert!(differences(&before, &before).is_empty());
        let after = pipeline(&[("b", "2", "vcpus"), ("c", "1", "cpu")], &["udp://h:2"]);
        assert_eq!(
            differences(&before, &after),
            [
                "source c is new",
                "source a is gone",
                "source b has other interval, meters",
                "publisher udp://h:2 of sink s is new",
                "publisher udp://h:1 of sink s is gone",
            ]
        );
        let order = pipeline(&[("b", "1", "cpu"), ("a", "1", "cpu")], &["udp://h:1"]);
        assert!(differences(&before, &order).is_empty(), "order is nothing");
    }
}
