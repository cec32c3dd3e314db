//! A compute node, its storage gateways and a controller, each in a network namespace of its own.
//!
//! ```text
//!            storage network 10.77.1.0/24, fd77:1::/64 (a bridge in `switch`)
//!   node st0 .2 ───────┬──────── .11 gw1
//!                      ├──────── .12 gw2
//!                      └──────── .254 controller st0
//!            management network 10.77.2.0/24, fd77:2::/64
//!   node mg0 .2 ──────────────── .1 controller mg0 (routes to the storage network)
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use super::process::Process;
use super::{program, query, run, run_unchecked, status, volumes, wait_for, wait_until};

/// IPv4 or IPv6 gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn gateways(self) -> [&'static str; 2] {
        match self {
            Family::V4 => ["10.77.1.11", "10.77.1.12"],
            Family::V6 => ["fd77:1::11", "fd77:1::12"],
        }
    }

    /// The `ip` option for the family.
    pub fn flag(self) -> &'static str {
        match self {
            Family::V4 => "-4",
            Family::V6 => "-6",
        }
    }

    pub fn iptables(self) -> &'static str {
        match self {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        }
    }

    pub fn icmp(self) -> &'static str {
        match self {
            Family::V4 => "icmp",
            Family::V6 => "ipv6-icmp",
        }
    }

    pub fn echo_request(self) -> &'static str {
        match self {
            Family::V4 => "--icmp-type=echo-request",
            Family::V6 => "--icmpv6-type=echo-request",
        }
    }

    pub fn storage_network(self) -> &'static str {
        match self {
            Family::V4 => "10.77.1.0/24",
            Family::V6 => "fd77:1::/64",
        }
    }

    pub fn controller_on_storage(self) -> &'static str {
        match self {
            Family::V4 => "10.77.1.254",
            Family::V6 => "fd77:1::254",
        }
    }

    pub fn node_on_management(self) -> &'static str {
        match self {
            Family::V4 => "10.77.2.2",
            Family::V6 => "fd77:2::2",
        }
    }

    /// The node's address on the storage network, and how many bits an address has.
    pub fn node_on_storage(self) -> (&'static str, u8) {
        match self {
            Family::V4 => ("10.77.1.2", 32),
            Family::V6 => ("fd77:1::2", 128),
        }
    }

    pub fn controller_mgmt(self) -> &'static str {
        match self {
            Family::V4 => "10.77.2.1",
            Family::V6 => "fd77:2::1",
        }
    }
}

/// The secret that agent and collector of a lab share.
pub const SECRET: &str = "lab-secret-of-no-value";
/// The host name of the node.
pub const HOST: &str = "node-1";

static LABS: AtomicU32 = AtomicU32::new(0);

/// The networks, and the files of the programs that run in them.
pub struct Lab {
    name: String,
    namespaces: Vec<String>,
    pub folder: TempDir,
}

/// What a test may want different about the agent.
#[derive(Clone)]
pub struct AgentConfig {
    pub gateways: Vec<String>,
    pub interval: &'static str,
    /// Further lines of `[compute]`.
    pub compute: String,
    pub publishers: Vec<String>,
    pub meters: &'static str,
}

impl AgentConfig {
    pub fn new(gateways: &[&str]) -> Self {
        AgentConfig {
            gateways: gateways
                .iter()
                .map(|gateway| (*gateway).to_owned())
                .collect(),
            interval: "1",
            compute: String::new(),
            publishers: vec!["udp://10.77.2.1:4953".to_owned()],
            meters: "[storage_connectivity, storage_gateway.*, compute.heartbeat]",
        }
    }

    pub fn compute(mut self, lines: &str) -> Self {
        self.compute = lines.to_owned();
        self
    }
}

impl Default for Lab {
    fn default() -> Self {
        Lab::new()
    }
}

