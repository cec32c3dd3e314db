//! Pure. The table of every option that is known here: what it takes, what it is when it isn't
//! set, which older names it answers to, and what to tell a tired operator about it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// One option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptionSpec {
    /// The section, as it is written in a file.
    pub group: &'static str,
    /// The name.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Its value when no file and no variable sets it, written as in a file.
    pub default: &'static str,
    /// Older (section, name) pairs that still work, with a warning.
    pub deprecated: &'static [(&'static str, &'static str)],
    /// Whether anything in this version reads it.
    pub effect: Effect,
    /// What a reload does with a new value.
    pub reload: Reload,
    /// The version that first knew it.
    pub since: &'static str,
    /// What it is, its unit, and why the default is what it is.
    pub help: &'static str,
}

impl OptionSpec {
    /// `[group] name`, as messages say it.
    pub fn title(&self) -> String {
        format!("[{}] {}", self.group, self.name)
    }

    /// Whether it may be set several times.
    pub fn is_multi(&self) -> bool {
        matches!(self.kind, Kind::Multi(_) | Kind::Plugins)
    }
}

/// What becomes of an option's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is read.
    Read,
    /// It is checked and then ignored, so that a copied `ceilometer.conf` works unchanged.
    Ignored,
}

/// What a reload of the configuration does with an option's new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// It holds from then on.
    Live,
    /// It is named, and holds after the next start.
    Restart,
}

/// What values an option takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Any text on one line.
    Text,
    /// Text that is never shown again.
    Secret,
    /// The URL of a database, which may hold a password.
    Connection,
    /// A path; a relative one starts at the directory of the file that holds it.
    Path,
    /// A path like [`Kind::Path`], or nothing.
    File,
    /// A name of a network interface, or nothing.
    Interface,
    /// True or false, in any of oslo.config's words.
    Bool,
    /// A whole number.
    Int {
        /// The least that is accepted.
        least: i64,
        /// The greatest that is accepted.
        most: i64,
    },
    /// A number, fractions allowed.
    Float {
        /// The least that is accepted.
        least: f64,
        /// The greatest that is accepted.
        most: f64,
    },
    /// A time in seconds, fractions allowed.
    Seconds {
        /// The least that is accepted.
        least: f64,
        /// The greatest that is accepted.
        most: f64,
    },
    /// One of these words; the empty word stands for "not set".
    Choice(&'static [&'static str]),
    /// A comma list of these words.
    Choices(&'static [&'static str]),
    /// A comma list of any words.
    List,
    /// Any of these words, each on a line `name = word` of its own.
    Multi(&'static [&'static str]),
    /// A command and its arguments, split at blanks; the arguments are never shown again.
    Command,
    /// Plug-ins, each on a line `name = NAME FORMAT COMMAND [ARGUMENTS]` of its own.
    Plugins,
    /// A comma list of addresses or host names.
    Hosts,
    /// A comma list of at most one IPv4 and one IPv6 address.
    Sources,
    /// An address, or nothing.
    Address,
    /// An address with a port, or nothing.
    Listen,
    /// A comma list of `key:value`.
    Tags,
    /// How many of the gateways must answer.
    Quorum,
}

/// The option of this section and name; section names are compared as oslo.config does, without
/// regard to case but for DEFAULT.
pub fn find(group: &str, name: &str) -> Option<&'static OptionSpec> {
    let of_name = BY_NAME.get(name)?;
    of_name
        .iter()
        .find(|spec| same_group(spec.group, group))
        .copied()
}

/// The option that once had this section and name, and how many of its older names come before this
/// one.
pub fn find_deprecated(group: &str, name: &str) -> Option<(&'static OptionSpec, usize)> {
    let of_name = BY_OLD_NAME.get(name)?;
    of_name
        .iter()
        .find(|old| same_group(old.group, group))
        .map(|old| (old.spec, old.rank))
}

/// Whether two section names are one section.
pub fn same_group(a: &str, b: &str) -> bool {
    a == b || (a != DEFAULT && b != DEFAULT && a.eq_ignore_ascii_case(b))
}

/// The one way of writing a section's name.
pub(super) fn group_key(name: &str) -> Cow<'_, str> {
    if name == DEFAULT || !name.contains(|c: char| c.is_ascii_uppercase()) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(name.to_ascii_lowercase())
    }
}

/// The options of each name: files of thousands of lines are looked up in here.
static BY_NAME: LazyLock<HashMap<&str, Vec<&OptionSpec>>> = LazyLock::new(|| {
    let mut index: HashMap<&str, Vec<&OptionSpec>> = HashMap::new();
    for spec in OPTIONS {
        index.entry(spec.name).or_default().push(spec);
    }
    index
});

