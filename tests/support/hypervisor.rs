//! A compute node's libvirtd, real and private, with real guests of QEMU.
//!
//! Each lives in mount, network and process namespaces of its own: it finds its files where a
//! system's libvirtd finds them, and several run at once beside one that the machine may have. Its
//! sockets are in the test's folder, so clients reach it from outside.
//!
//! ```text
//!   setpriv ─► unshare ─► sh, process 1 of the namespaces     libvirtd (by nsenter)
//!   dies with  dies with  its end ends all that is in there   guests' QEMUs outlive it
//!   the test   setpriv
//! ```
//!
//! A thread that starts a hypervisor must outlive it: the kernel takes its end for the test's.

use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::guest::{BOOTED, Disk, Guest, Key, boot_sector};
use super::process::Process;
use super::{run, run_unchecked, wait_for, wait_until};

/// What becomes process 1: it puts writable layers over the folders of libvirt and then only takes
/// in orphans. A QEMU that isn't waited for would count as running.
const INSIDE: &str = r#"
mount -t tmpfs -o mode=755 hypervisor "$1/layers"
for at in /etc /run /var/lib /var/log /var/cache; do
    mkdir -p "$1/layers/upper$at" "$1/layers/work$at"
    mount -t overlay overlay \
        -o "lowerdir=$at,upperdir=$1/layers/upper$at,workdir=$1/layers/work$at" "$at"
done
mkdir -p /etc/libvirt
cp "$1/qemu.conf" /etc/libvirt/
id libvirt-qemu >/dev/null 2>&1 ||
    echo 'libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin' >>/etc/passwd
getent group libvirt-qemu >/dev/null || echo 'libvirt-qemu:x:64055:' >>/etc/group
ip link set lo up
touch "$1/ready"
sleep infinity & wait
"#;
/// Folders that have another content inside; a test's own must be the same on both sides.
const LAYERED: [&str; 5] = ["/etc", "/run", "/var/lib", "/var/log", "/var/cache"];
/// What a guest may use of a small disk until it is given space, and then.
const SMALL_MIB: u32 = 1;
const GIVEN_MIB: u32 = 80;
/// The sizes of disks in bytes; only what is written takes space.
const OWN_BYTES: u64 = 1 << 20;
const SMALL_BYTES: u64 = 64 << 20;
/// An ordinary user of this machine that owns nothing.
const NOBODY: &str = "65534";

static HYPERVISORS: AtomicU32 = AtomicU32::new(1);

/// One libvirtd and its guests; everything ends with it.
pub struct Hypervisor {
    libvirtd: Option<Process>,
    namespaces: Child,
    /// Process 1 of the namespaces, as it is called outside.
    first: Pid,
    pub folder: TempDir,
}

impl Default for Hypervisor {
    fn default() -> Self {
        Hypervisor::new()
    }
}