impl Lab {
    /// Builds the networks.
    pub fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make network namespaces and need root"
        );
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let mut lab = Lab {
            name: format!("ha{}-{number}", std::process::id()),
            namespaces: Vec::new(),
            folder: tempfile::tempdir().expect("make a folder"),
        };
        for namespace in ["switch", "node", "gw1", "gw2", "ctl"] {
            lab.add(namespace);
        }
        lab.inside(
            "switch",
            "ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up",
        );
        lab.plug("node", "st0", "2");
        lab.plug("gw1", "st0", "11");
        lab.plug("gw2", "st0", "12");
        lab.plug("ctl", "st0", "254");
        lab.link_management();
        lab
    }

    /// Runs a shell line inside a namespace.
    #[track_caller]
    pub fn inside(&self, namespace: &str, line: &str) -> String {
        run(Command::new("ip").args(["netns", "exec", &self.full(namespace), "sh", "-ec", line]))
    }

    /// Whether a shell line inside a namespace succeeds.
    pub fn succeeds(&self, namespace: &str, line: &str) -> bool {
        let mut command = Command::new("ip");
        run_unchecked(command.args(["netns", "exec", &self.full(namespace), "sh", "-ec", line]))
            .status
            .success()
    }

    /// A command that will run inside a namespace, in place of `ip` itself.
    pub fn command(&self, namespace: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.full(namespace)])
            .arg(program);
        command
    }

    fn full(&self, namespace: &str) -> String {
        format!("{}-{namespace}", self.name)
    }

    fn add(&mut self, namespace: &str) {
        let full = self.full(namespace);
        run(Command::new("ip").args(["netns", "add", &full]));
        self.namespaces.push(full);
        self.inside(namespace, "ip link set lo up");
        // Neighbour entries are checked as fast as a test wants to see the answer.
        self.inside(namespace, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0");
    }

    /// Connects a namespace to the storage network; the switch's end is called after it.
    fn plug(&self, namespace: &str, interface: &str, last: &str) {
        let (at, switch) = (self.full(namespace), self.full("switch"));
        run(Command::new("ip").args([
            "link", "add", interface, "netns", &at, "type", "veth", "peer", "name", namespace,
            "netns", &switch,
        ]));
        self.inside("switch", &format!("ip link set {namespace} master br0 up"));
        self.inside(namespace, &format!("ip addr add 10.77.1.{last}/24 dev {interface}; ip addr add fd77:1::{last}/64 dev {interface} nodad; ip link set {interface} up"));
        if namespace.starts_with("gw") {
            self.inside(namespace, "ip route add 10.77.2.0/24 via 10.77.1.254; ip -6 route add fd77:2::/64 via fd77:1::254");
        }
    }

    fn link_management(&self) {
        let (node, ctl) = (self.full("node"), self.full("ctl"));
        run(Command::new("ip").args([
            "link", "add", "mg0", "netns", &node, "type", "veth", "peer", "name", "mg0", "netns",
            &ctl,
        ]));
        self.inside("node", "ip addr add 10.77.2.2/24 dev mg0; ip addr add fd77:2::2/64 dev mg0 nodad; ip link set mg0 up");
        self.inside("ctl", "ip addr add 10.77.2.1/24 dev mg0; ip addr add fd77:2::1/64 dev mg0 nodad; ip link set mg0 up");
    }

    /// Gives the node a default route over management, by which the gateways can be reached too.
    pub fn default_route_over_management(&self) {
        self.inside(
            "node",
            "ip route add default via 10.77.2.1; ip -6 route add default via fd77:2::1",
        );
    }

    /// A gateway that stops answering.
    pub fn silence(&self, gateway: &str, silent: bool) {
        let value = u8::from(silent);
        self.inside(gateway, &format!("sysctl -qw net.ipv4.icmp_echo_ignore_all={value} net.ipv6.icmp.echo_ignore_all={value}"));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn database(&self) -> PathBuf {
        self.path("collector/ceilometer_ha.sqlite")
    }

    /// A folder whose files stand in the place of those in /etc inside the namespace.
    pub fn private_etc(&self, namespace: &str) -> PathBuf {
        let folder = Path::new("/etc/netns").join(self.full(namespace));
        fs::create_dir_all(&folder).expect("make a folder");
        folder
    }

    /// Writes the collector's file and starts it on the controller.
    pub fn collector(&self) -> Process {
        let config = self.collector_config();
        let mut command = self.command("ctl", &program("ceilometer-collector-ha"));
        let process = Process::start(
            command.arg("--config-file").arg(&config),
            &self.path("collector.log"),
        );
        wait_for("the collector to listen", || {
            process.log().contains("listening for UDP").then_some(())
        });
        process
    }

    pub fn collector_config(&self) -> PathBuf {
        let config = self.path("collector.conf");
        let state = self.path("collector");
        fs::create_dir_all(&state).expect("make a folder");
        let text = format!(
            "[DEFAULT]\nhost = controller\nstate_path = {}\n[collector]\nudp_address = ::\nclock_tolerance = 7200\n[publisher]\ntelemetry_secret = {SECRET}\n",
            state.display()
        );
        fs::write(&config, text).expect("write a file");
        config
    }

    /// Writes the agent's files.
    pub fn agent_config(&self, wanted: &AgentConfig) -> PathBuf {
        let (config, pipeline) = (self.path("agent.conf"), self.path("pipeline_ha.yaml"));
        let publishers: String = wanted
            .publishers
            .iter()
            .map(|url| format!("          - {url}\n"))
            .collect();
        fs::write(
            &pipeline,
            format!(
                "sources:\n    - name: ha_source\n      interval: {}\n      meters: {}\n      sinks: [ha_sink]\nsinks:\n    - name: ha_sink\n      transformers:\n      publishers:\n{publishers}",
                wanted.interval, wanted.meters
            ),
        )
        .expect("write a file");
        fs::write(
            &config,
            format!(
                "[DEFAULT]\nhost = {HOST}\npolling_namespaces = compute\nstate_path = {}\n[compute]\nstorage_server_address = {}\n{}\n[publisher]\ntelemetry_secret = {SECRET}\n",
                self.path("agent").display(),
                wanted.gateways.join(", "),
                wanted.compute
            ),
        )
        .expect("write a file");
        config
    }

    /// Starts the agent on the node.
    pub fn agent(&self, wanted: &AgentConfig) -> Process {
        let config = self.agent_config(wanted);
        let mut command = self.command("node", &program("ceilometer-polling-ha"));
        Process::start(
            command.arg("--config-file").arg(config),
            &self.path("agent.log"),
        )
    }

    /// The node as `compute-ha status` shows it.
    pub fn node(&self) -> Option<Value> {
        let fleet = status(&self.path("collector.conf"))?;
        fleet["hosts"]
            .as_array()?
            .iter()
            .find(|host| host["host"] == HOST)
            .cloned()
    }

    /// Waits until the node looks like this.
    #[track_caller]
    pub fn wait_for_node(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        wait_until(what, || match self.node() {
            Some(node) if is(&node) => Ok(node),
            other => Err(format!("the node is {other:#?}")),
        })
    }

    /// Waits until so many heartbeats more are in the history, so that "nothing happened" has had
    /// the time to happen.
    #[track_caller]
    pub fn wait_for_rounds(&self, more: usize) {
        let before = volumes(&self.database(), "compute.heartbeat").len();
        wait_for("further heartbeats", || {
            (volumes(&self.database(), "compute.heartbeat").len() >= before + more).then_some(())
        });
    }

    /// The reasons of all `pollster.failed` so far, by what failed.
    pub fn failures(&self) -> Vec<(String, String)> {
        let sql = "SELECT DISTINCT r.resource_id AS resource, t.value AS reason FROM sample s JOIN meter m ON m.id = s.meter_id JOIN resource r ON r.internal_id = s.resource_id JOIN metadata_text t ON t.id = r.internal_id AND t.meta_key = 'reason' WHERE m.name = 'pollster.failed'";
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        query(&self.database(), sql)
            .iter()
            .map(|row| (text(&row["resource"]), text(&row["reason"])))
            .collect()
    }

    pub fn verdicts(&self) -> Vec<f64> {
        volumes(&self.database(), "storage_connectivity")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            // A namespace that is already gone is as good as deleted.
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .output();
        }
    }
}

/// The storage verdict of a node's view.
pub fn verdict(node: &Value) -> &str {
    node["storage"]["verdict"].as_str().unwrap_or("")
}

/// One gateway in a node's view; null if it isn't there.
pub fn gateway<'a>(node: &'a Value, address: &str) -> &'a Value {
    let gateways = node["gateways"].as_array();
    let found = gateways.and_then(|gateways| gateways.iter().find(|one| one["address"] == address));
    found.unwrap_or(&Value::Null)
}

/// The status of one gateway in a node's view, if it is about now.
pub fn gateway_status<'a>(node: &'a Value, address: &str) -> &'a str {
    let one = gateway(node, address);
    if one["stale"] == true {
        "stale"
    } else {
        one["status"]["name"].as_str().unwrap_or("")
    }
}
