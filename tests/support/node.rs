//! The agent of a compute node with a libvirt of its own, as its readings reach the database.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;

use ceilometer_ha::model::FailReason;

use super::process::Process;
use super::site::{Daemon, HOST, SECRET, Site};
use super::{program, query, wait_until};

/// What every node looks at each second, none of which may wait for libvirt.
pub const FAST: [&str; 2] = ["storage_connectivity", "heartbeat"];
const INSTANCES: &str = "instance, instance.state, instance.round, power.state";
/// An ordinary user of this machine that owns nothing.
const NOBODY: u32 = 65534;
/// An hour: what is seen of such a source but its first round was asked for by something else.
pub const HOUR: f64 = 3600.0;

/// A collector, and an agent with this libvirt.
pub struct Node {
    pub site: Site,
    uri: String,
    /// Seconds.
    timeout: f64,
    sources: String,
    _collector: Process,
}

impl Node {
    /// Starts the collector; the agent looks at libvirt itself every half second, and at the
    /// instances at this interval.
    pub fn new(uri: &str, timeout: f64, instances: f64) -> Self {
        let site = Site::new();
        let node = Node {
            _collector: site.collector(),
            site,
            uri: uri.to_owned(),
            timeout,
            sources: String::new(),
        };
        node.source("fast", 1.0, "storage_connectivity, compute.heartbeat")
            .source("hypervisor", 0.5, "hypervisor.connectivity")
            .source("instances", instances, INSTANCES)
    }

    /// Adds a source.
    pub fn source(mut self, name: &str, interval: f64, meters: &str) -> Self {
        self.sources += &format!(
            "    - {{name: {name}, interval: {interval}, meters: [{meters}], sinks: [ha_sink]}}\n"
        );
        self
    }

    /// Starts the agent and waits until it is there.
    pub fn agent(&self) -> Process {
        self.begin(Command::new(program("ceilometer-polling-ha")))
    }

    /// The same as a user without any rights but to ping, and to find its own program and files.
    pub fn agent_of_nobody(&self) -> Process {
        let state = self.site.path("agent");
        fs::create_dir_all(&state).expect("make a folder");
        chown(&state, Some(NOBODY), Some(NOBODY)).expect("give a folder away");
        let (user, rights) = (NOBODY.to_string(), "+net_raw,+dac_read_search");
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
            .args(["--inh-caps", rights, "--ambient-caps", rights])
            .arg(program("ceilometer-polling-ha"));
        self.begin(command)
    }

    fn begin(&self, mut command: Command) -> Process {
        let listen = self.site.environment();
        let ours = listen
            .into_iter()
            .filter(|(name, _)| name.contains("AGENT"));
        command.arg("--config-file").arg(self.files()).envs(ours);
        let agent = Process::start(&mut command, &self.site.path("agent.log"));
        self.site.wait_for_health(Daemon::Agent);
        agent
    }

    fn files(&self) -> PathBuf {
        let config = self.site.path("agent.conf");
        let pipeline = format!(
            "sources:\n{}sinks:\n    - {{name: ha_sink, publishers: ['{}']}}\n",
            self.sources,
            self.site.url()
        );
        fs::write(self.site.path("pipeline_ha.yaml"), pipeline).expect("write a file");
        let text = format!(
            "[DEFAULT]\nhost = {HOST}\nstate_path = {}\n[compute]\nstorage_server_address = 127.0.0.1, 127.0.0.2\nping_interval = 0.05\nlibvirt_uri = {}\nlibvirt_timeout = {}\n[publisher]\ntelemetry_secret = {SECRET}\nallow_weak_secret = true\n",
            self.site.path("agent").display(),
            self.uri,
            self.timeout,
        );
        fs::write(&config, text).expect("write a file");
        config
    }

    // --- what is stored

    /// The current value of a meter of this resource.
    pub fn state(&self, meter: &str, resource: &str) -> Option<f64> {
        let sql = format!(
            "SELECT volume FROM ha_state WHERE observer = '{HOST}' AND meter = '{meter}' AND resource_id = '{resource}'"
        );
        let rows = query(&self.site.database(), &sql);
        rows.first()?["volume"].as_f64()
    }

    /// All values of a meter of this resource, in order.
    pub fn history(&self, meter: &str, resource: &str) -> Vec<f64> {
        let sql = format!(
            "SELECT s.volume FROM sample s JOIN meter m ON m.id = s.meter_id JOIN resource r ON r.internal_id = s.resource_id WHERE m.name = '{meter}' AND r.resource_id = '{resource}' ORDER BY s.timestamp, s.id"
        );
        let rows = query(&self.site.database(), &sql);
        let volumes = rows.iter().map(|row| row["volume"].as_f64());
        volumes.map(|volume| volume.expect("a number")).collect()
    }

