//! Pure. The table of every key that a pipeline file may hold, and what to tell an operator about it.

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Where it stands.
    pub of: Of,
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub takes: &'static str,
    /// What holds without it.
    pub without: &'static str,
    /// The version that first knew it.
    pub since: &'static str,
    /// What it is, and why.
    pub help: &'static str,
}

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// At the top of the file.
    File,
    /// In a source.
    Source,
    /// In a sink.
    Sink,
}

const REQUIRED: &str = "required";

const PLAIN: Key = Key {
    of: Of::File,
    name: "",
    takes: "",
    without: REQUIRED,
    since: "0.1.0",
    help: "",
};

/// Every known key.
pub static KEYS: &[Key] = &[
    Key {
        name: "sources",
        takes: "a list of sources, 1 to 64",
        help: "What is polled together.",
        ..PLAIN
    },
    Key {
        name: "sinks",
        takes: "a list of sinks, 1 to 64",
        help: "Where readings go.",
        ..PLAIN
    },
    Key {
        of: Of::Source,
        name: "name",
        takes: "a text that no other source has",
        help: "It stands in the log, in metrics and in the line of what is wrong.",
        ..PLAIN
    },
    Key {
        of: Of::Source,
        name: "interval",
        takes: "seconds, fractions allowed, above 0, up to 86400",
        help: "The time from one round to the next. Below 0.2 s it is a warning: a silent gateway is \
               waited for that long. A decider that counts samples sees a longer or shorter stretch of \
               time when this changes.",
        ..PLAIN
    },
    Key {
        of: Of::Source,
        name: "meters",
        takes: "a list of names; `*` stands for any part of a name, `!` before a name leaves it out",
        help: "What is polled. Names and names left out don't mix, and a lone `*` stands beside names left \
               out only. A pollster runs if one of its meters is wanted.",
        ..PLAIN
    },
    Key {
        of: Of::Source,
        name: "sinks",
        takes: "a list of names of sinks, 1 to 64",
        help: "Each gets every reading of the source.",
        ..PLAIN
    },
    Key {
        of: Of::Source,
        name: "resources",
        takes: "a list of URLs",
        without: "none",
        help: "Hosts to look at from outside, as `icmp://ADDRESS?host=NAME&network=NAME`. Other pollsters \
               pass them over.",
        ..PLAIN
    },
    Key {
        of: Of::Source,
        name: "discovery",
        takes: "a list of names",
        without: "none",
        help: "Accepted and without effect: each pollster finds by itself what it looks at.",
        ..PLAIN
    },
    Key {
        of: Of::Sink,
        name: "name",
        takes: "a text that no other sink has",
        help: "Sources name the sink by it.",
        ..PLAIN
    },
    Key {
        of: Of::Sink,
        name: "publishers",
        takes: "a list of URLs, 1 to 64",
        help: "`udp://HOST:PORT`, an IPv6 address in brackets; without a port it is 4952, that of \
               Ceilometer's own collector, and ours listens on 4953. Or `notifier://?policy=queue`, to the \
               message broker: its options are in [delivery.md](delivery.md#notifier). Several are several \
               ways of the same readings: each is stored once, and every way it came by is remembered.",
        ..PLAIN
    },
    Key {
        of: Of::Sink,
        name: "transformers",
        takes: "nothing, or an empty list",
        without: "none",
        help: "There are none: derive from the stored samples what one would have made.",
        ..PLAIN
    },
];

/// The names of the keys that stand there.
pub(super) fn names(of: Of) -> Vec<&'static str> {
    let of_it = KEYS.iter().filter(|key| key.of == of);
    of_it.map(|key| key.name).collect()
}
