//! Pure. The checked settings that the daemons are built from, and the checks that need more than
//! one option.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::broker::{self, BrokerSettings};
use super::command::{CommandLine, PluginSpec};
use super::connection::Connection;
use super::options::DEFAULT;
use super::problem::Severity;
use super::values::{Mismatch, Values};
use crate::model::Secret;

/// The shortest time that a probe is given to come back: below it, a busy scheduler on either side
/// looks like loss.
pub const EFFECTIVE_TIMEOUT_MIN: Duration = Duration::from_millis(200);

/// The most gateways of one node. A round to a thousand is what the probe was measured with; with
/// more, the surplus is not dropped silently but the configuration refused.
const GATEWAYS_MAX: usize = 1000;

/// The most tags of one node. They travel with every reading, and a datagram has 64 KB at most; a
/// configuration with more is refused.
const HOST_TAGS_MAX: usize = 32;

/// The most plug-ins of one node. Each has a thread and, while it runs, a process; a longer list is
/// refused.
const PLUGINS_MAX: usize = 64;

/// Metadata that the agent fills by itself; a tag of that name would hide it.
const RESERVED_TAGS: &[&str] = &["node", "cluster", "user_metadata"];

/// A shorter time to live is warned about: twice the window of 240 s over which the documented decider
/// looks back.
const RETENTION_CALM: Duration = Duration::from_secs(480);

/// Secrets shorter than this are warned about: 16 characters of `openssl rand -hex` are 64 bits,
/// the least that holds against somebody who recorded one datagram.
const SECRET_CHARS_MIN: usize = 16;

/// Ceilometer's default for `telemetry_secret`, which everybody knows.
const WELL_KNOWN_SECRET: &str = "change this for valid signing";

/// SHA-256 of secrets that stand in configurations which anybody can read.
const PUBLISHED_SECRETS: [[u8; 32]; 1] = [[
    0x43, 0xa2, 0x2e, 0x3e, 0xe8, 0xfc, 0x1a, 0x26, 0xf8, 0xb4, 0x8c, 0x61, 0xf6, 0x4c, 0x27, 0x90,
    0x95, 0x91, 0x07, 0x6d, 0xd3, 0x2a, 0x3e, 0x01, 0x6a, 0xaa, 0x37, 0x60, 0xad, 0xfa, 0x72, 0x97,
]];

/// A batch that waits longer than this is no larger for it where a fleet has more than a few hosts, and
/// costs a transaction more, because its states don't wait with it.
const BATCH_TIMEOUT_CALM: Duration = Duration::from_millis(100);

/// The ratio at which counting losses and counting answers are the same.
const RATIO_WITHOUT_DOUBT: f64 = 0.5;

/// What the files and the environment say, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// This node's name in readings.
    pub host: String,
    /// The `source` of every sample.
    pub sample_source: String,
    /// Which sets of pollsters run, each once.
    pub polling_namespaces: Vec<Namespace>,
    /// The pipeline's file.
    pub pipeline_cfg_file: PathBuf,
    /// How often the pipeline's file is looked at for changes; None for never.
    pub pipeline_refresh: Option<Duration>,
    /// The directory of what must outlive a restart.
    pub state_path: PathBuf,
    /// Where logs go.
    pub log: LogSettings,
    /// What the process asks of the system for itself.
    pub process: ProcessSettings,
    /// Which user metadata goes into readings.
    pub reserved: Reserved,
    /// What the probes do.
    pub compute: ComputeSettings,
    /// Which libvirt is asked.
    pub libvirt: LibvirtSettings,
    /// What is looked at from outside.
    pub central: CentralSettings,
    /// What else concerns the agent alone.
    pub agent: AgentSettings,
    /// Pollsters of the operator's own.
    pub plugins: PluginSettings,
    /// The way to the BMC.
    pub ipmi: IpmiSettings,
    /// Receiving and batching.
    pub collector: CollectorSettings,
    /// Storing and forgetting.
    pub database: DatabaseSettings,
    /// The secret that signs; None if it is unset or empty.
    pub telemetry_secret: Option<Secret>,
    /// Whether a secret that everybody knows is only warned about.
    pub allow_weak_secret: bool,
    /// This host's own key; None for none.
    pub host_key_file: Option<PathBuf>,
    /// The message broker.
    pub broker: BrokerSettings,
    /// The topic of a notifier:// publisher whose URL names none.
    pub topic: String,
    /// The most that the spool of a notifier:// publisher may hold, in bytes; 0 for no spool.
    pub spool_bytes: u64,
}