impl Hypervisor {
    /// Starts a libvirtd and waits until it answers.
    pub fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make namespaces and need root"
        );
        let folder = tempfile::tempdir().expect("make a folder");
        assert!(
            !LAYERED.iter().any(|at| folder.path().starts_with(at)),
            "TMPDIR is below one of {LAYERED:?}, which have another content inside"
        );
        // Whoever may not use the socket is to fail at the socket, and not at the folder.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("open the folder");
        write_settings(folder.path());
        let namespaces = enter_namespaces(folder.path());
        wait_until("the namespaces", || {
            let said = || fs::read_to_string(folder.path().join("namespaces.log"));
            let ready = folder.path().join("ready").exists();
            ready
                .then_some(())
                .ok_or_else(|| said().unwrap_or_default())
        });
        let first = only_child(pid_of(&namespaces));
        let mut hypervisor = Hypervisor {
            libvirtd: None,
            namespaces,
            first,
            folder,
        };
        hypervisor.start_libvirtd();
        hypervisor
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where a client may read and write.
    pub fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.socket().display())
    }

    /// Where a client may only read.
    pub fn read_only_uri(&self) -> String {
        format!(
            "qemu+unix:///system?socket={}",
            self.path("run/libvirt-sock-ro").display()
        )
    }

    /// The socket for reading and writing.
    pub fn socket(&self) -> PathBuf {
        self.path("run/libvirt-sock")
    }

    /// Runs virsh, which must succeed.
    #[track_caller]
    pub fn virsh(&self, arguments: &[&str]) -> String {
        run(&mut self.virsh_command(arguments))
    }

    /// virsh, to be run in a way of the test's own.
    pub fn virsh_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("virsh");
        // What virsh says is compared.
        command.env("LC_ALL", "C");
        command
            .args(["--quiet", "--connect", &self.uri()])
            .args(arguments);
        command
    }

    /// virsh on the read-only socket as a user without any rights; whatever it says.
    pub fn virsh_as_nobody(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
            .args(["virsh", "--quiet", "--readonly", "--connect"])
            .arg(self.read_only_uri())
            .args(arguments);
        run_unchecked(&mut command)
    }

    // --- guests

    /// Defines a guest and makes its disk.
    pub fn define(&self, guest: &Guest) {
        let name = &guest.name;
        let image = guest.disk.as_ref().map(|disk| self.make_disk(name, disk));
        let xml = self.path(&format!("{name}.xml"));
        let text = guest.xml(
            image.as_ref().and_then(|image| image.to_str()),
            &self.serial(name).display().to_string(),
        );
        fs::write(&xml, text).expect("write a file");
        self.virsh(&["define", &xml.display().to_string()]);
    }

    /// Starts a guest, and waits for its boot sector if it has one.
    #[track_caller]
    pub fn start(&self, name: &str) {
        self.virsh(&["start", name]);
        if self.virsh(&["domblklist", name]).contains("hda") {
            self.wait_for_boots(name, 1);
        }
    }

    /// Defines and starts a guest.
    #[track_caller]
    pub fn run(&self, guest: &Guest) {
        self.define(guest);
        self.start(&guest.name);
    }

    pub fn pause(&self, name: &str) {
        self.virsh(&["suspend", name]);
    }

    pub fn resume(&self, name: &str) {
        self.virsh(&["resume", name]);
    }

    /// The reset button: no guest is asked.
    pub fn reset(&self, name: &str) {
        self.virsh(&["reset", name]);
    }

    /// Asks the guest to reboot, and makes it obey: it powers off, and libvirt starts it over.
    pub fn reboot(&self, name: &str) {
        self.virsh(&["reboot", name, "--mode", "acpi"]);
        self.press(name, Key::PowerOff);
    }

    /// Asks the guest to shut down, and makes it obey.
    pub fn shut_down(&self, name: &str) {
        self.virsh(&["shutdown", name, "--mode", "acpi"]);
        self.press(name, Key::PowerOff);
    }

    /// Pulls the plug.
    pub fn destroy(&self, name: &str) {
        self.virsh(&["destroy", name]);
    }

    pub fn undefine(&self, name: &str) {
        self.virsh(&["undefine", name]);
    }

    /// Presses a key of the guest's, which its boot sector waits for. A guest that the key ends may
    /// be gone before its monitor has answered: what came of the key is for the caller to see.
    pub fn press(&self, name: &str, key: Key) {
        let ended = [
            "Unable to read from monitor",
            "End of file from qemu monitor",
        ];
        self.virsh_unless(&["send-key", name, key.code()], &ended);
    }

    /// Runs virsh, which must succeed or fail with one of these words.
    #[track_caller]
    fn virsh_unless(&self, arguments: &[&str], words: &[&str]) {
        let mut command = self.virsh_command(arguments);
        let output = run_unchecked(&mut command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() || words.iter().any(|word| said.contains(word)),
            "{command:?} failed: {said}"
        );
    }

    /// Gives the file system below a small disk room for all of it.
    pub fn give_space(&self, name: &str) {
        let folder = self.small(name).display().to_string();
        self.inside(&[
            "mount",
            "-o",
            &format!("remount,size={GIVEN_MIB}M"),
            &folder,
        ]);
    }

    /// State and reason, such as `paused (I/O error)`.
    #[track_caller]
    pub fn state(&self, name: &str) -> String {
        self.virsh(&["domstate", "--reason", name])
            .trim()
            .to_owned()
    }

    #[track_caller]
    pub fn wait_for_state(&self, name: &str, state: &str) {
        wait_until(state, || match self.state(name) {
            is if is == state => Ok(()),
            is => Err(format!("{name} is {is}")),
        });
    }

    /// Whether this libvirtd knows the guest.
    pub fn knows(&self, name: &str) -> bool {
        let names = self.virsh(&["list", "--all", "--name"]);
        names.lines().any(|line| line == name)
    }

    /// Waits until the guest's boot sector has run so often since the guest was started.
    #[track_caller]
    pub fn wait_for_boots(&self, name: &str, boots: usize) {
        wait_until("the guest to boot", || match self.boots(name) {
            is if is == boots => Ok(()),
            is => Err(format!("{name} has booted {is} times, not {boots}")),
        });
    }

    fn boots(&self, name: &str) -> usize {
        let serial = fs::read(self.serial(name)).unwrap_or_default();
        serial.iter().filter(|byte| **byte == BOOTED).count()
    }

    /// The pid of a guest's QEMU.
    #[track_caller]
    pub fn qemu(&self, name: &str) -> Pid {
        let word = format!("guest={name},");
        let found = self
            .processes()
            .into_iter()
            .find(|pid| command_line(*pid).iter().any(|arg| arg.starts_with(&word)));
        found.unwrap_or_else(|| panic!("{name} has no QEMU"))
    }

    /// kill -9 of a guest's QEMU.
    pub fn kill_qemu(&self, name: &str) {
        signal(self.qemu(name), Signal::SIGKILL);
    }

    /// Stops a guest's QEMU by SIGSTOP; libvirt isn't told.
    pub fn freeze_qemu(&self, name: &str) {
        freeze(self.qemu(name));
    }

    pub fn thaw_qemu(&self, name: &str) {
        signal(self.qemu(name), Signal::SIGCONT);
    }

    /// Migrates a running guest to another hypervisor of this machine, and waits for the end. The
    /// guest stays defined where it was if `keep` says so, as no guest of Nova's does.
    pub fn migrate(&self, name: &str, to: &Hypervisor, keep: bool) {
        run(&mut self.migration(name, to, keep));
    }

    /// Starts a migration that never ends by itself if [`Key::Dirty`] was pressed;
    /// [`Self::hurry_migration`] ends it.
    pub fn migrate_slowly(&self, name: &str, to: &Hypervisor) -> Process {
        let mut command = self.migration(name, to, false);
        let process = Process::start(
            command.args(["--bandwidth", "1"]),
            &self.path("migration.log"),
        );
        wait_for("the guest to arrive", || to.knows(name).then_some(()));
        process
    }

    /// Lets a slow migration end. The bandwidth alone may be enough, and the guest gone before it is
    /// allowed a longer pause.
    pub fn hurry_migration(&self, name: &str) {
        self.virsh(&["migrate-setspeed", name, "1000"]);
        let over = [
            "domain is not running",
            "domain is not being migrated",
            "failed to get domain",
            "Domain not found",
        ];
        self.virsh_unless(&["migrate-setmaxdowntime", name, "5000"], &over);
    }

    fn migration(&self, name: &str, to: &Hypervisor, keep: bool) -> Command {
        let between = format!("unix://{}", to.path("migration").display());
        let mut command = self.virsh_command(&["migrate", name, &to.uri()]);
        // Unsafe by libvirt's rules, as each disk here is a plain file; nothing else has it open.
        command.args([
            "--live",
            "--p2p",
            "--persistent",
            "--unsafe",
            "--migrateuri",
        ]);
        command.arg(between);
        if !keep {
            command.arg("--undefinesource");
        }
        command
    }

    // --- libvirtd

    /// Stops libvirtd by SIGSTOP: connections are still accepted by the kernel, and then nothing.
    pub fn freeze(&self) {
        freeze(self.libvirtd());
    }

    pub fn thaw(&self) {
        signal(self.libvirtd(), Signal::SIGCONT);
    }

    /// kill -9 of libvirtd; the guests run on.
    pub fn kill_libvirtd(&mut self) {
        let pid = self.libvirtd();
        signal(pid, Signal::SIGKILL);
        // nsenter waits for libvirtd, but after a SIGSTOP of libvirtd's it is stopped itself.
        self.libvirtd.take().expect("a libvirtd").kill();
        wait_for("libvirtd to be gone", || (!is_there(pid)).then_some(()));
    }

    /// Starts libvirtd again and waits until it answers.
    pub fn start_libvirtd(&mut self) {
        self.begin_libvirtd();
        self.wait_for_libvirtd();
    }

    /// Starts libvirtd and doesn't wait, so that a client may come too early.
    pub fn begin_libvirtd(&mut self) {
        assert!(self.libvirtd.is_none(), "libvirtd runs already");
        let mut command = self.enter();
        command.args(["libvirtd", "--config"]);
        command.arg(self.path("libvirtd.conf"));
        command.arg("--pid-file").arg(self.path("libvirtd.pid"));
        self.libvirtd = Some(Process::start(&mut command, &self.path("libvirtd.log")));
    }

    /// Waits until libvirtd answers.
    pub fn wait_for_libvirtd(&self) {
        wait_until("libvirtd to answer", || {
            let output = run_unchecked(&mut self.virsh_command(&["list"]));
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success().then_some(()).ok_or(error)
        });
    }

    /// How many clients the kernel has connected that libvirtd hasn't fetched yet.
    pub fn waiting(&self) -> usize {
        let socket = self.socket().display().to_string();
        // For a socket that listens, the second column is the length of its queue.
        let line = self.inside(&["ss", "-xlH", "src", &socket]);
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns[2].parse().expect("a number")
    }

    /// Takes the right to read from everybody but root, or gives it back.
    pub fn forbid(&self, forbidden: bool) {
        let mode = if forbidden { 0o700 } else { 0o777 };
        fs::set_permissions(
            self.path("run/libvirt-sock-ro"),
            Permissions::from_mode(mode),
        )
        .expect("change the socket's mode");
    }

    /// The pid of libvirtd.
    pub fn libvirtd(&self) -> Pid {
        let nsenter = self.libvirtd.as_ref().expect("a libvirtd").pid();
        only_child(Pid::from_raw(i32::try_from(nsenter).expect("a pid")))
    }

    /// Listens to everything that libvirt tells, from now on.
    pub fn events(&self) -> Events {
        let mut command = self.virsh_command(&["event", "--all", "--loop", "--timestamp"]);
        let number = HYPERVISORS.fetch_add(1, Ordering::Relaxed);
        let log = self.path(&format!("events-{number}.log"));
        let events = Events {
            process: Process::start(&mut command, &log),
        };
        // virsh doesn't say when it has begun to listen, so it is told something until it hears.
        wait_for("virsh to listen", || {
            self.define(&Guest::idle("marker"));
            self.undefine("marker");
            (!events.of("marker").is_empty()).then_some(())
        });
        events
    }

    // --- below

    /// Runs a command inside the namespaces.
    #[track_caller]
    pub fn inside(&self, line: &[&str]) -> String {
        run(self.enter().args(line))
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("setpriv");
        let first = self.first.to_string();
        command.args(["--pdeathsig", "KILL", "nsenter"]);
        command.args(["--mount", "--net", "--pid", "--target", &first]);
        command
    }

    /// Every process of the namespaces, as it is called outside.
    pub fn processes(&self) -> Vec<Pid> {
        let own = pid_namespace(self.first).expect("process 1 runs");
        all_processes()
            .filter(|pid| pid_namespace(*pid).as_ref() == Some(&own))
            .collect()
    }

    fn serial(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.serial"))
    }

    /// The folder of a small disk, which has something in it inside alone.
    fn small(&self, name: &str) -> PathBuf {
        self.path(&format!("small-{name}"))
    }

    /// Makes the image of a disk and returns its path inside.
    fn make_disk(&self, name: &str, disk: &Disk) -> PathBuf {
        match disk {
            Disk::Own => {
                let image = self.path(&format!("{name}.img"));
                make_image(&image, OWN_BYTES);
                image
            }
            Disk::At(image) => {
                make_image(image, OWN_BYTES);
                image.clone()
            }
            Disk::Small => self.make_small_disk(name),
        }
    }

    fn make_small_disk(&self, name: &str) -> PathBuf {
        let folder = self.small(name);
        let at = folder.display().to_string();
        fs::create_dir_all(&folder).expect("make a folder");
        let size = format!("size={SMALL_MIB}M");
        self.inside(&["mount", "-t", "tmpfs", "-o", &size, "small", &at]);
        let image = folder.join("disk.img");
        let inside = format!("/proc/{}/root{}", self.first, image.display());
        make_image(Path::new(&inside), SMALL_BYTES);
        image
    }

    /// What QEMU printed, for a test that failed.
    fn qemu_logs(&self) -> String {
        let folder = format!("/proc/{}/root/var/log/libvirt/qemu", self.first);
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        files
            .map(|file| fs::read_to_string(file.path()).unwrap_or_default())
            .collect()
    }
}

