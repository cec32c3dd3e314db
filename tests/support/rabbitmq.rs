//! A RabbitMQ of the test's own: on data that go with it, on loopback ports, with a name server of its own,
//! started, stopped, killed and started again.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::process::Process;
use super::{run, wait_until, wait_within};

/// The virtual host in it that is ours.
pub const VHOST: &str = "ha";
/// Who may use it.
pub const USER: &str = "ceilometer";
/// The user's password, with characters that a URL has to hide.
pub const PASSWORD: &str = "p@ss:w/rd";
const PASSWORD_IN_URL: &str = "p%40ss%3Aw%2Frd";

/// Options for `start_tls_with`: only a client that shows a certificate of our CA gets in.
pub const PROVE_CLIENTS: [(&str, &str); 2] = [
    ("ssl_options.verify", "verify_peer"),
    ("ssl_options.fail_if_no_peer_cert", "true"),
];

/// Debian's programs behind the wrappers that insist on the user `rabbitmq` and its folders.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";
/// Few threads, no name server but ours, and nothing that listens to the world. The threads spin for a moment
/// before they sleep: without it a start, which is all small reads, takes nearly twice as long.
const ERLANG: &str = "+S 2:2 +SDcpu 1:1 +SDio 2 +A 1 +sbwt short +sbwtdcpu none +sbwtdio short \
                      -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}";
/// How much memory it may use before it blocks publishers, unless a test says otherwise.
const MEMORY: &str = "\"1GB\"";
/// What a client says first: AMQP 0-9-1.
const HELLO: &[u8] = b"AMQP\x00\x00\x09\x01";
/// The longest that one look at a server may take.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// How long a start may take: it is some six seconds of computing, on a machine that may have others to
/// do as well.
const START_LIMIT: Duration = Duration::from_secs(100);

/// A server, running or not. Its processes and files go when the test ends.
// They go in this order: the server before the names, and its files last.
pub struct Server {
    server: Option<Process>,
    _names: Process,
    ports: Ports,
    tls: Option<Tls>,
    folder: PathBuf,
    _own: tempfile::TempDir,
}

/// Where it listens.
#[derive(Clone, Copy)]
struct Ports {
    amqp: u16,
    tls: u16,
    erlang: u16,
    names: u16,
}

/// Where it listens with TLS, and the files of those that talk to it.
#[derive(Clone)]
pub struct Tls {
    pub port: u16,
    /// The CA of the server's certificate, which is for `localhost` and 127.0.0.1, and of the client's.
    pub ca: PathBuf,
    pub client_certificate: PathBuf,
    pub client_key: PathBuf,
    /// A CA that has nothing to do with it, and a client's certificate by that one.
    pub other_ca: PathBuf,
    pub other_certificate: PathBuf,
    pub other_key: PathBuf,
}

impl Server {
    /// Starts one with an empty virtual host.
    pub fn start() -> Self {
        Server::start_with(&[])
    }

    /// The same with further lines of rabbitmq.conf, which win over those that are there already.
    pub fn start_with(options: &[(&str, &str)]) -> Self {
        Server::start_as(options, false)
    }

    /// The same, listening on a second port with TLS; clients needn't show a certificate.
    pub fn start_tls() -> Self {
        Server::start_tls_with(&[])
    }

    /// The same with further lines of rabbitmq.conf, such as [`PROVE_CLIENTS`].
    pub fn start_tls_with(options: &[(&str, &str)]) -> Self {
        Server::start_as(options, true)
    }

    fn start_as(options: &[(&str, &str)], has_tls: bool) -> Self {
        let own = tempfile::tempdir().expect("make a folder");
        let folder = own.path().to_owned();
        let ports = free_ports();
        let tls = has_tls.then(|| make_certificates(&folder, ports.tls));
        write_files(&folder, ports, tls.as_ref(), options);
        let mut server = Server {
            server: None,
            _names: start_names(&folder, ports.names),
            ports,
            tls,
            folder,
            _own: own,
        };
        server.start_again();
        server
    }