/// A set of pollsters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// What a compute node sees of itself.
    Compute,
    /// What a controller sees of the nodes.
    Central,
    /// What the node's BMC says.
    Ipmi,
}

impl Namespace {
    /// The word in `polling_namespaces`.
    pub fn as_str(self) -> &'static str {
        match self {
            Namespace::Compute => "compute",
            Namespace::Central => "central",
            Namespace::Ipmi => "ipmi",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Namespace::Compute, Namespace::Central, Namespace::Ipmi]
            .into_iter()
            .find(|namespace| namespace.as_str() == name)
    }
}

/// How much is logged, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Level debug.
    pub debug: bool,
    /// Level info; otherwise warning.
    pub verbose: bool,
    /// To standard error.
    pub use_stderr: bool,
    /// To this file as well.
    pub file: Option<PathBuf>,
    /// To the syslog daemon, under this facility's name; None for not there.
    pub syslog_facility: Option<String>,
    /// To systemd's journal, by its own protocol.
    pub use_journal: bool,
    /// Lines to standard error and to the file are JSON objects.
    pub use_json: bool,
}

/// What a process asks of the system for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessSettings {
    /// Not to be swapped out, where that is allowed.
    pub lock_memory: bool,
    /// To dump core, and to be attached to.
    pub core_dumps: bool,
}

/// Which of the metadata that users give their instances goes into readings, as `user_metadata`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// Prefixes of keys; each is taken off.
    pub namespaces: Vec<String>,
    /// Whole keys beside them.
    pub keys: Vec<String>,
    /// Longer texts are cut to so many characters.
    pub length: usize,
}

/// What the storage probes do.
#[derive(Debug, Clone, PartialEq)]
pub struct ComputeSettings {
    /// Addresses without brackets, or host names; no two alike.
    pub gateways: Vec<String>,
    /// Probes to each gateway in a round.
    pub ping_count: u16,
    /// A gateway is reachable when lost/sent is not above this, 0 to 1.
    pub accepted_loss: f64,
    /// The time between two probes to one gateway.
    pub ping_interval: Duration,
    /// How long a probe may take; see [`effective_timeout`].
    pub ping_timeout: Duration,
    /// How many gateways must answer.
    pub quorum: Quorum,
    /// The interface by which probes leave.
    pub storage_interface: Option<String>,
    /// The addresses from which probes leave, one of each family at most.
    pub storage_source_addresses: Vec<IpAddr>,
    /// The cluster this node belongs to.
    pub cluster: Option<String>,
    /// More metadata about the node, in the order of the file.
    pub host_tags: Vec<(String, String)>,
}

/// How many of the gateways must answer for the storage to be reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quorum {
    /// One is enough.
    Any,
    /// More than half.
    Majority,
    /// Every one.
    All,
    /// This many.
    AtLeast(usize),
}

impl fmt::Display for Quorum {
    /// As it is written in a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Quorum::Any => f.write_str("any"),
            Quorum::Majority => f.write_str("majority"),
            Quorum::All => f.write_str("all"),
            Quorum::AtLeast(least) => write!(f, "{least}"),
        }
    }
}

impl Quorum {
    /// The number of gateways that must answer, of `n` configured ones. At least one: with no
    /// gateway nothing can be called reachable.
    pub fn needed(&self, n: usize) -> usize {
        match self {
            Quorum::Any => 1,
            Quorum::Majority => n / 2 + 1,
            Quorum::All => n.max(1),
            Quorum::AtLeast(least) => (*least).max(1),
        }
    }
}

