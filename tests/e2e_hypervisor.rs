//! What a real libvirt says about real guests: states, reasons and events that the agent rests on,
//! as virsh sees them. Nothing of ours runs here; a new libvirt that says something else fails here
//! first.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use nix::sys::signal::{Signal, kill};
use support::guest::{Disk, Guest, Key, Nova};
use support::hypervisor::{Events, Hypervisor};
use support::process::Process;
use support::{wait_for, wait_until};

const DEFINED: &str = "lifecycle: Defined Added";
const RESUMED: &str = "lifecycle: Resumed Unpaused";
const STARTED: &str = "lifecycle: Started Booted";
const REBOOTED: &str = "reboot";

/// A node with one running guest, and what was told since it was running.
struct Scene {
    node: Hypervisor,
    events: Events,
    before: usize,
}

impl Scene {
    fn new(guest: &Guest) -> Self {
        let node = Hypervisor::new();
        let events = node.events();
        node.run(guest);
        let before = events.wait_for("guest", STARTED).len();
        Scene {
            node,
            events,
            before,
        }
    }

    /// Waits for a state and for exactly these events since the last look.
    #[track_caller]
    fn see(&mut self, state: &str, events: &[&str]) {
        self.events.wait_for_all("guest", self.before, events);
        self.before += events.len();
        self.node.wait_for_state("guest", state);
    }

    /// The same for a guest that a key of ours ends. If it is gone before its monitor has taken the key,
    /// libvirt tells of an error of the monitor besides.
    #[track_caller]
    fn see_it_end(&mut self, state: &str, events: &[&str]) {
        self.see_kinds(state, events, &["control-error"]);
        self.before = self.events.of("guest").len();
    }

    /// The same where libvirt tells some of it more than once, in any order, and more besides.
    #[track_caller]
    fn see_kinds(&mut self, state: &str, always: &[&str], sometimes: &[&str]) {
        let told = wait_until("these kinds of events", || {
            let told = self.events.of("guest").split_off(self.before);
            match always.iter().all(|kind| told.iter().any(|is| is == kind)) {
                true => Ok(told),
                false => Err(format!("told {told:#?}\nnot {always:#?}")),
            }
        });
        self.node.wait_for_state("guest", state);
        for kind in &told {
            assert!(
                always.contains(&&**kind) || sometimes.contains(&&**kind),
                "{told:#?}"
            );
        }
    }
}

#[test]
fn a_guest_is_started_paused_resumed_destroyed_and_undefined() {
    let mut scene = Scene::new(&Guest::new("guest"));
    assert_eq!(
        scene.events.of("guest"),
        [DEFINED, RESUMED, STARTED],
        "resumed before it was started"
    );
    scene.see("running (booted)", &[]);
    scene.node.pause("guest");
    scene.see("paused (user)", &["lifecycle: Suspended Paused"]);
    scene.node.resume("guest");
    scene.see("running (unpaused)", &[RESUMED]);
    scene.node.destroy("guest");
    scene.see(
        "shut off (destroyed)",
        &[
            "lifecycle: Shutdown Finished after host request",
            "lifecycle: Stopped Destroyed",
        ],
    );
    scene.node.undefine("guest");
    scene
        .events
        .wait_for("guest", "lifecycle: Undefined Removed");
    assert!(!scene.node.knows("guest"));
}

#[test]
fn a_guest_that_reboots_stays_running() {
    let mut scene = Scene::new(&Guest::new("guest"));
    scene.node.reset("guest");
    scene.node.wait_for_boots("guest", 2);
    scene.see_kinds("running (booted)", &[REBOOTED], &[]);
    scene.node.press("guest", Key::Reboot);
    scene.node.wait_for_boots("guest", 3);
    scene.see_kinds("running (booted)", &[REBOOTED], &[]);
}

#[test]
fn a_guest_that_obeys_a_request_to_reboot_stays_running() {
    let mut scene = Scene::new(&Guest::new("guest"));
    scene.node.reboot("guest");
    scene.node.wait_for_boots("guest", 2);
    // libvirt resets it before anybody could see it off, and tells that no differently.
    scene.see_kinds("running (booted)", &[REBOOTED], &[]);
}

#[test]
fn a_guest_that_powers_itself_off_is_shut_off() {
    let mut scene = Scene::new(&Guest::new("guest"));
    let told = [
        "lifecycle: Shutdown Finished after guest request",
        "lifecycle: Stopped Shutdown",
    ];
    scene.node.press("guest", Key::PowerOff);
    scene.see_it_end("shut off (shutdown)", &told);
    scene.node.start("guest");
    scene.see("running (booted)", &[RESUMED, STARTED]);
    scene.node.shut_down("guest");
    scene.see_it_end("shut off (shutdown)", &told);
}

#[test]
fn a_killed_qemu_is_shut_off_by_a_crash() {
    let mut scene = Scene::new(&Guest::new("guest"));
    scene.node.kill_qemu("guest");
    // The event and the state disagree about the reason.
    scene.see("shut off (crashed)", &["lifecycle: Stopped Failed"]);
}

