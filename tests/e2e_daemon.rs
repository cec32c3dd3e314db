//! The programs as daemons: whatever becomes of the log, the disk, the clock and the service manager,
//! probes keep their beat; and what a process says of itself and keeps from others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ceilometer_ha::clock;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use support::disk::Disk;
use support::process::Process;
use support::site::{Daemon, HOST, Lock, SECRET, Site, reading};
use support::{program, run, wait_for, wait_until};

/// What a program gets to end in, what its log gets, and a second for this machine.
const END_LIMIT: Duration = Duration::from_secs(7);

fn agent(site: &Site) -> Command {
    let mut command = Command::new(program("ceilometer-polling-ha"));
    command.arg("--config-file").arg(site.agent_config());
    command
}

fn collector(site: &Site) -> Command {
    let mut command = Command::new(program("ceilometer-collector-ha"));
    command.arg("--config-file").arg(site.collector_config(""));
    command
}

/// Another secret than the site's, which is a published one that every daemon warns of.
fn quiet(command: &mut Command) -> &mut Command {
    command.env(
        "OS_PUBLISHER__TELEMETRY_SECRET",
        "one-that-nobody-published",
    )
}

/// The agent has sent nothing but good readings so far, and goes on to do so, round after round.
#[track_caller]
fn assert_the_beat_goes_on(site: &Site) {
    let sent = "readings_published_total";
    let url = site.url();
    let series = format!("{sent}{{publisher=\"{url}\",result=\"sent\"}}");
    let before = site.metric(Daemon::Agent, &series);
    // Five readings a round: eight rounds, four seconds.
    wait_until("eight rounds more", || {
        match site.metric(Daemon::Agent, &series) {
            now if now >= before + 40 => Ok(()),
            now => Err(format!("{before} readings, then {now}")),
        }
    });
    for pollster in ["storage_connectivity", "heartbeat"] {
        let labels = format!("{{pollster=\"{pollster}\",source=\"ha_source\"}}");
        let missed = site.metric(Daemon::Agent, &format!("rounds_missed_total{labels}"));
        assert_eq!(missed, 0, "missed rounds of {pollster}");
    }
}

/// Lines of the log that this destination lost.
fn lines_lost(site: &Site, destination: &str) -> u64 {
    let series = format!("log_lines_lost_total{{destination=\"{destination}\"}}");
    site.metric(Daemon::Agent, &series)
}

/// Sends SIGTERM and checks that the end comes in time.
#[track_caller]
fn end(process: Process) {
    let since = clock::now();
    assert_eq!(process.terminate().code(), Some(0));
    let took = clock::now().saturating_duration_since(since);
    assert!(took < END_LIMIT, "the end took {took:?}");
}

mod log {
    use super::*;

    /// Sources that log thousands of lines a second, beside the one that is watched.
    fn flood(site: &Site) {
        let path = site.path("pipeline_ha.yaml");
        let text = fs::read_to_string(&path).unwrap();
        let mut noise = String::new();
        for number in 0..4 {
            noise += &format!(
                "    - {{name: noise{number}, interval: 0.001, meters: [compute.heartbeat], sinks: [nowhere]}}\n"
            );
        }
        let nowhere = format!(
            "    - {{name: nowhere, publishers: ['udp://{}:9']}}\n",
            site.ip
        );
        fs::write(
            &path,
            text.replace(
                "sinks:\n    - name",
                &format!("{noise}sinks:\n{nowhere}    - name"),
            ),
        )
        .unwrap();
    }