/// Which libvirt is asked, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibvirtSettings {
    /// Its URI.
    pub uri: String,
    /// Whether the configuration names the URI, and not the type alone.
    pub is_chosen: bool,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// What namespace central looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CentralSettings {
    /// The list of hosts; None for no such file.
    pub hosts_file: Option<PathBuf>,
}

/// What concerns the agent alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSettings {
    /// Where metrics and health are served; None for nowhere.
    pub http_listen: Option<SocketAddr>,
}

/// Pollsters of the operator's own, and what they may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginSettings {
    /// In the order of the files; no two of one name.
    pub pollsters: Vec<PluginSpec>,
    /// How long each may run.
    pub timeout: Duration,
    /// The address space of each of their processes.
    pub memory_bytes: u64,
    /// What each may print in one round.
    pub output_bytes: usize,
    /// Who runs them if the agent is root.
    pub user: String,
}

/// The way to the BMC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpmiSettings {
    /// ipmitool, with the arguments that come before its own words.
    pub command: CommandLine,
    /// How long a round may take.
    pub timeout: Duration,
}

/// Receiving and batching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorSettings {
    /// Where datagrams are received; None for nowhere.
    pub udp_address: Option<IpAddr>,
    /// The port for them.
    pub udp_port: u16,
    /// Samples written in one transaction.
    pub batch_size: usize,
    /// How long a sample waits for its batch to fill.
    pub batch_timeout: Duration,
    /// Topics to consume from the message broker; none if it is not to be asked.
    pub topics: Vec<String>,
    /// Deliveries that the broker may hand out before the first of them is acknowledged.
    pub prefetch: u16,
    /// What is asked of messages beside the signature.
    pub trust: TrustSettings,
    /// Where metrics and health are served; None for nowhere.
    pub http_listen: Option<SocketAddr>,
}

/// What is asked of messages beside the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustSettings {
    /// The keys of hosts; None for no keys.
    pub host_keys_file: Option<PathBuf>,
    /// Whether messages of ours have to have a proof.
    pub require_proof: bool,
    /// Hosts that may say something about others.
    pub observers: Vec<String>,
    /// Paths that are taken whatever the way.
    pub accept_paths: Vec<String>,
    /// How far a reading's time may be off; None for any time.
    pub clock_tolerance: Option<Duration>,
}

/// Storing and forgetting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseSettings {
    /// The URL, which may hold a password; a path in it is absolute if the file's path is.
    pub connection: Secret,
    /// How long samples are kept; None for ever.
    pub retention: Option<Duration>,
}

impl DatabaseSettings {
    /// The URL for people: without a password, and without options.
    pub fn shown(&self) -> String {
        match Connection::parse(self.connection.expose()) {
            Ok(connection) => connection.to_string(),
            Err(_) => "of another kind".to_owned(),
        }
    }
}

/// How long the last probe of a round is really waited for: `ping_timeout`, or what the interval of
/// the round leaves after the last probe is sent, and never less than
/// [`EFFECTIVE_TIMEOUT_MIN`].
pub fn effective_timeout(interval: Duration, settings: &ComputeSettings) -> Duration {
    let gaps = u32::from(settings.ping_count.saturating_sub(1));
    let sending = settings.ping_interval.saturating_mul(gaps);
    settings
        .ping_timeout
        .min(interval.saturating_sub(sending))
        .max(EFFECTIVE_TIMEOUT_MIN)
}