impl Drop for Hypervisor {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- QEMU\n{}", self.qemu_logs());
        }
        // The kernel ends whatever is in a process namespace with its process 1.
        let _ = kill(self.first, Signal::SIGKILL);
        // Process 1 ends once somebody has taken in everything else, and a stopped nsenter never
        // takes libvirtd in: it has to end too.
        drop(self.libvirtd.take());
        let _ = self.namespaces.wait();
    }
}

/// What `virsh event` heard.
pub struct Events {
    process: Process,
}

impl Events {
    /// What was told about a guest so far, in order, such as `lifecycle: Stopped Failed`.
    pub fn of(&self, name: &str) -> Vec<String> {
        let log = self.process.log();
        log.lines().filter_map(|line| event(line, name)).collect()
    }

    /// Waits until this was told about a guest; returns everything about it so far.
    #[track_caller]
    pub fn wait_for(&self, name: &str, wanted: &str) -> Vec<String> {
        wait_until(wanted, || match self.of(name) {
            told if told.iter().any(|event| event == wanted) => Ok(told),
            told => Err(format!("told about {name}: {told:#?}")),
        })
    }

    /// Waits until exactly this was told about a guest, in this order, after so many events before.
    #[track_caller]
    pub fn wait_for_all(&self, name: &str, before: usize, wanted: &[&str]) {
        wait_until("these events", || {
            let told = self.of(name).split_off(before);
            if told == wanted {
                return Ok(());
            }
            Err(format!("told about {name}: {told:#?}\nnot {wanted:#?}"))
        });
    }
}