/// An older name of an option.
struct OldName {
    group: &'static str,
    spec: &'static OptionSpec,
    /// How many of the option's older names come before it.
    rank: usize,
}

/// Likewise by the older names.
static BY_OLD_NAME: LazyLock<HashMap<&str, Vec<OldName>>> = LazyLock::new(|| {
    let mut index: HashMap<&str, Vec<OldName>> = HashMap::new();
    for spec in OPTIONS {
        for (rank, (group, name)) in spec.deprecated.iter().enumerate() {
            let old = OldName { group, spec, rank };
            index.entry(name).or_default().push(old);
        }
    }
    index
});

/// The secrets that may stand in files of their own: section, option, and the option beside it that
/// names the file.
pub(super) const IN_FILES: &[(&str, &str, &str)] = &[
    (DEFAULT, "transport_url", "transport_url_file"),
    ("publisher", "telemetry_secret", "telemetry_secret_file"),
    ("database", "connection", "connection_file"),
];

/// The section that every file has.
pub const DEFAULT: &str = "DEFAULT";

/// The most probes a round may send to one gateway. A hundred at the shortest spacing take a second;
/// more would be a flood, not a probe.
const PING_COUNT_MAX: i64 = 100;

/// The most samples a batch may hold. Beyond some thousand rows a statement gains nothing (measured
/// on SQLite, MariaDB and PostgreSQL), and all of a batch is lost if the process dies.
const BATCH_SIZE_MAX: i64 = 10_000;

/// The most that a plug-in may be allowed to print in one round, in KiB. What is printed is held in
/// memory and read before anything of it is believed; a greater `output_max` is refused.
const PLUGIN_OUTPUT_KIB_MAX: i64 = 1024;

/// The facilities of syslog(3), as oslo.log names them.
const SYSLOG_FACILITIES: &[&str] = &[
    "LOG_AUTH",
    "LOG_AUTHPRIV",
    "LOG_CRON",
    "LOG_DAEMON",
    "LOG_FTP",
    "LOG_KERN",
    "LOG_LOCAL0",
    "LOG_LOCAL1",
    "LOG_LOCAL2",
    "LOG_LOCAL3",
    "LOG_LOCAL4",
    "LOG_LOCAL5",
    "LOG_LOCAL6",
    "LOG_LOCAL7",
    "LOG_LPR",
    "LOG_MAIL",
    "LOG_NEWS",
    "LOG_SYSLOG",
    "LOG_USER",
    "LOG_UUCP",
];

const PORT: Kind = Kind::Int {
    least: 0,
    most: 65_535,
};

const COUNT: Kind = Kind::Int {
    least: 0,
    most: i32::MAX as i64,
};

/// The most deliveries that wait for an acknowledgement: each holds a body of 1 MB at most.
const PREFETCH_MAX: i64 = 10_000;

/// The largest spool of a publisher, in MiB. It has no more segments than are looked at in a moment when an
/// agent starts; a greater `spool_max_mb` is refused.
const SPOOL_MB_MAX: i64 = 1024;

/// The columns that most options share.
const PLAIN: OptionSpec = OptionSpec {
    group: DEFAULT,
    name: "",
    kind: Kind::Text,
    default: "",
    deprecated: &[],
    effect: Effect::Read,
    reload: Reload::Live,
    since: "0.1.0",
    help: "",
};

/// Like [`PLAIN`], but that only a start reads it.
const FIXED: OptionSpec = OptionSpec {
    reload: Reload::Restart,
    ..PLAIN
};

/// An option of Ceilometer's that is accepted, checked and ignored.
const IGNORED: OptionSpec = OptionSpec {
    effect: Effect::Ignored,
    ..PLAIN
};

/// An option of oslo.messaging's RabbitMQ driver.
const RABBIT: OptionSpec = OptionSpec {
    group: "oslo_messaging_rabbit",
    ..FIXED
};