/// Builds the settings from the values; what doesn't fit together is reported there.
pub(super) fn build(values: &mut Values<'_>, host_name: &str) -> Result<Settings, Mismatch> {
    Ok(Settings {
        host: optional(values.text(DEFAULT, "host")?).unwrap_or_else(|| host_name.to_owned()),
        sample_source: values.text(DEFAULT, "sample_source")?,
        polling_namespaces: namespaces(values)?,
        pipeline_cfg_file: values.path(DEFAULT, "pipeline_cfg_file")?,
        pipeline_refresh: values
            .truth(DEFAULT, "refresh_pipeline_cfg")?
            .then_some(values.seconds(DEFAULT, "pipeline_polling_interval")?),
        state_path: values.path(DEFAULT, "state_path")?,
        log: log(values)?,
        process: ProcessSettings {
            lock_memory: values.truth(DEFAULT, "lock_memory")?,
            core_dumps: values.truth(DEFAULT, "core_dumps")?,
        },
        reserved: Reserved {
            namespaces: values.words(DEFAULT, "reserved_metadata_namespace")?,
            keys: values.words(DEFAULT, "reserved_metadata_keys")?,
            length: narrow(values, DEFAULT, "reserved_metadata_length")?,
        },
        compute: compute(values)?,
        libvirt: libvirt(values)?,
        central: CentralSettings {
            hosts_file: values.file("central", "hosts_file")?,
        },
        agent: AgentSettings {
            http_listen: values.listen("agent", "http_listen")?,
        },
        plugins: plugins(values)?,
        ipmi: IpmiSettings {
            command: values.command("ipmi", "command")?,
            timeout: values.seconds("ipmi", "timeout")?,
        },
        collector: collector(values)?,
        database: database(values)?,
        telemetry_secret: telemetry_secret(values)?,
        allow_weak_secret: values.truth("publisher", "allow_weak_secret")?,
        host_key_file: values.file("publisher", "host_key_file")?,
        broker: broker::build(values)?,
        topic: values.text("publisher_notifier", "metering_topic")?,
        spool_bytes: spool_bytes(values)?,
    })
}

fn spool_bytes(values: &Values<'_>) -> Result<u64, Mismatch> {
    let mebibytes: u64 = narrow(values, "publisher_notifier", "spool_max_mb")?;
    Ok(mebibytes << 20)
}