    /// Starts it on the data that it left, and waits until it answers.
    pub fn start_again(&mut self) {
        assert!(self.server.is_none(), "it runs");
        let mut command = self.command("rabbitmq-server");
        let log = self.folder.join("log");
        self.server = Some(Process::start(&mut command, &log));
        self.wait_until_it_serves();
    }

    /// Its port of AMQP without TLS.
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// Where it listens with TLS.
    pub fn tls(&self) -> &Tls {
        self.tls.as_ref().expect("it was started with TLS")
    }

    /// It as `transport_url` names it.
    pub fn url(&self) -> String {
        url_on(self.ports.amqp)
    }

    /// Its port with TLS as `transport_url` names it.
    pub fn tls_url(&self) -> String {
        url_on(self.tls().port)
    }

    /// The pid of its Erlang machine, which is the whole server.
    pub fn pid(&self) -> u32 {
        self.running().pid()
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Ends it in good order.
    pub fn stop(&mut self) -> ExitStatus {
        self.server.take().expect("it runs").terminate()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.server.take().expect("it runs").kill();
    }

    /// Sends it a signal, such as SIGSTOP.
    pub fn signal(&self, signal: Signal) {
        self.running().signal(signal);
    }

    /// Stops serving as `rabbitmqctl stop_app` does: the ports are closed, the Erlang machine stays.
    pub fn stop_app(&self) {
        self.eval("rabbit:stop()");
    }

    /// Serves again after `stop_app`, and waits until it answers.
    pub fn start_app(&mut self) {
        self.eval("rabbit:start()");
        self.wait_until_it_serves();
    }

    /// How many messages a queue holds, delivered but unacknowledged ones with them; None where there is no such queue.
    #[track_caller]
    pub fn queue_length(&self, queue: &str) -> Option<u64> {
        let text = self.with_queue(queue, "[{_, N}] = rabbit_amqqueue:info(Q, [messages]), N");
        (text != "none").then(|| number(&text))
    }

    /// Deletes a queue with all that it holds; whether there was one.
    #[track_caller]
    pub fn delete_queue(&self, queue: &str) -> bool {
        let delete = "{ok, _} = rabbit_amqqueue:delete(Q, false, false, <<\"test\">>), deleted";
        self.with_queue(queue, delete) == "deleted"
    }

    /// Raises its alarm for lack of memory, at which it stops reading from those who publish, or takes it back.
    #[track_caller]
    pub fn memory_alarm(&self, is_on: bool) {
        let limit = if is_on { "1" } else { MEMORY };
        self.eval(&format!(
            "vm_memory_monitor:set_vm_memory_high_watermark({{absolute, {limit}}})"
        ));
        wait_until("the memory alarm", || {
            let alarms = self.eval("rabbit_alarm:get_alarms()");
            let is_raised = alarms.contains("memory");
            if is_raised == is_on {
                Ok(())
            } else {
                Err(alarms)
            }
        });
    }

    /// How many clients are connected, those that are still logging in with them.
    #[track_caller]
    pub fn connections(&self) -> u64 {
        number(&self.eval("length(rabbit_networking:connections())"))
    }

    /// Closes every client's connection in AMQP's good order (320, CONNECTION_FORCED), as an operator can.
    #[track_caller]
    pub fn close_connections(&self) {
        self.eval("rabbit_networking:close_all_connections(\"the test says so\")");
    }

    /// Evaluates an Erlang expression in the server and returns what it yields, as Erlang writes it. This takes
    /// milliseconds, for it starts no Erlang machine as `ctl` does.
    #[track_caller]
    pub fn eval(&self, expression: &str) -> String {
        let output = self.call(&format!("begin {expression} end.\n"));
        let said = String::from_utf8_lossy(&output.stdout);
        let yielded = said.trim().strip_prefix("{ok, ");
        let yielded = yielded.and_then(|rest| rest.strip_suffix('}'));
        let errors = String::from_utf8_lossy(&output.stderr);
        let Some(yielded) = yielded.filter(|_| output.status.success()) else {
            panic!("{expression}: {said}{errors}\n{}", self.log());
        };
        yielded.to_owned()
    }

    /// Runs rabbitmqctl, for what the others don't do: it takes seconds.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = self.command("rabbitmqctl");
        command.args(["--quiet", "--timeout", "20"]);
        run(command.args(arguments))
    }