/// Every known option, by section.
pub static OPTIONS: &[OptionSpec] = &[
    // ---------------------------------------------------------------- [DEFAULT]
    OptionSpec {
        name: "host",
        help: "The name of this node in every reading. Default: what the kernel calls it. Deciders \
               look a node up by this name, so it should be Nova's name of the host.",
        ..FIXED
    },
    OptionSpec {
        name: "sample_source",
        default: "openstack",
        deprecated: &[(DEFAULT, "counter_source")],
        help: "The `source` of every sample. Change it only if a consumer expects another.",
        ..PLAIN
    },
    OptionSpec {
        name: "polling_namespaces",
        kind: Kind::Choices(&["compute", "central", "ipmi"]),
        default: "compute",
        help: "Which sets of pollsters the agent runs: compute, what a node sees of itself; central, what \
               a controller sees of the nodes from outside; ipmi, what the node's BMC says. Plug-ins \
               run in any.",
        ..PLAIN
    },
    OptionSpec {
        name: "meter_dispatchers",
        kind: Kind::Multi(&["database"]),
        default: "database",
        deprecated: &[(DEFAULT, "dispatcher")],
        help: "Where the collector puts samples. Only database is built.",
        ..PLAIN
    },
    OptionSpec {
        name: "pipeline_cfg_file",
        kind: Kind::Path,
        default: "pipeline_ha.yaml",
        help: "The file that says which meters are polled how often and published where.",
        ..PLAIN
    },
    OptionSpec {
        name: "refresh_pipeline_cfg",
        kind: Kind::Bool,
        default: "false",
        help: "Look at pipeline_cfg_file again and again, and reload the configuration when it has \
               changed. SIGHUP reloads in any case.",
        ..PLAIN
    },
    OptionSpec {
        name: "pipeline_polling_interval",
        kind: Kind::Seconds {
            least: 1.0,
            most: 86_400.0,
        },
        default: "20",
        help: "Seconds between two such looks, 1 to 86400. A change by hand isn't urgent, and a look \
               reads the whole file.",
        ..PLAIN
    },
    OptionSpec {
        name: "state_path",
        kind: Kind::Path,
        default: "/var/lib/ceilometer-ha",
        help: "The directory for what must outlive a restart: the agent's epoch, the gateways that \
               have answered, a generated secret, the default database.",
        ..FIXED
    },
    OptionSpec {
        name: "debug",
        kind: Kind::Bool,
        default: "false",
        help: "Log at level debug. It shows every round and every batch; too much for every day.",
        ..PLAIN
    },
    OptionSpec {
        name: "verbose",
        kind: Kind::Bool,
        default: "true",
        help: "Log at level info; false logs warnings and errors only.",
        ..PLAIN
    },
    OptionSpec {
        name: "use_stderr",
        kind: Kind::Bool,
        default: "true",
        help: "Log to standard error, which under systemd is the journal.",
        ..FIXED
    },
    OptionSpec {
        name: "log_file",
        deprecated: &[(DEFAULT, "logfile")],
        help: "Log to this file as well; a relative path starts at log_dir. Default: no file.",
        ..FIXED
    },
    OptionSpec {
        name: "log_dir",
        deprecated: &[(DEFAULT, "logdir")],
        help: "The directory where a relative log_file starts. Default: the directory of the \
               configuration file that holds log_file.",
        ..FIXED
    },
    OptionSpec {
        name: "use_syslog",
        kind: Kind::Bool,
        default: "false",
        help: "Log to the syslog daemon at /dev/log as well.",
        ..FIXED
    },
    OptionSpec {
        name: "syslog_log_facility",
        kind: Kind::Choice(SYSLOG_FACILITIES),
        default: "LOG_USER",
        help: "The facility of lines to syslog, by the name that syslog(3) has for it.",
        ..FIXED
    },
    OptionSpec {
        name: "use_journal",
        kind: Kind::Bool,
        default: "false",
        help: "Log to systemd's journal by its own protocol, with fields to filter by, instead of as \
               text by standard error.",
        ..FIXED
    },
    OptionSpec {
        name: "use_json",
        kind: Kind::Bool,
        default: "false",
        help: "Lines to standard error and to log_file are JSON objects.",
        ..FIXED
    },
    OptionSpec {
        name: "lock_memory",
        kind: Kind::Bool,
        default: "true",
        help: "Keep this process out of swap, where the system allows it (CAP_IPC_LOCK, or an \
               unlimited RLIMIT_MEMLOCK): a node that swaps should still be told from a dead one.",
        ..FIXED
    },
    OptionSpec {
        name: "core_dumps",
        kind: Kind::Bool,
        default: "false",
        help: "Let this process dump core and be attached to by a debugger of its user's. Its memory \
               holds secrets, so it may not unless a fault is being looked for.",
        ..FIXED
    },
    OptionSpec {
        name: "transport_url",
        kind: Kind::Secret,
        help: "The message broker that notifier:// publishes to and the collector consumes from, as \
               rabbit://USER:PASSWORD@HOST:PORT[,USER:PASSWORD@HOST:PORT]/VIRTUAL_HOST; what stands \
               behind a ?, such as ssl=1&ssl_ca_file=/etc/ssl/ca.pem, takes the place of the options \
               of [oslo_messaging_rabbit]. Unset: these name it.",
        ..FIXED
    },
    OptionSpec {
        name: "transport_url_file",
        kind: Kind::File,
        help: "A file that holds the value of transport_url, which then must not be set as well. \
               Default: no file.",
        ..FIXED
    },
    OptionSpec {
        name: "control_exchange",
        default: "ceilometer",
        help: "The broker's topic exchange. The default is the one that Ceilometer's senders use.",
        ..FIXED
    },
    OptionSpec {
        name: "rpc_backend",
        default: "rabbit",
        help: "The messaging driver; RabbitMQ is the only one.",
        ..IGNORED
    },
    OptionSpec {
        name: "reserved_metadata_namespace",
        kind: Kind::List,
        default: "metering.",
        help: "Prefixes of keys of the metadata that users give their instances: such entries go \
               into readings as user_metadata, without the prefix and with dots made underscores. \
               libvirt knows no user metadata, so this version finds none; host_tags are there anyway.",
        ..PLAIN
    },
    OptionSpec {
        name: "reserved_metadata_keys",
        kind: Kind::List,
        help: "Whole keys of the metadata that users give their instances that go into readings \
               beside those by prefix. To tag a node, say [compute] cluster or host_tags instead.",
        ..PLAIN
    },
    OptionSpec {
        name: "reserved_metadata_length",
        kind: COUNT,
        default: "256",
        help: "Texts of user metadata are cut to so many characters, because they travel with every \
               reading of their instance.",
        ..PLAIN
    },
    // ---------------------------------------------------------------- [compute]
    OptionSpec {
        group: "compute",
        name: "storage_server_address",
        kind: Kind::Hosts,
        help: "The storage gateways this node must reach, separated by commas: addresses or host \
               names. No default: nobody can guess it. Addresses need no resolver in an outage.",
        ..PLAIN
    },
    OptionSpec {
        group: "compute",
        name: "ping_count",
        kind: Kind::Int {
            least: 1,
            most: PING_COUNT_MAX,
        },
        default: "4",
        help: "Probes sent to each gateway in a round, 1 to 100. Four tell one lost packet from a \
               lost gateway and still end within a second.",
        ..PLAIN
    },
    OptionSpec {
        group: "compute",
        name: "ping_loss_ratio",
        kind: Kind::Float {
            least: 0.0,
            most: 1.0,
        },
        default: "0.5",
        help: "The share of lost probes, 0 to 1, up to which a gateway still counts as reachable. \
               Any other value than 0.5 needs ping_ratio_meaning.",
        ..PLAIN
    },
    OptionSpec {
        group: "compute",
        name: "ping_ratio_meaning",
        kind: Kind::Choice(&["", "loss", "success"]),
        help: "What ping_loss_ratio counts. loss: reachable when lost/sent <= ratio, as its name \
               says. success: reachable when answered/sent >= ratio, what older systems really did. \
               The two agree only at 0.5.",
        ..PLAIN
    },
    OptionSpec {
        group: "compute",
        name: "ping_interval",
        kind: Kind::Seconds {
            least: 0.01,
            most: 10.0,
        },
        default: "0.1",
        help: "Seconds between two probes to the same gateway, 0.01 to 10. A tenth spreads four \
               probes over more than a burst of loss and leaves most of a second to wait.",
        ..PLAIN
    },
    OptionSpec {
        group: "compute",
        name: "ping_timeout",
        kind: Kind::Seconds {
            least: 0.2,
            most: 60.0,
        },
        default: "0.5",
        help: "Seconds to wait for the answer to a probe, 0.2 to 60. What does not fit into the \
               source's interval is cut, down to 0.2. Half a second is a thousand times the round \
               trip of a healthy storage network.",
        ..PLAIN
    },
    OptionSpec {
        group: "compute",
        name: "storage_quorum",
        kind: Kind::Quorum,
        default: "any",
        help: "How many gateways must answer for the storage to be reachable: any, majority, all, or \
               a number. any is what the original did, and the one that fences least.",
        ..PLAIN
    },
    OptionSpec {
        group: "compute",
        name: "storage_interface",
        kind: Kind::Interface,
        help: "The network interface by which probes must leave. Default: the route in use at the \
               first answer is pinned.",
        ..PLAIN
    },
    OptionSpec {
        group: "compute",
        name: "storage_source_address",
        kind: Kind::Sources,
        help: "The address from which probes leave; one IPv4 and one IPv6 at most, separated by a \
               comma. Default: what the route says.",
        ..PLAIN
    },
    OptionSpec {
        group: "compute",
        name: "cluster",
        help: "The name of the cluster this node belongs to, for the metadata `cluster` and \
               `user_metadata.cluster`. Default: none.",
        ..PLAIN
    },
    OptionSpec {
        group: "compute",
        name: "host_tags",
        kind: Kind::Tags,
        help: "More metadata about this node, as `key:value, key:value`. What changes often does not \
               belong here: every new value makes a row in the table `resource`.",
        ..PLAIN
    },
    OptionSpec {
        group: "compute",
        name: "instance_discovery_method",
        kind: Kind::Choice(&["naive", "workload_partitioning", "libvirt_metadata"]),
        default: "naive",
        help: "How instances are found. They are always found through libvirt here, which needs no \
               Nova in an outage.",
        ..IGNORED
    },
    OptionSpec {
        group: "compute",
        name: "workload_partitioning",
        kind: Kind::Bool,
        default: "false",
        help: "Whether several agents share the work. Each looks at its own node here.",
        ..IGNORED
    },
    OptionSpec {
        group: "compute",
        name: "resource_update_interval",
        kind: COUNT,
        default: "0",
        help: "Seconds between two looks at Nova. Nova isn't asked here.",
        ..IGNORED
    },
    OptionSpec {
        group: "compute",
        name: "libvirt_type",
        kind: Kind::Choice(&["kvm", "lxc", "qemu", "uml", "xen", "parallels"]),
        default: "kvm",
        deprecated: &[(DEFAULT, "libvirt_type")],
        help: "The hypervisor, which chooses the URI where libvirt_uri is not set: kvm and qemu \
               stand for qemu:///system.",
        ..PLAIN
    },
    OptionSpec {
        group: "compute",
        name: "libvirt_uri",
        deprecated: &[(DEFAULT, "libvirt_uri")],
        help: "The libvirt to ask, read-only. Default: what libvirt_type stands for. A remote one \
               would be asked over the network that an outage takes away.",
        ..PLAIN
    },
    OptionSpec {
        group: "compute",
        name: "libvirt_timeout",
        kind: Kind::Seconds {
            least: 1.0,
            most: 60.0,
        },
        default: "3",
        help: "Seconds that libvirt may take for an answer, opening a connection included. A libvirt \
               that takes longer counts as hung: hypervisor.connectivity is 0. A busy one answers \
               within some hundredths, one that has just started may take a second.",
        ..PLAIN
    },
    // ---------------------------------------------------------------- [central]
    OptionSpec {
        group: "central",
        name: "hosts_file",
        kind: Kind::File,
        help: "The hosts that namespace central looks at from outside, one `HOST NETWORK ADDRESS` a \
               line. Addresses, no names: there is no resolver in an outage. Unset: only those that \
               pipeline_ha.yaml names under resources. Read at start.",
        ..PLAIN
    },
    // ---------------------------------------------------------------- [agent]
    OptionSpec {
        group: "agent",
        name: "http_listen",
        kind: Kind::Listen,
        default: "127.0.0.1:9180",
        help: "Where the agent serves /metrics, /healthz and /readyz; empty switches it off. On \
               loopback by default, because it asks for no password.",
        ..FIXED
    },
    // ---------------------------------------------------------------- [plugins]
    OptionSpec {
        group: "plugins",
        name: "pollster",
        kind: Kind::Plugins,
        help: "A pollster of your own, as NAME FORMAT COMMAND [ARGUMENTS]: a name of lower-case \
               letters, digits and '_' that begins its meters' names; nagios or json; an absolute \
               path. Words are split at blanks, double quotes keep them together. Arguments show in \
               the process list, so keep passwords in files.",
        ..PLAIN
    },
    OptionSpec {
        group: "plugins",
        name: "timeout",
        kind: Kind::Seconds {
            least: 0.1,
            most: 3600.0,
        },
        default: "10",
        help: "Seconds after which a plug-in is killed with everything it started, 0.1 to 3600. Where \
               its source's interval is shorter, that holds.",
        ..PLAIN
    },
    OptionSpec {
        group: "plugins",
        name: "memory_max",
        kind: Kind::Int {
            least: 16,
            most: 65_536,
        },
        default: "256",
        help: "MiB of address space that each process of a plug-in may have, 16 to 65536. Enough for a \
               Python script; a Java program needs some thousands.",
        ..PLAIN
    },
    OptionSpec {
        group: "plugins",
        name: "output_max",
        kind: Kind::Int {
            least: 1,
            most: PLUGIN_OUTPUT_KIB_MAX,
        },
        default: "64",
        help: "KiB that a plug-in may print in one round, 1 to 1024; with more it is killed. 64 KiB \
               are some five hundred samples.",
        ..PLAIN
    },
    OptionSpec {
        group: "plugins",
        name: "user",
        default: "nobody",
        help: "The user as whom plug-ins run if the agent is root; one of their own is better than a \
               shared one. An agent that isn't root runs them as itself.",
        ..PLAIN
    },
    // ---------------------------------------------------------------- [ipmi]
    OptionSpec {
        group: "ipmi",
        name: "command",
        kind: Kind::Command,
        default: "ipmitool",
        help: "How to talk to this node's BMC: ipmitool, and what its own words stand behind, such \
               as `ipmitool -I lanplus -H 10.0.0.9 -U monitor -f /etc/ceilometer/bmc-password`. It \
               keeps the agent's privileges.",
        ..PLAIN
    },
    OptionSpec {
        group: "ipmi",
        name: "timeout",
        kind: Kind::Seconds {
            least: 0.5,
            most: 600.0,
        },
        default: "10",
        help: "Seconds that a round with the BMC may take, 0.5 to 600. BMCs are slow: dozens of sensors \
               take seconds. Where the source's interval is shorter, that holds.",
        ..PLAIN
    },
    // ---------------------------------------------------------------- [collector]
    OptionSpec {
        group: "collector",
        name: "udp_address",
        kind: Kind::Address,
        default: "0.0.0.0",
        help: "The address to receive samples at; empty switches UDP off, :: takes IPv6 as well.",
        ..FIXED
    },
    OptionSpec {
        group: "collector",
        name: "udp_port",
        kind: PORT,
        default: "4953",
        help: "The port to receive samples at. Ceilometer's own collector has 4952; this pipeline is \
               kept apart from it.",
        ..FIXED
    },
    OptionSpec {
        group: "collector",
        name: "batch_size",
        kind: Kind::Int {
            least: 1,
            most: BATCH_SIZE_MAX,
        },
        default: "1000",
        help: "Samples written in one transaction, 1 to 10000. About a thousand is where databases \
               are at their best.",
        ..PLAIN
    },
    OptionSpec {
        group: "collector",
        name: "batch_timeout",
        kind: Kind::Seconds {
            least: 0.001,
            most: 10.0,
        },
        default: "0.05",
        help: "Seconds a sample may wait for its batch to fill, 0.001 to 10. Its state doesn't wait for \
               longer than 0.1 s, whatever is set here; what waits is lost if the collector dies.",
        ..PLAIN
    },
    OptionSpec {
        group: "collector",
        name: "notifier",
        kind: Kind::Choice(&["auto", "yes", "no"]),
        default: "auto",
        help: "Whether to consume what notifier:// publishers send, beside UDP. auto: if transport_url, \
               rabbit_host or rabbit_hosts is set.",
        ..FIXED
    },
    OptionSpec {
        group: "collector",
        name: "topics",
        kind: Kind::List,
        default: "$publisher_notifier.metering_topic",
        help: "The topics to consume from the message broker: the queues TOPIC.sample.",
        ..FIXED
    },
    OptionSpec {
        group: "collector",
        name: "prefetch",
        kind: Kind::Int {
            least: 1,
            most: PREFETCH_MAX,
        },
        default: "500",
        help: "Deliveries that the broker may hand out before the first of them is stored and \
               acknowledged, 1 to 10000. More of them fill larger transactions, and come twice if \
               the collector dies.",
        ..FIXED
    },
    OptionSpec {
        group: "collector",
        name: "host_keys_file",
        kind: Kind::File,
        help: "The keys by which hosts prove what they say, as compute-ha key writes them; for its owner \
               alone. As soon as it is set, a host speaks for itself alone. See docs/security.md. \
               Default: no file, and whoever knows telemetry_secret may say anything about any host.",
        ..PLAIN
    },
    OptionSpec {
        group: "collector",
        name: "require_proof",
        kind: Kind::Bool,
        default: "false",
        help: "Whether readings without a proof of their host's own key are refused. Set it once every \
               host has a key: until then those that have one are held to it anyway.",
        ..PLAIN
    },
    OptionSpec {
        group: "collector",
        name: "observers",
        kind: Kind::List,
        help: "Hosts that may say something about other hosts, where host_keys_file is set: those with \
               polling_namespaces = central.",
        ..PLAIN
    },
    OptionSpec {
        group: "collector",
        name: "accept_paths",
        kind: Kind::List,
        help: "Further ways by which readings may come: a publisher's URL as pipeline_ha.yaml has it, where \
               its address or port is not the one that the collector sees, as behind NAT, a virtual \
               address or a container's published port.",
        ..PLAIN
    },
    OptionSpec {
        group: "collector",
        name: "clock_tolerance",
        kind: Kind::Seconds {
            least: 0.0,
            most: 86_400.0,
        },
        default: "300",
        help: "Seconds by which a reading's time may differ from the collector's clock and still count as \
               one about now; beyond it is stored as history alone. 0 to 86400, 0 for any time.",
        ..PLAIN
    },
    OptionSpec {
        group: "collector",
        name: "http_listen",
        kind: Kind::Listen,
        default: "127.0.0.1:9181",
        help: "Where the collector serves /metrics, /healthz and /readyz; empty switches it off. On \
               loopback by default, because it asks for no password.",
        ..FIXED
    },
    // ---------------------------------------------------------------- [database]
    OptionSpec {
        group: "database",
        name: "connection",
        kind: Kind::Connection,
        default: "sqlite:///$state_path/ceilometer_ha.sqlite",
        deprecated: &[
            (DEFAULT, "sql_connection"),
            (DEFAULT, "database_connection"),
            ("database", "sql_connection"),
            ("sql", "connection"),
        ],
        help: "The database, as an SQLAlchemy URL: sqlite:////path or \
               mysql+pymysql://user:password@host/database. Several hosts, a socket and TLS: see \
               \"The database\" in docs/options.md.",
        ..FIXED
    },
    OptionSpec {
        group: "database",
        name: "connection_file",
        kind: Kind::File,
        help: "A file that holds the value of connection, which then must not be set as well: a file \
               of its own can have narrower rights. Default: no file.",
        ..FIXED
    },
    OptionSpec {
        group: "database",
        name: "metering_time_to_live",
        kind: Kind::Int {
            least: i64::MIN,
            most: i32::MAX as i64,
        },
        default: "0",
        deprecated: &[("database", "time_to_live")],
        help: "Seconds that samples are kept after they were recorded; 0 and less keep them for ever. \
               Should be 480 or more: twice the window of 240 s that a decider looks back over. Current \
               state is kept anyway.",
        ..PLAIN
    },
    // ---------------------------------------------------------------- [publisher]
    OptionSpec {
        group: "publisher",
        name: "telemetry_secret",
        kind: Kind::Secret,
        deprecated: &[
            (DEFAULT, "metering_secret"),
            ("publisher_rpc", "metering_secret"),
            ("publisher", "metering_secret"),
        ],
        help: "The secret that signs every sample; the same on all hosts. Unset: each host makes one \
               of its own in state_path, which serves a single machine only.",
        ..PLAIN
    },
    OptionSpec {
        group: "publisher",
        name: "telemetry_secret_file",
        kind: Kind::File,
        help: "A file that holds the value of telemetry_secret, which then must not be set as well. \
               Default: no file.",
        ..PLAIN
    },
    OptionSpec {
        group: "publisher",
        name: "allow_weak_secret",
        kind: Kind::Bool,
        default: "false",
        help: "Whether an empty telemetry_secret, Ceilometer's default or another one that was published is \
               only warned about. Everybody can sign with these.",
        ..PLAIN
    },
    OptionSpec {
        group: "publisher",
        name: "host_key_file",
        kind: Kind::File,
        help: "This host's own key, as compute-ha key issue writes it; for its owner alone. With it readings \
               carry a proof that no other host can make. Default: no file, no proof.",
        ..PLAIN
    },
    OptionSpec {
        group: "publisher_notifier",
        name: "metering_topic",
        default: "metering_ha",
        deprecated: &[
            (DEFAULT, "metering_topic"),
            ("publisher_rpc", "metering_topic"),
        ],
        help: "The topic of notifier:// publishers whose URL names none, and of the collector. The \
               default is the HA pipeline's own, so that nothing in normal telemetry delays it; \
               metering is Ceilometer's.",
        ..FIXED
    },
    OptionSpec {
        group: "publisher_notifier",
        name: "spool_max_mb",
        kind: Kind::Int {
            least: 0,
            most: SPOOL_MB_MAX,
        },
        default: "64",
        help: "The most that undelivered readings of each notifier:// publisher with policy=queue may take \
               of the disk below state_path, in MiB; the oldest go first. They outlive the agent, for 23 \
               hours at most. A reading takes some hundred bytes, so the default holds hours of a node. 0: \
               none, only what is in memory is kept.",
        ..FIXED
    },
    // ---------------------------------------------------------------- [oslo_messaging_rabbit]
    OptionSpec {
        name: "rabbit_host",
        default: "localhost",
        deprecated: &[(DEFAULT, "rabbit_host")],
        help: "The broker's host.",
        ..RABBIT
    },
    OptionSpec {
        name: "rabbit_hosts",
        kind: Kind::List,
        default: "$rabbit_host:$rabbit_port",
        deprecated: &[(DEFAULT, "rabbit_hosts")],
        help: "The brokers of a cluster, as host:port.",
        ..RABBIT
    },
    OptionSpec {
        name: "rabbit_port",
        kind: PORT,
        default: "5672",
        deprecated: &[(DEFAULT, "rabbit_port")],
        help: "The broker's port.",
        ..RABBIT
    },
    OptionSpec {
        name: "rabbit_userid",
        default: "guest",
        deprecated: &[(DEFAULT, "rabbit_userid")],
        help: "The broker's user.",
        ..RABBIT
    },
    OptionSpec {
        name: "rabbit_password",
        kind: Kind::Secret,
        default: "guest",
        deprecated: &[(DEFAULT, "rabbit_password")],
        help: "The user's password.",
        ..RABBIT
    },
    OptionSpec {
        name: "rabbit_virtual_host",
        default: "/",
        deprecated: &[(DEFAULT, "rabbit_virtual_host")],
        help: "The broker's virtual host.",
        ..RABBIT
    },
    OptionSpec {
        name: "ssl",
        kind: Kind::Bool,
        default: "false",
        deprecated: &[
            ("oslo_messaging_rabbit", "rabbit_use_ssl"),
            (DEFAULT, "rabbit_use_ssl"),
        ],
        help: "Whether to speak TLS with the broker; its certificate must then be trusted and be of \
               its host.",
        ..RABBIT
    },
    OptionSpec {
        name: "ssl_ca_file",
        kind: Kind::File,
        deprecated: &[
            ("oslo_messaging_rabbit", "kombu_ssl_ca_certs"),
            (DEFAULT, "kombu_ssl_ca_certs"),
        ],
        help: "A file of certificates (PEM) of which one must have signed the broker's, and no other. \
               Default: those that the system trusts.",
        ..RABBIT
    },
    OptionSpec {
        name: "ssl_cert_file",
        kind: Kind::File,
        deprecated: &[
            ("oslo_messaging_rabbit", "kombu_ssl_certfile"),
            (DEFAULT, "kombu_ssl_certfile"),
        ],
        help: "A file with our own certificate (PEM), for brokers that ask for one.",
        ..RABBIT
    },
    OptionSpec {
        name: "ssl_key_file",
        kind: Kind::File,
        deprecated: &[
            ("oslo_messaging_rabbit", "kombu_ssl_keyfile"),
            (DEFAULT, "kombu_ssl_keyfile"),
        ],
        help: "A file with the certificate's key (PEM).",
        ..RABBIT
    },
    OptionSpec {
        name: "rabbit_ha_queues",
        kind: Kind::Bool,
        default: "false",
        deprecated: &[(DEFAULT, "rabbit_ha_queues")],
        help: "Whether queues ask to be mirrored, as brokers before 3.0 want to be asked.",
        ..RABBIT
    },
    OptionSpec {
        name: "rabbit_quorum_queue",
        kind: Kind::Bool,
        default: "false",
        help: "Whether queues are quorum queues; they are durable then.",
        ..RABBIT
    },
    OptionSpec {
        name: "amqp_auto_delete",
        kind: Kind::Bool,
        default: "false",
        deprecated: &[(DEFAULT, "amqp_auto_delete")],
        help: "Whether queues go when nobody uses them any more.",
        ..RABBIT
    },
    OptionSpec {
        name: "amqp_durable_queues",
        kind: Kind::Bool,
        default: "false",
        deprecated: &[(DEFAULT, "amqp_durable_queues")],
        help: "Whether queues outlive the broker.",
        ..RABBIT
    },
    OptionSpec {
        name: "heartbeat_timeout_threshold",
        kind: COUNT,
        default: "60",
        help: "Seconds of silence after which the broker counts as gone; 0 never.",
        ..RABBIT
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_old_names_lead_to_one_option() {
        let mut seen = HashSet::new();
        for spec in OPTIONS {
            let own = std::iter::once((spec.group, spec.name));
            for (group, name) in own.chain(spec.deprecated.iter().copied()) {
                assert!(
                    seen.insert((group.to_lowercase(), name)),
                    "[{group}] {name} twice"
                );
            }
        }
    }

    #[test]
    fn every_option_is_explained() {
        for spec in OPTIONS {
            assert!(
                spec.help.ends_with('.') && !spec.help.contains("  "),
                "[{}] {}: {:?}",
                spec.group,
                spec.name,
                spec.help
            );
        }
    }

    #[test]
    fn names_need_no_quoting_anywhere() {
        for spec in OPTIONS {
            for text in [spec.group, spec.name] {
                assert!(
                    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
                    "{text:?}"
                );
            }
        }
    }

    #[test]
    fn only_default_has_to_be_in_capitals() {
        assert!(find("DATABASE", "connection").is_some());
        assert!(find("DEFAULT", "debug").is_some());
        assert!(find("default", "debug").is_none());
        assert!(find_deprecated("DATABASE", "sql_connection").is_some());
    }
}