fn optional(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn namespaces(values: &Values<'_>) -> Result<Vec<Namespace>, Mismatch> {
    let mut namespaces = Vec::new();
    for word in values.words(DEFAULT, "polling_namespaces")? {
        let Some(namespace) = Namespace::from_name(&word) else {
            continue;
        };
        if namespaces.contains(&namespace) {
            continue;
        }
        namespaces.push(namespace);
    }
    Ok(namespaces)
}

fn log(values: &Values<'_>) -> Result<LogSettings, Mismatch> {
    let directory = match optional(values.text(DEFAULT, "log_dir")?) {
        Some(directory) => values.base(DEFAULT, "log_dir").join(directory),
        None => values.base(DEFAULT, "log_file"),
    };
    Ok(LogSettings {
        debug: values.truth(DEFAULT, "debug")?,
        verbose: values.truth(DEFAULT, "verbose")?,
        use_stderr: values.truth(DEFAULT, "use_stderr")?,
        file: optional(values.text(DEFAULT, "log_file")?).map(|file| directory.join(file)),
        syslog_facility: values
            .truth(DEFAULT, "use_syslog")?
            .then_some(values.text(DEFAULT, "syslog_log_facility")?),
        use_journal: values.truth(DEFAULT, "use_journal")?,
        use_json: values.truth(DEFAULT, "use_json")?,
    })
}

fn compute(values: &mut Values<'_>) -> Result<ComputeSettings, Mismatch> {
    let gateways = gateways(values)?;
    Ok(ComputeSettings {
        quorum: quorum(values, gateways.len())?,
        gateways,
        ping_count: narrow(values, "compute", "ping_count")?,
        accepted_loss: accepted_loss(values)?,
        ping_interval: values.seconds("compute", "ping_interval")?,
        ping_timeout: values.seconds("compute", "ping_timeout")?,
        storage_interface: optional(values.text("compute", "storage_interface")?),
        storage_source_addresses: values.sources("compute", "storage_source_address")?,
        cluster: optional(values.text("compute", "cluster")?),
        host_tags: host_tags(values)?,
    })
}

fn gateways(values: &mut Values<'_>) -> Result<Vec<String>, Mismatch> {
    let option = "storage_server_address";
    let mut gateways: Vec<String> = Vec::new();
    for gateway in values.words("compute", option)? {
        if gateways
            .iter()
            .any(|other| other.eq_ignore_ascii_case(&gateway))
        {
            let message = format!("{gateway} is named twice and counts once");
            values.report(Severity::Warning, "compute", option, message);
        } else {
            gateways.push(gateway);
        }
    }
    if gateways.len() > GATEWAYS_MAX {
        let message = format!(
            "found {} gateways, expected {GATEWAYS_MAX} at most",
            gateways.len()
        );
        values.report(Severity::Error, "compute", option, message);
    }
    Ok(gateways)
}

fn quorum(values: &mut Values<'_>, gateways: usize) -> Result<Quorum, Mismatch> {
    let option = "storage_quorum";
    let quorum = values.quorum("compute", option)?;
    match quorum {
        Quorum::AtLeast(least) if least > gateways => {
            let message = format!(
                "found {least}, expected no more than the number of gateways, which is {gateways}"
            );
            values.report(Severity::Error, "compute", option, message);
        }
        Quorum::Majority if gateways == 2 => {
            let message = "a majority of two gateways is all of them: one lost gateway makes the \
                           storage unreachable";
            values.report(Severity::Warning, "compute", option, message);
        }
        Quorum::Any | Quorum::Majority | Quorum::All | Quorum::AtLeast(_) => {}
    }
    Ok(quorum)
}

fn accepted_loss(values: &mut Values<'_>) -> Result<f64, Mismatch> {
    let ratio = values.float("compute", "ping_loss_ratio")?;
    let meaning = values.text("compute", "ping_ratio_meaning")?;
    if meaning == "success" {
        // 1 - 0.9 is a little less than 0.1, and one lost of ten would be one too many.
        return Ok(((1.0 - ratio) * 1e9).round() / 1e9);
    }
    if meaning.is_empty() && (ratio - RATIO_WITHOUT_DOUBT).abs() > f64::EPSILON {
        let message = format!(
            "{ratio} is read as the share of probes that may be LOST; older systems compared it \
             with the share that was ANSWERED, which here gives another verdict. Set \
             ping_ratio_meaning = loss to confirm, or success for the older arithmetic"
        );
        values.report(Severity::Warning, "compute", "ping_loss_ratio", message);
    }
    Ok(ratio)
}

fn host_tags(values: &mut Values<'_>) -> Result<Vec<(String, String)>, Mismatch> {
    let tags = values.tags("compute", "host_tags")?;
    if tags.len() > HOST_TAGS_MAX {
        let message = format!(
            "found {} tags, expected {HOST_TAGS_MAX} at most",
            tags.len()
        );
        values.report(Severity::Error, "compute", "host_tags", message);
    }
    for (key, _) in &tags {
        if RESERVED_TAGS.contains(&key.as_str()) {
            let message = format!(
                "found the key {key:?}, expected another: the agent fills {} by itself, the \
                 cluster from [compute] cluster",
                RESERVED_TAGS.join(", ")
            );
            values.report(Severity::Error, "compute", "host_tags", message);
        }
    }
    Ok(tags)
}

fn libvirt(values: &Values<'_>) -> Result<LibvirtSettings, Mismatch> {
    let chosen = optional(values.text("compute", "libvirt_uri")?);
    let usual = match values.text("compute", "libvirt_type")?.as_str() {
        "lxc" => "lxc:///",
        "xen" => "xen:///",
        "uml" => "uml:///system",
        "parallels" => "parallels:///system",
        _ => "qemu:///system",
    };
    Ok(LibvirtSettings {
        is_chosen: chosen.is_some(),
        uri: chosen.unwrap_or_else(|| usual.to_owned()),
        timeout: values.seconds("compute", "libvirt_timeout")?,
    })
}

fn plugins(values: &mut Values<'_>) -> Result<PluginSettings, Mismatch> {
    let pollsters = values.plugins("plugins", "pollster")?;
    if pollsters.len() > PLUGINS_MAX {
        let message = format!(
            "found {} plug-ins, expected {PLUGINS_MAX} at most",
            pollsters.len()
        );
        values.report(Severity::Error, "plugins", "pollster", message);
    }
    let user = values.text("plugins", "user")?;
    if user.is_empty() || matches!(user.as_str(), "root" | "0") {
        let message = format!("found {user:?}, expected a user without privileges");
        values.report(Severity::Error, "plugins", "user", message);
    }
    let mebibytes: u64 = narrow(values, "plugins", "memory_max")?;
    let kibibytes: usize = narrow(values, "plugins", "output_max")?;
    Ok(PluginSettings {
        pollsters,
        timeout: values.seconds("plugins", "timeout")?,
        memory_bytes: mebibytes.saturating_mul(1 << 20),
        output_bytes: kibibytes.saturating_mul(1 << 10),
        user,
    })
}

fn collector(values: &mut Values<'_>) -> Result<CollectorSettings, Mismatch> {
    let batch_timeout = values.seconds("collector", "batch_timeout")?;
    if batch_timeout > BATCH_TIMEOUT_CALM {
        let message = format!(
            "found {} s, better {} s or less: what waits is lost if the collector dies",
            batch_timeout.as_secs_f64(),
            BATCH_TIMEOUT_CALM.as_secs_f64()
        );
        values.report(Severity::Warning, "collector", "batch_timeout", message);
    }
    Ok(CollectorSettings {
        udp_address: values.address("collector", "udp_address")?,
        udp_port: narrow(values, "collector", "udp_port")?,
        batch_size: narrow(values, "collector", "batch_size")?,
        batch_timeout,
        topics: topics(values)?,
        prefetch: narrow(values, "collector", "prefetch")?,
        trust: trust(values)?,
        http_listen: values.listen("collector", "http_listen")?,
    })
}

fn trust(values: &mut Values<'_>) -> Result<TrustSettings, Mismatch> {
    let group = "collector";
    let host_keys_file = values.file(group, "host_keys_file")?;
    let require_proof = values.truth(group, "require_proof")?;
    if require_proof && host_keys_file.is_none() {
        let message = "found a demand for proofs and no keys to check them by, expected [collector] \
                       host_keys_file as well";
        values.report(Severity::Error, group, "require_proof", message);
    }
    let tolerance = values.seconds(group, "clock_tolerance")?;
    Ok(TrustSettings {
        host_keys_file,
        require_proof,
        observers: values.words(group, "observers")?,
        accept_paths: values.words(group, "accept_paths")?,
        clock_tolerance: Some(tolerance).filter(|tolerance| !tolerance.is_zero()),
    })
}

/// The topics to consume, if the configuration says where the broker is.
fn topics(values: &Values<'_>) -> Result<Vec<String>, Mismatch> {
    let is_wanted = match values.text("collector", "notifier")?.as_str() {
        "yes" => true,
        "no" => false,
        _ => broker::is_chosen(values),
    };
    let mut topics = values.words("collector", "topics")?;
    topics.dedup();
    Ok(if is_wanted { topics } else { Vec::new() })
}

fn database(values: &mut Values<'_>) -> Result<DatabaseSettings, Mismatch> {
    let seconds = values.int("database", "metering_time_to_live")?;
    let retention = u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs);
    if let Some(kept) = retention.filter(|kept| *kept < RETENTION_CALM) {
        let message = format!(
            "found {} s, better {} s or more: a decider that looks back over 240 s would find a part \
             of its readings deleted already, and might take that for silence",
            kept.as_secs(),
            RETENTION_CALM.as_secs()
        );
        values.report(
            Severity::Warning,
            "database",
            "metering_time_to_live",
            message,
        );
    }
    Ok(DatabaseSettings {
        connection: values.secret("database", "connection")?,
        retention,
    })
}

