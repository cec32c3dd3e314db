//! A MariaDB of the test's own: on a data directory that goes with it, reached by a socket file, started,
//! stopped, killed and started again.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use nix::sys::signal::Signal;

use super::process::Process;
use super::{run, run_unchecked, wait_until};

/// The database in it that is ours.
pub const DATABASE: &str = "ceilometer";
/// Who may use it; an ordinary user, who can't write where everybody may only read.
pub const USER: &str = "ceilometer";
/// The user's password, with characters that a URL has to hide.
pub const PASSWORD: &str = "p@ss:w/rd";
const PASSWORD_IN_URL: &str = "p%40ss%3Aw%2Frd";

/// A server, running or not. Its processes and files go when the test ends.
pub struct Server {
    folder: PathBuf,
    process: Option<Process>,
    options: Vec<String>,
    _own: Option<tempfile::TempDir>,
}

impl Server {
    /// Starts one with an empty database.
    pub fn start() -> Self {
        Server::start_with(&[])
    }

    /// The same with further options of mariadbd.
    pub fn start_with(options: &[&str]) -> Self {
        let own = tempfile::tempdir().expect("make a folder");
        let mut server = Server::start_in(own.path(), options);
        server._own = Some(own);
        server
    }

    /// The same in a folder that stays, such as a disk of its own.
    pub fn start_in(folder: &Path, options: &[&str]) -> Self {
        let data = folder.join("data");
        run(Command::new("cp").arg("-r").arg(template()).arg(&data));
        let mut server = Server {
            folder: folder.to_owned(),
            process: None,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            _own: None,
        };
        server.start_again();
        let prepare = format!(
            "CREATE DATABASE {DATABASE} CHARACTER SET utf8; \
             CREATE USER {USER}@localhost IDENTIFIED BY '{PASSWORD}'; \
             CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'; \
             GRANT ALL ON {DATABASE}.* TO {USER}@localhost; \
             GRANT ALL ON {DATABASE}.* TO {USER}@'127.0.0.1'"
        );
        run(server.client().args(["-e", &prepare]));
        server
    }

    /// Starts it on the data that it left, and waits until it answers.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let mut command = Command::new("mariadbd");
        command
            // First, or it isn't taken.
            .arg("--no-defaults")
            .arg(format!("--datadir={}", self.folder.join("data").display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!("--pid-file={}", self.folder.join("pid").display()))
            .arg(format!("--tmpdir={}", self.folder.display()))
            .args(["--user=root", "--skip-name-resolve", "--skip-log-bin"])
            .args(["--performance-schema=off", "--key-buffer-size=1M"])
            .args(SIZES)
            .args(["--innodb-temp-data-file-path=ibtmp1:4M:autoextend"]);
        if !self
            .options
            .iter()
            .any(|option| option.starts_with("--port"))
        {
            command.arg("--skip-networking");
        }
        command.args(&self.options);
        self.process = Some(Process::start(&mut command, &self.folder.join("log")));
        wait_until("MariaDB to answer", || {
            let answer = run_unchecked(self.client().args(["-e", "SELECT 1"]));
            if answer.status.success() {
                Ok(())
            } else {
                let process = self.process.as_mut().expect("it was started");
                assert!(process.is_running(), "it ended: {}", process.log());
                Err(String::from_utf8_lossy(&answer.stderr).into_owned())
            }
        });
    }

    /// Starts it again if it ended by itself.
    pub fn start_if_it_ended(&mut self) {
        if !self.process.as_mut().expect("it was started").is_running() {
            self.process = None;
            self.start_again();
        }
    }

    /// Its socket file.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.running().pid()
    }

    /// Its database as `[database] connection` names it.
    pub fn url(&self) -> String {
        let socket = self.socket();
        format!(
            "mysql+pymysql://{USER}:{PASSWORD_IN_URL}@localhost/{DATABASE}?charset=utf8&unix_socket={}",
            socket.display()
        )
    }

    /// Ends it in good order.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.take().expect("it runs").terminate()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// Sends it a signal, such as SIGSTOP.
    pub fn signal(&self, signal: Signal) {
        self.running().signal(signal);
    }

    /// Runs statements as its administrator; rows as lines, columns with tabs between them.
    #[track_caller]
    pub fn sql(&self, statements: &str) -> Vec<String> {
        let text = run(self.client().arg(DATABASE).args(["-e", statements]));
        text.lines().map(str::to_owned).collect()
    }

    /// The one number that a query yields; 0 for null.
    #[track_caller]
    pub fn number(&self, sql: &str) -> u64 {
        let lines = self.sql(&format!("SELECT coalesce(({sql}), 0)"));
        let line = lines
            .first()
            .unwrap_or_else(|| panic!("no answer to {sql}"));
        line.parse()
            .unwrap_or_else(|_| panic!("{sql} is {line}, no whole number"))
    }

    /// Its command line client, as administrator.
    pub fn client(&self) -> Command {
        let mut client = Command::new("mariadb");
        client
            .args(["--no-defaults", "--user=root", "--batch"])
            .args(["--skip-column-names", "--default-character-set=utf8mb4"])
            .arg(format!("--socket={}", self.socket().display()));
        client
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }
}

/// The same for making a data directory and for using it.
const SIZES: [&str; 3] = [
    "--innodb-log-file-size=8M",
    "--innodb-buffer-pool-size=32M",
    "--aria-log-file-size=8M",
];

/// A data directory to copy, made once for all tests: making one takes seconds.
fn template() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..");
    let version = run(Command::new("mariadbd").arg("--version"));
    let version = version.split_whitespace().nth(2).expect("a version");
    let made = target.join(format!("mariadb-{version}"));
    // One of the tests makes it, the others wait for it.
    let lock = File::create(target.join("mariadb.lock")).expect("make a file");
    lock.lock().expect("lock it");
    if made.exists() {
        return made;
    }
    let making = target.join("mariadb-making");
    let _ = fs::remove_dir_all(&making);
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&making)
        .expect("make a folder");
    run(Command::new("mariadb-install-db")
        .args(["--no-defaults", "--user=root", "--skip-test-db"])
        .args(["--auth-root-authentication-method=normal"])
        .args(SIZES)
        .arg(format!("--datadir={}", making.display())));
    fs::rename(&making, &made).expect("rename a folder");
    made
}