    #[test]
    fn a_full_pipe_delays_no_round_and_what_it_cost_is_said() {
        let site = Site::new();
        let _collector = site.collector();
        let mut command = agent(&site);
        flood(&site);
        let (mut reader, writer) = std::io::pipe().unwrap();
        command.env("OS_DEFAULT__DEBUG", "true");
        let agent = Process::start_with_stderr(&mut command, writer.into(), &site.path("out"));
        drop(command);
        site.wait_for_health(Daemon::Agent);
        wait_for("lines to be lost", || {
            (lines_lost(&site, "stderr") > 0).then_some(())
        });
        assert_the_beat_goes_on(&site);

        // Somebody reads again, and learns that something is missing.
        fcntl(reader.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut heard = String::new();
        let mut chunk = [0; 65536];
        wait_for("the loss to be said", || {
            while let Ok(count @ 1..) = reader.read(&mut chunk) {
                heard += &String::from_utf8_lossy(&chunk[..count]);
            }
            heard.contains("lines of the log lost").then_some(())
        });
        let whole = heard.lines().filter(|line| line.contains("Z "));
        assert!(whole.count() > 10_000, "what waited is written");

        // And it ends although nobody reads once more.
        end(agent);
    }

    #[test]
    fn a_complaint_that_nobody_reads_delays_no_start() {
        let site = Site::new();
        let _collector = site.collector();
        let (_reader, writer) = std::io::pipe().unwrap();
        fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut full = &writer;
        while std::io::Write::write(&mut full, &[0; 4096]).is_ok() {}
        fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        let mut command = agent(&site);
        let text = fs::read_to_string(site.path("agent.conf")).unwrap();
        fs::write(
            site.path("agent.conf"),
            format!("{text}no_such_option = 1\n"),
        )
        .unwrap();
        let agent = Process::start_with_stderr(&mut command, writer.into(), &site.path("out"));
        site.wait_for_health(Daemon::Agent);
        assert_the_beat_goes_on(&site);
        end(agent);
    }

    fn lines(path: &Path) -> usize {
        fs::read_to_string(path).unwrap_or_default().lines().count()
    }

    #[test]
    fn a_file_is_followed_however_it_is_rotated() {
        let site = Site::new();
        let (log, moved) = (site.path("logs/agent.log"), site.path("logs/agent.log.1"));
        let mut command = agent(&site);
        quiet(&mut command)
            .env("OS_DEFAULT__DEBUG", "true")
            .env("OS_DEFAULT__USE_STDERR", "false")
            .env("OS_DEFAULT__LOG_FILE", &log);
        let agent = Process::start(&mut command, &site.path("err"));
        wait_for("lines", || (lines(&log) > 5).then_some(()));
        fs::rename(&log, &moved).unwrap();
        wait_for("a file in its place", || (lines(&log) > 5).then_some(()));
        assert_eq!(
            fs::metadata(&log).unwrap().permissions().mode() & 0o777,
            0o640
        );

        // As logrotate's copytruncate does.
        File::options()
            .write(true)
            .truncate(true)
            .open(&log)
            .unwrap();
        wait_for("lines in the same file", || (lines(&log) > 5).then_some(()));
        assert!(!fs::read(&log).unwrap().contains(&0), "a hole in the file");
        end(agent);
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.contains("agent stopped"), "{text}");
        assert_eq!(lines(&site.path("err")), 0);
    }

    #[test]
    fn a_log_file_that_can_t_be_opened_keeps_no_node_unwatched() {
        let site = Site::new();
        let _collector = site.collector();
        fs::write(site.path("file"), "").unwrap();
        let mut command = agent(&site);
        command
            .env("OS_DEFAULT__USE_STDERR", "false")
            .env("OS_DEFAULT__LOG_FILE", site.path("file/agent.log"));
        let agent = Process::start(&mut command, &site.path("err"));
        site.wait_for_agent(0);
        assert!(agent.log().contains("until it can be opened"), "it is said");
        fs::remove_file(site.path("file")).unwrap();
        wait_for("what waited", || {
            let text = fs::read_to_string(site.path("file/agent.log")).unwrap_or_default();
            text.contains("agent started").then_some(())
        });
        end(agent);
    }