fn telemetry_secret(values: &mut Values<'_>) -> Result<Option<Secret>, Mismatch> {
    let option = "telemetry_secret";
    let secret = values.secret("publisher", option)?;
    let count = secret.expose().chars().count();
    if let Some(weakness) = weakness(&secret).filter(|_| values.is_set("publisher", option)) {
        let is_allowed = values.truth("publisher", "allow_weak_secret")?;
        let (severity, way_out) = match is_allowed {
            true => (Severity::Warning, ""),
            false => (Severity::Error, ", or set allow_weak_secret = true"),
        };
        let message = format!("found {weakness}; make one with `openssl rand -hex 24`{way_out}");
        values.report(severity, "publisher", option, message);
    } else if !secret.is_empty() && count < SECRET_CHARS_MIN {
        let message = format!(
            "found a secret of {count} characters, better {SECRET_CHARS_MIN} or more, as from \
             `openssl rand -hex 24`"
        );
        values.report(Severity::Warning, "publisher", option, message);
    }
    Ok(Some(secret).filter(|secret| !secret.is_empty()))
}

/// Why a secret is none; None if it may be one.
fn weakness(secret: &Secret) -> Option<&'static str> {
    let digest = Sha256::digest(secret.expose());
    if secret.is_empty() {
        Some(
            "nothing, and this host would sign with a secret of its own as if the option weren't there",
        )
    } else if secret.expose() == WELL_KNOWN_SECRET {
        Some("Ceilometer's default, which everybody knows")
    } else if PUBLISHED_SECRETS.contains(&digest.into()) {
        Some("a secret that was published with a configuration, which anybody may know")
    } else {
        None
    }
}