#[test]
fn a_disk_without_space_pauses_its_guest_until_there_is_space() {
    let mut scene = Scene::new(&Guest::new("guest").disk(Disk::Small));
    let disk = scene.node.path("small-guest/disk.img");
    let error = format!("{} (ide0-0-0) pause", disk.display());
    let told = [
        &format!("io-error: {error}"),
        &format!("io-error-reason: {error} due to enospc"),
        "lifecycle: Suspended I/O Error",
    ];
    scene.node.press("guest", Key::Write);
    scene.see("paused (I/O error)", &told);
    scene.node.resume("guest");
    scene.see("paused (I/O error)", &[RESUMED, told[0], told[1], told[2]]);
    scene.node.give_space("guest");
    scene.node.resume("guest");
    scene.see("running (unpaused)", &[RESUMED]);
}

#[test]
fn a_guest_that_panics_does_what_its_definition_says() {
    let panicked = "lifecycle: Crashed Panicked";
    let paused = "lifecycle: Suspended Paused";
    // "Paused" comes before "panicked" or behind it, so the last event doesn't say what the state is.
    let mut scene = Scene::new(&Guest::new("guest").on_crash("preserve"));
    scene.node.press("guest", Key::Panic);
    scene.see_kinds("crashed (panicked)", &[panicked], &[paused]);

    let mut scene = Scene::new(&Guest::new("guest").on_crash("destroy"));
    scene.node.press("guest", Key::Panic);
    let stopped = "lifecycle: Stopped Crashed";
    // Its QEMU may be gone before the key was taken.
    let sometimes = [paused, "control-error"];
    scene.see_kinds("shut off (crashed)", &[panicked, stopped], &sometimes);

    let mut scene = Scene::new(&Guest::new("guest").on_crash("restart"));
    scene.node.press("guest", Key::Panic);
    scene.node.wait_for_boots("guest", 2);
    // The reason is the last crash, long after the guest runs again.
    scene.see_kinds(
        "running (crashed)",
        &[panicked, REBOOTED, RESUMED],
        &[paused],
    );
}

#[test]
fn a_watchdog_that_bites_does_what_its_definition_says() {
    let mut scene = Scene::new(&Guest::new("guest").watchdog("pause"));
    scene.node.press("guest", Key::Watchdog);
    scene.see(
        "paused (watchdog)",
        &["watchdog: pause", "lifecycle: Suspended Watchdog"],
    );

    let mut scene = Scene::new(&Guest::new("guest").watchdog("reset"));
    scene.node.press("guest", Key::Watchdog);
    scene.node.wait_for_boots("guest", 2);
    scene.see_kinds("running (booted)", &["watchdog: reset", REBOOTED], &[]);

    let mut scene = Scene::new(&Guest::new("guest").watchdog("poweroff"));
    scene.node.press("guest", Key::Watchdog);
    // QEMU ends without a word to libvirt, which takes it for a crash.
    scene.see_kinds(
        "shut off (crashed)",
        &["watchdog: poweroff", "lifecycle: Stopped Failed"],
        &["control-error"],
    );
}

#[test]
fn a_migrated_guest_is_gone_here_and_running_there() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let (here, there) = (Hypervisor::new(), Hypervisor::new());
    let (told_here, told_there) = (here.events(), there.events());
    here.run(&Guest::new("guest").disk(Disk::At(image.path().to_owned())));
    here.migrate("guest", &there, false);
    assert_eq!(there.state("guest"), "running (migrated)");
    wait_for("the guest to be gone", || {
        (!here.knows("guest")).then_some(())
    });
    let told = told_there.wait_for("guest", "lifecycle: Resumed Migrated");
    assert_eq!(
        lifecycle(&told),
        ["Started Migrated", "Defined Added", "Resumed Migrated"]
    );
    let told = told_here.wait_for("guest", "lifecycle: Stopped Migrated");
    assert_eq!(
        lifecycle(&told)[3..],
        ["Suspended Migrated", "Stopped Migrated"]
    );
    there.migrate("guest", &here, true);
    assert_eq!(here.state("guest"), "running (migrated)");
    assert_eq!(there.state("guest"), "shut off (migrated)");
}

#[test]
fn a_guest_that_is_being_migrated_is_running_here_and_paused_there() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let (here, there) = (Hypervisor::new(), Hypervisor::new());
    here.run(&Guest::new("guest").disk(Disk::At(image.path().to_owned())));
    here.press("guest", Key::Dirty);
    let mut migration = here.migrate_slowly("guest", &there);
    there.wait_for_state("guest", "paused (migrating)");
    assert_eq!(here.state("guest"), "running (booted)");
    here.hurry_migration("guest");
    assert!(migration.wait().success(), "{}", migration.log());
    assert_eq!(there.state("guest"), "running (migrated)");
    assert!(!here.knows("guest"));
}