    #[test]
    fn lines_in_json_are_objects() {
        let site = Site::new();
        let mut command = agent(&site);
        quiet(&mut command).env("OS_DEFAULT__USE_JSON", "true");
        let agent = Process::start(&mut command, &site.path("err"));
        site.wait_for_health(Daemon::Agent);
        end(agent);
        let text = fs::read_to_string(site.path("err")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let lines: Vec<serde_json::Value> = lines.collect();
        let started = lines.iter().find(|line| line["message"] == "agent started");
        let started = started.unwrap_or_else(|| panic!("{text}"));
        assert_eq!(
            (&started["level"], &started["host"]),
            (&"INFO".into(), &HOST.into())
        );
        assert!(started["epoch"].as_u64().unwrap() > 0);
    }

    #[test]
    fn where_the_journal_reads_stderr_lines_have_their_priority() {
        let site = Site::new();
        let path = site.path("err");
        let file = File::create(&path).unwrap().metadata().unwrap();
        for (inode, head) in [(file.st_ino(), "<6>agent "), (0, "20")] {
            fs::write(&path, "").unwrap();
            let mut command = agent(&site);
            command.env("JOURNAL_STREAM", format!("{}:{inode}", file.st_dev()));
            let agent = Process::start(&mut command, &path);
            site.wait_for_health(Daemon::Agent);
            end(agent);
            let text = fs::read_to_string(&path).unwrap();
            let line = text
                .lines()
                .find(|line| line.contains("agent started host="));
            assert!(line.is_some_and(|line| line.starts_with(head)), "{text}");
        }
    }

    /// The program where /dev/log and the journal's socket are those of a folder.
    fn with_sockets_of(folder: &Path, command: &Command) -> Command {
        let script = "
            mkdir dev; mount -t tmpfs none dev
            for name in null zero random urandom; do
                touch dev/$name; mount --bind /dev/$name dev/$name
            done
            ln -s \"$PWD/syslog\" dev/log; mount --rbind dev /dev
            mount -t tmpfs none /run/systemd
            mkdir /run/systemd/journal; ln -s \"$PWD/journal\" /run/systemd/journal/socket
            exec \"$@\"";
        let mut inside = Command::new("unshare");
        inside
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-ec",
                script,
                "sh",
            ])
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(folder);
        inside
    }

    fn hear(socket: &UnixDatagram) -> Vec<u8> {
        let mut datagram = vec![0; 65536];
        let length = socket.recv(&mut datagram).expect("a datagram");
        datagram.truncate(length);
        datagram
    }

    fn listen(path: &Path) -> UnixDatagram {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(support::LIMIT)).unwrap();
        socket
    }

    #[test]
    fn the_journal_gets_fields_and_delays_nothing() {
        let site = Site::new();
        let journal = listen(&site.path("journal"));
        let mut command = with_sockets_of(site.folder.path(), &agent(&site));
        quiet(&mut command)
            .env("OS_DEFAULT__DEBUG", "true")
            .env("OS_DEFAULT__USE_JOURNAL", "true");
        let agent = Process::start(&mut command, &site.path("err"));
        let entry = loop {
            let entry = String::from_utf8(hear(&journal)).unwrap();
            if entry.starts_with("MESSAGE=agent started ") {
                break entry;
            }
        };
        let lines: Vec<&str> = entry.lines().collect();
        let pid = format!("SYSLOG_PID={}", agent.pid());
        for field in [
            "PRIORITY=6",
            "SYSLOG_IDENTIFIER=ceilometer-polling-ha",
            &format!("HOST={HOST}"),
            &pid,
        ] {
            assert!(lines.contains(&field), "{entry}");
        }
        assert!(
            lines.iter().any(|line| line.starts_with("EPOCH=")),
            "{entry}"
        );
        // Nobody reads any more: its socket is soon full.
        assert_the_beat_goes_on(&site);
        end(agent);
        assert_eq!(
            fs::read_to_string(site.path("err")).unwrap(),
            "",
            "stands for stderr"
        );
    }

    #[test]
    fn a_syslog_daemon_that_stops_or_starts_anew_delays_nothing_and_misses_nothing() {
        let site = Site::new();
        let _collector = site.collector();
        let syslog = listen(&site.path("syslog"));
        let mut command = with_sockets_of(site.folder.path(), &agent(&site));
        command
            .env("OS_DEFAULT__DEBUG", "true")
            .env("OS_DEFAULT__USE_SYSLOG", "true")
            .env("OS_DEFAULT__SYSLOG_LOG_FACILITY", "LOG_LOCAL3");
        let agent = Process::start(&mut command, &site.path("err"));
        site.wait_for_health(Daemon::Agent);
        // It doesn't read: the kernel keeps some ten datagrams, the rest waits in the agent.
        assert_the_beat_goes_on(&site);
        let head = format!(
            "<158>ceilometer-polling-ha[{}]: agent started ",
            agent.pid()
        );
        loop {
            let line = String::from_utf8(hear(&syslog)).unwrap();
            if line.starts_with(&head) {
                break;
            }
        }

        // Another one takes its place, as after a restart, and gets what came in between.
        drop(syslog);
        fs::remove_file(site.path("syslog")).unwrap();
        assert_the_beat_goes_on(&site);
        let messages = site.path("messages");
        let mut busybox = Command::new("nsenter");
        busybox
            .args([
                "-t",
                &agent.pid().to_string(),
                "-m",
                "busybox",
                "syslogd",
                "-n",
                "-O",
            ])
            .arg(&messages);
        let busybox = Process::start(&mut busybox, &site.path("busybox"));
        wait_until("a real syslogd's lines", || {
            let text = fs::read_to_string(&messages).unwrap_or_default();
            let line = text.lines().find(|line| line.contains("local3.debug"));
            let is_ours = line.is_some_and(|line| line.contains("round ended"));
            is_ours.then_some(()).ok_or(text)
        });
        assert_eq!(lines_lost(&site, "syslog"), 0);
        busybox.kill();
        end(agent);
    }
}