/// A whole number as the narrower type that its range in the table fits into.
fn narrow<T: TryFrom<i64>>(
    values: &Values<'_>,
    group: &'static str,
    name: &'static str,
) -> Result<T, Mismatch> {
    T::try_from(values.int(group, name)?).map_err(|_| Mismatch::new(group, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_needs_so_many() {
        for (quorum, needed) in [
            (Quorum::Any, [1, 1, 1, 1, 1]),
            (Quorum::Majority, [1, 1, 2, 2, 3]),
            (Quorum::All, [1, 1, 2, 3, 4]),
            (Quorum::AtLeast(2), [2, 2, 2, 2, 2]),
        ] {
            for (n, needed) in needed.into_iter().enumerate() {
                assert_eq!(quorum.needed(n), needed, "{quorum:?} of {n}");
            }
        }
    }

    #[test]
    fn the_timeout_fits_into_the_interval() {
        let settings = |count, spacing, timeout| ComputeSettings {
            gateways: vec![],
            ping_count: count,
            accepted_loss: 0.5,
            ping_interval: Duration::from_millis(spacing),
            ping_timeout: Duration::from_millis(timeout),
            quorum: Quorum::Any,
            storage_interface: None,
            storage_source_addresses: vec![],
            cluster: None,
            host_tags: vec![],
        };
        for (interval, count, spacing, timeout, expected) in [
            (1000, 4, 100, 500, 500),
            (1000, 4, 100, 1000, 700),
            (1000, 4, 300, 1000, 200),
            (1000, 4, 250, 1000, 250),
            (30_000, 4, 100, 500, 500),
            (1000, 1, 100, 5000, 1000),
            (100, 4, 100, 500, 200),
            (1000, u16::MAX, 10_000, 500, 200),
        ] {
            assert_eq!(
                effective_timeout(
                    Duration::from_millis(interval),
                    &settings(count, spacing, timeout)
                ),
                Duration::from_millis(expected),
                "{interval} {count} {spacing} {timeout}"
            );
        }
    }
}