/// One line of `virsh event`: `TIME: event 'KIND' for domain 'NAME'[: DETAIL]`.
fn event(line: &str, name: &str) -> Option<String> {
    let (kind, rest) = line
        .split_once(": event '")?
        .1
        .split_once("' for domain '")?;
    match rest.split_once('\'')? {
        (domain, detail) if domain == name => Some(format!("{kind}{detail}")),
        _ => None,
    }
}

fn write_settings(folder: &Path) {
    for name in ["run", "layers"] {
        fs::create_dir(folder.join(name)).expect("make a folder");
    }
    let number = HYPERVISORS.fetch_add(1, Ordering::Relaxed);
    // Two nodes of one migration must not be one host, and without a real machine's number they are.
    let libvirtd = format!(
        "unix_sock_dir = \"{}\"
unix_sock_ro_perms = \"0777\"
unix_sock_rw_perms = \"0700\"
auth_unix_ro = \"none\"
auth_unix_rw = \"none\"
host_uuid = \"{:08x}-1111-4111-8111-{number:012x}\"
",
        folder.join("run").display(),
        std::process::id(),
    );
    fs::write(folder.join("libvirtd.conf"), libvirtd).expect("write a file");
    let qemu = "user = \"root\"
group = \"root\"
dynamic_ownership = 0
remember_owner = 0
security_driver = \"none\"
namespaces = [ ]
cgroup_controllers = [ ]
stdio_handler = \"file\"
";
    fs::write(folder.join("qemu.conf"), qemu).expect("write a file");
}