    /// Evaluates an expression with a queue as `Q`; "none" where there is no such queue.
    #[track_caller]
    fn with_queue(&self, queue: &str, expression: &str) -> String {
        let name = queue.replace('\\', "\\\\").replace('"', "\\\"");
        self.eval(&format!(
            "case rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{VHOST}\">>, queue, <<\"{name}\"/utf8>>)) of \
             {{ok, Q}} -> {expression}; {{error, not_found}} -> none end"
        ))
    }

    fn call(&self, code: &str) -> Output {
        let mut command = Command::new("erl_call");
        command
            .env("HOME", &self.folder)
            .arg("-address")
            .arg(format!("localhost:{}", self.ports.erlang))
            // A name that the server makes up, so that two calls at once are two.
            .args(["-R", "-timeout", "20", "-e"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("run erl_call");
        let mut input = child.stdin.take().expect("a pipe");
        // Whoever can't reach the server ends without reading.
        let _ = input.write_all(code.as_bytes());
        drop(input);
        child.wait_with_output().expect("wait for erl_call")
    }

    /// One of RabbitMQ's programs, told to leave everything alone that isn't this server's.
    fn command(&self, program: &str) -> Command {
        let in_folder = |name: &str| self.folder.join(name);
        let mut command = Command::new(Path::new(PROGRAMS).join(program));
        command
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .env("HOME", &self.folder)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.ports.names.to_string())
            .env("ERL_CRASH_DUMP", in_folder("crash"))
            .env("RABBITMQ_NODENAME", NODE)
            .env("RABBITMQ_DIST_PORT", self.ports.erlang.to_string())
            // Empty, instead of the machine's.
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_CONFIG_FILE", in_folder("rabbitmq.conf"))
            .env("RABBITMQ_CONFIG_FILES", in_folder("conf.d"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", in_folder("advanced"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", in_folder("plugins"))
            .env("RABBITMQ_MNESIA_BASE", in_folder("data"))
            .env("RABBITMQ_LOG_BASE", in_folder("logs"))
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_PID_FILE", in_folder("pid"))
            // The script then ends in exec, so that the pid is the Erlang machine's.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG)
            .env("RABBITMQ_CTL_ERL_ARGS", ERLANG);
        command
    }

    /// Waits until it has greeted a client and says itself that its start is over.
    fn wait_until_it_serves(&mut self) {
        let ports = [Some(self.ports.amqp), self.tls.as_ref().map(|tls| tls.port)];
        wait_within(START_LIMIT, "RabbitMQ to answer", || {
            let process = self.server.as_mut().expect("it was started");
            assert!(process.is_running(), "it ended: {}", process.log());
            let log = process.log();
            let said = |error: io::Error| format!("{error}; its log:\n{log}");
            greet(self.ports.amqp).map_err(said)?;
            for port in ports.into_iter().flatten() {
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(said)?;
            }
            let output = self.call("rabbit:is_running().\n");
            if output.stdout.starts_with(b"{ok, true}") {
                Ok(())
            } else {
                Err(format!("{output:?}; its log:\n{log}"))
            }
        });
    }

    fn running(&self) -> &Process {
        self.server.as_ref().expect("it runs")
    }
}

/// The same for all: each has a name server of its own.
const NODE: &str = "ha@localhost";

fn url_on(port: u16) -> String {
    format!("rabbit://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{port}/{VHOST}")
}

#[track_caller]
fn number(text: &str) -> u64 {
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is no whole number"))
}

/// Says hello to a server as a client of AMQP; Ok if it begins to answer with a method.
fn greet(port: u16) -> io::Result<()> {
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    client.set_read_timeout(Some(LOOK_LIMIT))?;
    client.write_all(HELLO)?;
    let mut kind = [0];
    client.read_exact(&mut kind)?;
    if kind == [1] {
        Ok(())
    } else {
        Err(io::Error::other(format!("no AMQP 0-9-1: {kind:?}")))
    }
}

/// What it reads at its start.
fn write_files(folder: &Path, ports: Ports, tls: Option<&Tls>, options: &[(&str, &str)]) {
    let mut lines = vec![
        format!("listeners.tcp.1 = 127.0.0.1:{}", ports.amqp),
        format!("default_vhost = {VHOST}"),
        format!("default_user = {USER}"),
        format!("default_pass = {PASSWORD}"),
        format!(
            "vm_memory_high_watermark.absolute = {}",
            MEMORY.trim_matches('"')
        ),
        "disk_free_limit.absolute = 1MB".to_owned(),
    ];
    if let Some(tls) = tls {
        lines.extend([
            format!("listeners.ssl.1 = 127.0.0.1:{}", tls.port),
            format!("ssl_options.cacertfile = {}", tls.ca.display()),
            format!("ssl_options.certfile = {}/server.pem", folder.display()),
            format!("ssl_options.keyfile = {}/server.key", folder.display()),
        ]);
    }
    // Of two lines for one thing the later is taken.
    lines.extend(
        options
            .iter()
            .map(|(name, value)| format!("{name} = {value}")),
    );
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("write a file");
    write("rabbitmq.conf", &(lines.join("\n") + "\n"));
    write("plugins", "[].\n");
    // Erlang refuses a cookie that others can read.
    write(".erlang.cookie", &format!("cookie{}", ports.erlang));
    let mode = fs::Permissions::from_mode(0o400);
    fs::set_permissions(folder.join(".erlang.cookie"), mode).expect("close a file");
}

/// Erlang's name server, for one server alone: the machine's would stay when the test has ended.
fn start_names(folder: &Path, port: u16) -> Process {
    let mut command = Command::new("epmd");
    command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
    let mut process = Process::start(&mut command, &folder.join("names.log"));
    wait_until("epmd to answer", || {
        assert!(process.is_running(), "it ended: {}", process.log());
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|error| error.to_string())
    });
    process
}

/// Ports that nobody has, and that no client is given by chance while a server is down: below those that Linux
/// gives out by itself. Each process of tests has sixteen of its own, so that two don't find the same ones.
fn free_ports() -> Ports {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = 10_000 + std::process::id() % 1_400 * 16;
    let mut free = std::iter::from_fn(|| {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        u16::try_from(port).ok()
    })
    .filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    let mut port = || free.next().expect("a free port");
    Ports {
        amqp: port(),
        tls: port(),
        erlang: port(),
        names: port(),
    }
}

/// A CA with certificates of the server and of a client, and another CA with a client's.
fn make_certificates(folder: &Path, port: u16) -> Tls {
    let openssl = |arguments: &str| {
        let arguments = arguments.split_whitespace();
        run(Command::new("openssl").current_dir(folder).args(arguments));
    };
    let key = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    for ca in ["ca", "other_ca"] {
        openssl(&format!(
            "{key} -keyout {ca}.key -out {ca}.pem -subj /CN={ca} \
             -addext basicConstraints=critical,CA:TRUE"
        ));
    }
    for (ca, name, names) in [
        ("ca", "server", "DNS:localhost,IP:127.0.0.1"),
        ("ca", "client", "DNS:client"),
        ("other_ca", "other", "DNS:other"),
    ] {
        openssl(&format!(
            "{key} -CA {ca}.pem -CAkey {ca}.key -keyout {name}.key -out {name}.pem -subj /CN={name} \
             -addext subjectAltName={names} -addext basicConstraints=CA:FALSE"
        ));
    }
    Tls {
        port,
        ca: folder.join("ca.pem"),
        client_certificate: folder.join("client.pem"),
        client_key: folder.join("client.key"),
        other_ca: folder.join("other_ca.pem"),
        other_certificate: folder.join("other.pem"),
        other_key: folder.join("other.key"),
    }
}