mod disk {
    use super::*;

    /// The state of a process in one letter.
    fn state(pid: u32) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    #[test]
    fn a_frozen_disk_delays_no_round_no_end_and_no_start() {
        let site = Site::new();
        let mut disk = Disk::at(&site.path("agent"));
        let _collector = site.collector();
        let logs = |name: &str| site.path("agent").join(name);
        let command = |name: &str| {
            let mut command = agent(&site);
            command
                .env("OS_DEFAULT__DEBUG", "true")
                .env("OS_DEFAULT__LOG_FILE", logs(name));
            command
        };
        let first = Process::start(&mut command("first.log"), &site.path("first"));
        let epoch = site.wait_for_agent(0);
        disk.freeze();
        assert_the_beat_goes_on(&site);

        // What hangs in the kernel can't be ended by anybody; all the rest has.
        let since = clock::now();
        first.signal(Signal::SIGTERM);
        wait_for("the process to be over", || {
            (state(first.pid()) == Some('Z')).then_some(())
        });
        let took = clock::now().saturating_duration_since(since);
        assert!(took < END_LIMIT, "the end took {took:?}");

        // The next one starts beside what is left of it, which still has the port for HTTP.
        let mut second = command("second.log");
        second.env("OS_AGENT__HTTP_LISTEN", format!("{}:19182", site.ip));
        let since = clock::now();
        let second = Process::start(&mut second, &site.path("second"));
        let next = site.wait_for_agent(epoch);
        let took = clock::now().saturating_duration_since(since);
        assert!(took < Duration::from_secs(8), "the start took {took:?}");
        for said in [
            "no log in",
            "can't tell whether another agent runs",
            "no state can be kept",
        ] {
            assert!(second.log().contains(said), "{said}");
        }

        disk.thaw();
        let mut first = first;
        assert_eq!(first.wait().code(), Some(0));
        wait_for("what waited", || {
            let text = fs::read_to_string(logs("second.log")).ok()?;
            text.contains(&format!("epoch={next}")).then_some(())
        });
        end(second);
    }