    /// How many values of a meter each resource has.
    pub fn counts(&self, meter: &str) -> BTreeMap<String, usize> {
        let sql = format!(
            "SELECT r.resource_id AS id, count(*) AS n FROM sample s JOIN meter m ON m.id = s.meter_id JOIN resource r ON r.internal_id = s.resource_id WHERE m.name = '{meter}' GROUP BY 1"
        );
        let rows = query(&self.site.database(), &sql);
        let counts = rows.iter().map(|row| {
            let id = row["id"].as_str().expect("a text").to_owned();
            let count = row["n"].as_u64().expect("a number");
            (id, usize::try_from(count).expect("not so many"))
        });
        counts.collect()
    }

    /// Whether libvirt answered, each time it was asked.
    pub fn connectivity(&self) -> Vec<f64> {
        self.history("hypervisor.connectivity", HOST)
    }

    /// How many instances each complete round saw.
    pub fn rounds(&self) -> Vec<f64> {
        self.history("instance.round", HOST)
    }

    /// The codes with which this failed; nothing else of ours is called so.
    pub fn failures(&self, name: &str) -> Vec<f64> {
        self.history("pollster.failed", &format!("{HOST}/{name}"))
    }

    /// Waits until the whole history of a meter satisfies this, and returns it.
    #[track_caller]
    pub fn wait_for_history(
        &self,
        meter: &str,
        resource: &str,
        is: impl Fn(&[f64]) -> bool,
    ) -> Vec<f64> {
        wait_until(meter, || match self.history(meter, resource) {
            history if is(&history) => Ok(history),
            history => Err(format!("{meter} of {resource}: {history:?}")),
        })
    }

    /// Waits until so many more values of a meter are stored than now, and returns all of them.
    #[track_caller]
    pub fn wait_for_more(&self, meter: &str, resource: &str, more: usize) -> Vec<f64> {
        let before = self.history(meter, resource).len();
        self.wait_for_history(meter, resource, |history| history.len() >= before + more)
    }

    /// Waits until the last word about libvirt is this one.
    #[track_caller]
    pub fn wait_for_connectivity(&self, volume: f64) {
        self.wait_for_history("hypervisor.connectivity", HOST, |history| {
            history.last() == Some(&volume)
        });
    }

    /// Waits until so many complete rounds are stored, and returns what they counted.
    #[track_caller]
    pub fn wait_for_rounds(&self, rounds: usize) -> Vec<f64> {
        self.wait_for_history("instance.round", HOST, |history| history.len() >= rounds)
    }

    /// Waits until this failed for so many times, each time for this reason.
    #[track_caller]
    pub fn wait_for_failures(&self, name: &str, reason: FailReason, count: usize) {
        let history =
            self.wait_for_history("pollster.failed", &format!("{HOST}/{name}"), |history| {
                history.len() >= count
            });
        let code = code(reason);
        assert!(
            history.iter().all(|volume| *volume == code),
            "{name} failed with {history:?} and not with {code} alone"
        );
    }

    /// Storage and heartbeat go on from here as if nothing was: none of their rounds was missed so
    /// far, and none said anything but that the storage is there.
    #[track_caller]
    pub fn assert_nobody_else_suffers(&self) {
        self.wait_for_more("compute.heartbeat", HOST, 2);
        let storage = self.wait_for_more("storage_connectivity", HOST, 2);
        assert!(storage.iter().all(|volume| *volume == 1.0), "{storage:?}");
        for pollster in FAST {
            let missed = self.missed("fast", pollster);
            assert_eq!(missed, 0, "missed rounds of {pollster}");
            assert_eq!(self.failures(pollster), [0.0; 0], "{pollster}");
        }
    }

    /// Rounds of a source's pollster that were missed.
    #[track_caller]
    pub fn missed(&self, source: &str, pollster: &str) -> u64 {
        let labels = format!("{{pollster=\"{pollster}\",source=\"{source}\"}}");
        let series = format!("rounds_missed_total{labels}");
        self.site.metric(Daemon::Agent, &series)
    }

    /// Ends the agent as an operator does, and waits until everything that it numbered is stored.
    #[track_caller]
    pub fn end(&self, agent: Process) {
        let status = agent.terminate();
        assert!(status.success(), "the agent ended with {status}");
        let sql = "SELECT max(seq) AS last, (SELECT count(*) FROM sample) AS stored FROM ha_state";
        wait_until("every reading to be stored", || {
            let row = query(&self.site.database(), sql).remove(0);
            let complete = row["last"] == row["stored"];
            complete.then_some(()).ok_or_else(|| row.to_string())
        });
    }
}

/// The volume of a `pollster.failed`.
pub fn code(reason: FailReason) -> f64 {
    f64::from(i32::try_from(reason.code()).expect("a small number"))
}

/// The threads of a process.
pub fn threads(process: &Process) -> usize {
    entries(process, "task")
}

/// The open descriptors of a process.
pub fn descriptors(process: &Process) -> usize {
    entries(process, "fd")
}

fn entries(process: &Process, folder: &str) -> usize {
    let path = format!("/proc/{}/{folder}", process.pid());
    fs::read_dir(path).expect("a running process").count()
}