/// Makes the namespaces, which last as long as the test.
fn enter_namespaces(folder: &Path) -> Child {
    let log = File::create(folder.join("namespaces.log")).expect("open the log");
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .args(["unshare", "--mount", "--net", "--pid", "--mount-proc"])
        .args(["--fork", "--kill-child", "sh", "-euc", INSIDE, "sh"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("share the log"))
        .stderr(log);
    command.spawn().expect("run setpriv")
}

/// Makes a disk with the boot sector unless it is there.
fn make_image(image: &Path, bytes: u64) {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(image);
    let mut file = file.expect("make a disk");
    file.set_len(bytes).expect("size a disk");
    file.seek(SeekFrom::Start(0)).expect("seek in a disk");
    file.write_all(&boot_sector()).expect("write a boot sector");
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a pid"))
}

fn signal(pid: Pid, signal: Signal) {
    kill(pid, signal).expect("signal a running process");
}

/// SIGSTOP, and waits until every thread has stopped.
fn freeze(pid: Pid) {
    signal(pid, Signal::SIGSTOP);
    wait_for("the process to stop", || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
        let mut states = tasks.flatten().map(|task| state_letter(&task.path()));
        states.all(|state| state == Some('T')).then_some(())
    });
}

/// The letter for what a process or thread is doing; None once it is gone.
fn state_letter(folder: &Path) -> Option<char> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn is_there(pid: Pid) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The one child that a process that only waits has.
fn only_child(parent: Pid) -> Pid {
    let file = format!("/proc/{parent}/task/{parent}/children");
    wait_for("the child", || {
        let children = fs::read_to_string(&file).ok()?;
        Some(Pid::from_raw(children.trim().parse().ok()?))
    })
}

fn all_processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").expect("read /proc").flatten();
    entries.filter_map(|entry| Some(Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)))
}

fn pid_namespace(pid: Pid) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

fn command_line(pid: Pid) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}