fn lifecycle(told: &[String]) -> Vec<&str> {
    told.iter()
        .filter_map(|event| event.strip_prefix("lifecycle: "))
        .collect()
}

#[test]
fn one_frozen_guest_hangs_what_enters_its_monitor_and_nothing_else() {
    let node = Hypervisor::new();
    let nova = Nova {
        display_name: "web-1".into(),
        flavor: "m1.tiny".into(),
        user_id: "0123456789abcdef0123456789abcdef".into(),
        project_id: "fedcba9876543210fedcba9876543210".into(),
        image: None,
    };
    node.run(&Guest::idle("frozen").nova(nova).balloon().interface("tap1"));
    node.run(&Guest::new("other").interface("tap2"));
    node.freeze_qemu("frozen");
    let mut hung: Vec<Process> = ["--block", "--balloon", "--cpu-total", "--vcpu"]
        .into_iter()
        .map(|group| {
            let mut command = node.virsh_command(&["domstats", group]);
            Process::start(&mut command, &node.path(&format!("hung{group}.log")))
        })
        .collect();
    assert_eq!(node.state("frozen"), "running (booted)");
    let bulk = node.virsh(&["domstats", "--state", "--interface"]);
    assert_eq!(bulk.matches("state.state=1").count(), 2, "{bulk}");
    assert!(bulk.contains("tap1") && bulk.contains("tap2"), "{bulk}");
    for arguments in [
        &["dumpxml", "frozen"][..],
        &["dumpxml", "frozen", "--inactive"],
    ] {
        assert!(node.virsh(arguments).contains("<nova:name>web-1<"));
    }
    node.virsh(&["domstats", "--block", "other"]);
    for process in &mut hung {
        assert!(process.is_running(), "{}", process.log());
    }
    node.thaw_qemu("frozen");
    for process in &mut hung {
        assert!(process.wait().success());
    }
}

#[test]
fn a_stopped_libvirtd_answers_nobody_until_it_goes_on() {
    let node = Hypervisor::new();
    node.run(&Guest::new("guest"));
    node.freeze();
    let mut command = node.virsh_command(&["domstate", "guest"]);
    let mut client = Process::start(&mut command, &node.path("client.log"));
    // The kernel has connected it, and libvirtd doesn't come to fetch it.
    wait_for("the client to wait", || (node.waiting() == 1).then_some(()));
    assert!(client.is_running());
    node.thaw();
    assert!(client.wait().success());
    assert_eq!(node.waiting(), 0);
    assert!(client.log().contains("running"));
}

#[test]
fn guests_outlive_libvirtd_and_keep_their_reasons() {
    let mut node = Hypervisor::new();
    node.run(&Guest::new("runs"));
    node.run(&Guest::new("killed"));
    node.run(&Guest::new("off"));
    node.run(&Guest::new("full").disk(Disk::Small));
    node.run(&Guest::new("panics"));
    node.press("full", Key::Write);
    node.wait_for_state("full", "paused (I/O error)");
    node.press("panics", Key::Panic);
    node.wait_for_state("panics", "crashed (panicked)");
    node.kill_libvirtd();
    assert!(
        !node
            .virsh_command(&["list"])
            .output()
            .unwrap()
            .status
            .success(),
        "a killed libvirtd answers"
    );
    node.kill_qemu("killed");
    kill(node.qemu("off"), Signal::SIGTERM).unwrap();
    node.start_libvirtd();
    let expected = [
        ("runs", "running (booted)"),
        ("full", "paused (I/O error)"),
        ("panics", "crashed (panicked)"),
        // Whatever ended a guest while libvirtd was away, it is called a crash.
        ("killed", "shut off (crashed)"),
        ("off", "shut off (crashed)"),
    ];
    for (name, state) in expected {
        assert_eq!(node.state(name), state, "{name}");
    }
}

#[test]
fn a_socket_without_permission_is_refused() {
    let node = Hypervisor::new();
    assert!(node.virsh_as_nobody(&["list"]).status.success());
    node.forbid(true);
    let output = node.virsh_as_nobody(&["list"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("Permission denied"), "{error}");
    node.forbid(false);
    assert!(node.virsh_as_nobody(&["list"]).status.success());
}

#[test]
fn twenty_guests_run_and_end_with_their_hypervisor() {
    let node = Hypervisor::new();
    for number in 1..=20 {
        node.run(&Guest::idle(&format!("guest-{number}")));
    }
    let bulk = node.virsh(&["domstats", "--state"]);
    assert_eq!(bulk.matches("state.state=1").count(), 20, "{bulk}");
    let processes = node.processes();
    assert!(processes.len() > 20, "{processes:?}");
    let folder = node.folder.path().to_owned();
    drop(node);
    for pid in processes {
        assert!(kill(pid, None).is_err(), "{pid} is still there");
    }
    assert!(!folder.exists());
}