    #[test]
    fn a_frozen_disk_of_the_collector_s_loses_nothing_that_was_received() {
        let site = Site::new();
        let mut disk = Disk::at(&site.path("collector"));
        let log = site.path("collector/collector.log");
        let mut command = collector(&site);
        command.env("OS_DEFAULT__LOG_FILE", log);
        let collector = Process::start(&mut command, &site.path("err"));
        site.wait_for_health(Daemon::Collector);
        let agent = site.agent();
        site.wait_for_agent(0);
        disk.freeze();
        let (before, _) = site.datagrams();
        wait_until("the trouble to be told", || {
            match site.get(Daemon::Collector, "/healthz") {
                Some((503, text)) if text.contains("nothing could be stored") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        let (after, dropped) = site.datagrams();
        assert!(after >= before + 8, "{before} datagrams, then {after}");
        end(agent);
        disk.thaw();
        let sql = "SELECT (SELECT max(seq) FROM ha_state) - (SELECT count(*) FROM sample)";
        wait_for("everything to be stored", || {
            (site.number(sql) == 0 && dropped == 0).then_some(())
        });
        site.assert_nothing_twice();
        end(collector);
    }
}

mod systemd {
    use super::*;

    /// A service manager that listens.
    struct Manager {
        socket: UnixDatagram,
    }

    impl Manager {
        fn new(site: &Site) -> Self {
            let socket = UnixDatagram::bind(site.path("notify")).unwrap();
            socket.set_read_timeout(Some(support::LIMIT)).unwrap();
            Manager { socket }
        }

        fn start(&self, site: &Site, mut command: Command) -> Process {
            command
                .env("NOTIFY_SOCKET", site.path("notify"))
                .env("WATCHDOG_USEC", "1000000");
            Process::start(&mut command, &site.path("err"))
        }

        fn hear(&self) -> String {
            let mut text = [0; 4096];
            let length = self.socket.recv(&mut text).expect("a message");
            String::from_utf8(text[..length].to_vec()).unwrap()
        }

        /// Whether nothing comes for so long.
        fn is_silent_for(&self, time: Duration) -> bool {
            self.socket.set_read_timeout(Some(time)).unwrap();
            let heard = self.socket.recv(&mut [0; 4096]);
            self.socket.set_read_timeout(Some(support::LIMIT)).unwrap();
            heard.is_err()
        }

        #[track_caller]
        fn wait_for(&self, what: &str) -> String {
            let mut heard = Vec::new();
            for _ in 0..200 {
                let message = self.hear();
                if message.contains(what) {
                    return message;
                }
                heard.push(message);
            }
            panic!("{what} was not said: {heard:?}")
        }
    }

    #[test]
    fn ready_is_said_when_it_is_true_and_the_watchdog_is_fed_by_progress() {
        let site = Site::new();
        let manager = Manager::new(&site);
        let collector = manager.start(&site, collector(&site));
        assert_eq!(manager.hear(), "READY=1\nSTATUS=running");
        site.store_one(&reading("n", 1));
        manager.wait_for("WATCHDOG=1");

        // Another program holds the database's lock: what is received can't be stored.
        let lock = Lock::hold(&site.database());
        site.send(&support::site::signed(&reading("n", 2)));
        let stuck = manager.wait_for("STATUS=stuck");
        assert!(stuck.contains("nothing could be stored for"), "{stuck}");
        assert!(
            manager.is_silent_for(Duration::from_secs(3)),
            "the watchdog is fed although nothing is stored"
        );
        lock.release();
        manager.wait_for("WATCHDOG=1");
        manager.wait_for("STATUS=running");
        collector.signal(Signal::SIGTERM);
        manager.wait_for("STOPPING=1");
        end(collector);
    }

    #[test]
    fn ready_is_not_said_by_who_can_t_do_its_job() {
        let site = Site::new();
        let first = site.collector();
        let manager = Manager::new(&site);
        let mut command = collector(&site);
        command.env("OS_DEFAULT__STATE_PATH", site.path("other"));
        let mut second = manager.start(&site, command);
        assert_eq!(second.wait().code(), Some(1));
        assert!(second.log().contains("binding UDP"), "{}", second.log());
        assert!(manager.is_silent_for(Duration::from_millis(100)));
        end(first);
    }

    /// Its wall clock goes back by an hour, and neither the watchdog's beat nor the log's file minds.
    #[test]
    fn a_clock_that_is_stepped_stops_no_beat() {
        let site = Site::new();
        let _collector = site.collector();
        let (manager, log) = (Manager::new(&site), site.path("agent.file"));
        let offset = site.path("offset");
        fs::write(&offset, "+0\n").unwrap();
        let library =
            run(Command::new("sh").args(["-c", "ls /usr/lib/*/faketime/libfaketimeMT.so.1"]));
        let mut command = agent(&site);
        command
            .env("LD_PRELOAD", library.trim())
            .env("FAKETIME_TIMESTAMP_FILE", &offset)
            .env("FAKETIME_NO_CACHE", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("OS_DEFAULT__DEBUG", "true")
            .env("OS_DEFAULT__LOG_FILE", &log);
        let agent = manager.start(&site, command);
        assert_eq!(manager.hear(), "READY=1\nSTATUS=running");
        site.wait_for_health(Daemon::Agent);
        let today = fs::read_to_string(&log).unwrap();
        fs::write(&offset, "-86400\n").unwrap();
        wait_for("a line of yesterday", || {
            let text = fs::read_to_string(&log).ok()?;
            let last = text.lines().last()?;
            (last.get(..10)? < today.get(..10)?).then_some(())
        });
        fs::rename(&log, site.path("agent.file.1")).unwrap();
        for _ in 0..4 {
            assert_eq!(manager.hear(), "WATCHDOG=1");
        }
        assert_the_beat_goes_on(&site);
        assert!(
            fs::metadata(&log).unwrap().len() > 0,
            "the rotation is noticed"
        );
        agent.signal(Signal::SIGTERM);
        manager.wait_for("STOPPING=1");
        end(agent);
    }
}

mod process {
    use super::*;

    fn status(process: &Process, field: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let line = line.unwrap_or_else(|| panic!("no {field} in {text}"));
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn a_second_one_is_refused_by_name_and_a_dead_one_is_no_obstacle() {
        let site = Site::new();
        for (daemon, make) in [
            (Daemon::Collector, collector as fn(&Site) -> Command),
            (Daemon::Agent, agent),
        ] {
            let first = Process::start(&mut make(&site), &site.path("first"));
            site.wait_for_health(daemon);
            let mut second = Process::start(&mut make(&site), &site.path("second"));
            assert_eq!(second.wait().code(), Some(1));
            let said = format!("another one runs, process {}", first.pid());
            assert!(second.log().contains(&said), "{}", second.log());
            first.kill();
            let third = Process::start(&mut make(&site), &site.path("third"));
            site.wait_for_health(daemon);
            end(third);
        }
    }

    /// Every file below a folder with its mode.
    fn modes(folder: &Path) -> Vec<(String, u32)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
            found.push((entry.file_name().into_string().unwrap(), mode));
        }
        found.sort();
        found
    }

    #[test]
    fn files_are_for_the_owner_and_the_group_whatever_the_umask() {
        let site = Site::new();
        let _ = (site.agent_config(), site.collector_config(""));
        let state = site.path("state/both");
        let config = site.path("both.conf");
        let pipeline = site.path("pipeline_ha.yaml");
        let text = format!(
            "[DEFAULT]\nhost = {HOST}\nstate_path = {}\nlog_file = {}\npipeline_cfg_file = {}\n[compute]\nstorage_server_address = 127.0.0.1\n",
            state.display(),
            site.path("logs/log").display(),
            pipeline.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", "umask 0; exec \"$0\" --config-file \"$1\""])
            .arg(program("ceilometer-ha-standalone"))
            .arg(&config)
            .envs(site.environment());
        let both = Process::start(&mut command, &site.path("out"));
        site.wait_for_health(Daemon::Agent);
        wait_for("every file", || {
            let names = modes(&state).into_iter().map(|(name, _)| name);
            let names: Vec<String> = names.collect();
            (names
                == [
                    "agent.json",
                    "agent.lock",
                    "ceilometer_ha.sqlite",
                    "ceilometer_ha.sqlite-shm",
                    "ceilometer_ha.sqlite-wal",
                    "collector.lock",
                    "telemetry_secret",
                ])
            .then_some(())
        });
        for (name, mode) in modes(&state) {
            let wanted = if name == "telemetry_secret" {
                0o600
            } else {
                0o640
            };
            assert_eq!(mode, wanted, "{name} has {mode:o}");
        }
        assert_eq!(modes(&site.path("logs")), [("log".to_owned(), 0o640)]);
        assert_eq!(modes(&site.path("state")), [("both".to_owned(), 0o750)]);
        end(both);
    }

    #[test]
    fn memory_is_locked_where_it_may_be_and_grows_none() {
        let site = Site::new();
        let mut resident = Vec::new();
        for is_locked in [true, false] {
            let mut command = agent(&site);
            command.env("OS_DEFAULT__LOCK_MEMORY", is_locked.to_string());
            let agent = Process::start(&mut command, &site.path("err"));
            site.wait_for_health(Daemon::Agent);
            assert_eq!(status(&agent, "VmLck:") > 0, is_locked);
            resident.push(status(&agent, "VmRSS:"));
            end(agent);
        }
        assert!(
            resident[0] < resident[1] * 5 / 4,
            "{resident:?} KiB resident, locked and not"
        );
    }

    /// Somebody without any rights but to ping, as which an agent need not run as root.
    fn as_nobody(site: &Site, limit: &str, command: &Command) -> Command {
        let state = site.path("agent");
        fs::create_dir_all(&state).unwrap();
        run(Command::new("chown").args(["-R", "nobody"]).arg(&state));
        run(Command::new("chmod").arg("a+rx").arg(site.folder.path()));
        let mut inside = Command::new("prlimit");
        inside
            .args([
                limit,
                "setpriv",
                "--reuid=nobody",
                "--regid=nogroup",
                "--clear-groups",
            ])
            .args([
                "--inh-caps=+net_raw,+dac_read_search",
                "--ambient-caps=+net_raw,+dac_read_search",
            ])
            .arg(command.get_program())
            .args(command.get_args());
        inside
    }

    #[test]
    fn without_the_right_to_lock_memory_it_goes_on() {
        let site = Site::new();
        let _collector = site.collector();
        let mut command = as_nobody(&site, "--memlock=8388608", &agent(&site));
        let agent = Process::start(&mut command, &site.path("err"));
        site.wait_for_agent(0);
        assert_eq!(status(&agent, "VmLck:"), 0);
        assert!(
            agent.log().contains("memory is not locked"),
            "{}",
            agent.log()
        );
        end(agent);
    }

    /// The memory of a process is open to others of its user unless it says otherwise, which shows in
    /// whom its files in /proc belong to; and a core would be left where it runs.
    #[test]
    fn no_core_is_dumped_and_nobody_looks_inside_unless_asked_for() {
        let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        let leaves_a_file = !pattern.starts_with(['|', '/']);
        for is_allowed in [false, true] {
            let site = Site::new();
            let _collector = site.collector();
            let here = site.path("here");
            fs::create_dir(&here).unwrap();
            run(Command::new("chmod").arg("a+rwx").arg(&here));
            let mut command = as_nobody(&site, "--core=unlimited", &agent(&site));
            command
                .current_dir(&here)
                .env("OS_DEFAULT__CORE_DUMPS", is_allowed.to_string());
            let mut agent = Process::start(&mut command, &site.path("err"));
            // All of it works for somebody who may not read his own files in /proc.
            site.wait_for_agent(0);
            let owner = fs::metadata(format!("/proc/{}/environ", agent.pid())).unwrap();
            assert_eq!(owner.st_uid() == 0, !is_allowed, "{}", owner.st_uid());
            agent.signal(Signal::SIGABRT);
            agent.wait();
            let left = fs::read_dir(&here).unwrap().count();
            assert_eq!(left > 0, is_allowed && leaves_a_file, "{left} files");
        }
    }

    /// What a plug-in finds in its environment is what every program may know.
    #[test]
    fn nothing_of_ours_is_in_a_child_s_environment() {
        let site = Site::new();
        let _collector = site.collector();
        let mut command = agent(&site);
        let seen = site.path("seen");
        let plugin = site.path("plugin");
        fs::write(
            &plugin,
            "#!/bin/sh\nenv >\"$1\"; tr '\\0' ' ' </proc/$PPID/cmdline >>\"$1\"; echo OK\n",
        )
        .unwrap();
        run(Command::new("chmod")
            .arg("a+rx")
            .arg(&plugin)
            .arg(site.folder.path()));
        run(Command::new("install")
            .args(["-m", "666", "/dev/null"])
            .arg(&seen));
        let pipeline = fs::read_to_string(site.path("pipeline_ha.yaml")).unwrap();
        fs::write(
            site.path("pipeline_ha.yaml"),
            pipeline.replace("compute.heartbeat]", "compute.heartbeat, seen]"),
        )
        .unwrap();
        command
            .env("NOTIFY_SOCKET", site.path("notify"))
            .env("WATCHDOG_USEC", "60000000")
            .env("OS_PUBLISHER__TELEMETRY_SECRET", SECRET)
            .env(
                "OS_PLUGINS__POLLSTER",
                format!("seen nagios {} {}", plugin.display(), seen.display()),
            );
        let agent = Process::start(&mut command, &site.path("err"));
        let text = wait_for("the plug-in to have run", || {
            let text = fs::read_to_string(&seen).unwrap();
            text.contains("PATH=").then_some(text)
        });
        for ours in [SECRET, "NOTIFY_SOCKET", "WATCHDOG_USEC", "OS_"] {
            assert!(!text.contains(ours), "{text}");
        }
        end(agent);
    }

    /// A reader of the tables that stops reading is nobody whom an end waits for.
    #[test]
    fn a_screen_that_nobody_reads_delays_no_end() {
        let site = Site::new();
        let _ = site.agent_config();
        let config = site.path("both.conf");
        let text = format!(
            "[DEFAULT]\nhost = {HOST}\nstate_path = {}\npipeline_cfg_file = {}\n[publisher]\ntelemetry_secret = {SECRET}\nallow_weak_secret = true\n[compute]\nstorage_server_address = 127.0.0.1\n",
            site.path("both").display(),
            site.path("pipeline_ha.yaml").display(),
        );
        fs::write(&config, text).unwrap();
        let (_reader, writer) = std::io::pipe().unwrap();
        fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut full = &writer;
        while std::io::Write::write(&mut full, &[b'\n'; 4096]).is_ok() {}
        fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        let mut command = Command::new(program("ceilometer-ha-standalone"));
        command
            .arg("--config-file")
            .arg(&config)
            .envs(site.environment());
        let both = Process::start_with_stdout(&mut command, Stdio::from(writer), &site.path("err"));
        site.wait_for_health(Daemon::Agent);
        // The first table comes after ten seconds.
        wait_for("a table to be written to nobody", || {
            let threads = format!("/proc/{}/task", both.pid());
            let waiting = fs::read_dir(threads)
                .ok()?
                .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("wchan")).ok());
            waiting
                .into_iter()
                .any(|at| at.contains("pipe_write"))
                .then_some(())
        });
        end(both);
    }
}
