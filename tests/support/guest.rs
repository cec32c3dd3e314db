//! A guest of a [`Hypervisor`](super::hypervisor::Hypervisor): its XML, and a boot sector in place
//! of an operating system. The sector waits for a key, and what happens next is what the key says,
//! so a test brings each situation about from inside the guest at a moment of its own choice.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// The bytes of a sector, and where the BIOS loads the first one.
const SECTOR_BYTES: usize = 512;
/// What the guest writes to its serial port whenever it has booted.
pub const BOOTED: u8 = b'R';

static GUESTS: AtomicU32 = AtomicU32::new(1);

/// What a key makes the boot sector do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Resets the machine, as a guest that reboots does.
    Reboot,
    /// Powers the machine off, as a guest that was shut down does.
    PowerOff,
    /// Tells the panic device that the kernel has crashed.
    Panic,
    /// Arms the watchdog with no time at all, so that it bites at once.
    Watchdog,
    /// Writes the disk full, beginning behind the boot sector.
    Write,
    /// Changes memory for ever, so that a slow migration never ends.
    Dirty,
}

impl Key {
    const ALL: [Key; 6] = [
        Key::Reboot,
        Key::PowerOff,
        Key::Panic,
        Key::Watchdog,
        Key::Write,
        Key::Dirty,
    ];

    /// The name by which libvirt sends it.
    pub fn code(self) -> &'static str {
        match self {
            Key::Reboot => "KEY_R",
            Key::PowerOff => "KEY_O",
            Key::Panic => "KEY_P",
            Key::Watchdog => "KEY_W",
            Key::Write => "KEY_D",
            Key::Dirty => "KEY_M",
        }
    }

    /// What the BIOS makes of it.
    fn letter(self) -> u8 {
        match self {
            Key::Reboot => b'r',
            Key::PowerOff => b'o',
            Key::Panic => b'p',
            Key::Watchdog => b'w',
            Key::Write => b'd',
            Key::Dirty => b'm',
        }
    }

    /// The 16-bit code that the key starts; it returns to the wait for the next key behind its end.
    fn instructions(self) -> &'static [&'static [u8]] {
        match self {
            Key::Reboot => &[
                &[0xb0, 0xfe], // mov al, 0feh
                &[0xe6, 0x64], // out 64h, al       the keyboard controller pulls the reset line
            ],
            Key::PowerOff => &[
                &[0xba, 0x04, 0x06], // mov dx, 604h      PM1a control, where SeaBIOS puts it
                &[0xb8, 0x00, 0x20], // mov ax, 2000h     sleep enable, type 0: off
                &[0xef],             // out dx, ax
            ],
            Key::Panic => &[
                &[0xba, 0x05, 0x05], // mov dx, 505h      pvpanic
                &[0xb0, 0x01],       // mov al, 1         the guest has panicked
                &[0xee],             // out dx, al
            ],
            Key::Watchdog => &[
                &[0xba, 0x43, 0x04], // mov dx, 443h      ib700: enable
                &[0xb0, 0x0f],       // mov al, 0fh       in 0 s
                &[0xee],             // out dx, al
            ],
            Key::Write => &[
                &[0xbe, 0x00, 0x7e],       // mov si, 7e00h     the packet that int 13h reads
                &[0xc7, 0x04, 0x10, 0x00], // mov word [si], 16        its own length
                &[0xc7, 0x44, 0x02, 0x7f, 0x00], // mov word [si+2], 127     sectors
                &[0xc7, 0x44, 0x04, 0x00, 0x00], // mov word [si+4], 0       from 1000:0000
                &[0xc7, 0x44, 0x06, 0x00, 0x10], // mov word [si+6], 1000h
                &[0xc7, 0x44, 0x08, 0x01, 0x00], // mov word [si+8], 1       to sector 1
                &[0xc7, 0x44, 0x0a, 0x00, 0x00], // mov word [si+10], 0
                &[0xc7, 0x44, 0x0c, 0x00, 0x00], // mov word [si+12], 0
                &[0xc7, 0x44, 0x0e, 0x00, 0x00], // mov word [si+14], 0
                &[0xb2, 0x80],             // again: mov dl, 80h       the first disk
                &[0xb8, 0x00, 0x43],       // mov ax, 4300h            write by packet
                &[0xcd, 0x13],             // int 13h
                &[0x72, 0x0a],             // jc end                   behind the disk's end
                &[0x83, 0x44, 0x08, 0x7f], // add word [si+8], 127
                &[0x83, 0x54, 0x0a, 0x00], // adc word [si+10], 0
                &[0xeb, 0xed],             // jmp again
            ],
            Key::Dirty => &[
                &[0xfc],                   // cld
                &[0xbb, 0x00, 0x10],       // round: mov bx, 1000h
                &[0x8e, 0xc3],             // segment: mov es, bx
                &[0x31, 0xff],             // xor di, di
                &[0xb9, 0x00, 0x80],       // mov cx, 8000h
                &[0xf3, 0xab],             // rep stosw         64 KiB of another value
                &[0x81, 0xc3, 0x00, 0x10], // add bx, 1000h
                &[0x81, 0xfb, 0x00, 0x90], // cmp bx, 9000h
                &[0x72, 0xed],             // jb segment
                &[0x40],                   // inc ax
                &[0xeb, 0xe7],             // jmp round
            ],
        }
    }
}

/// The whole sector: it sets up segments and stack, says that it has booted, and waits for keys.
pub fn boot_sector() -> Vec<u8> {
    let start: &[&[u8]] = &[
        &[0xfa],             // cli
        &[0x31, 0xc0],       // xor ax, ax
        &[0x8e, 0xd8],       // mov ds, ax
        &[0x8e, 0xc0],       // mov es, ax
        &[0x8e, 0xd0],       // mov ss, ax
        &[0xbc, 0x00, 0x7c], // mov sp, 7c00h     the stack grows down from the sector
        &[0xfb],             // sti
        &[0xba, 0xf8, 0x03], // mov dx, 3f8h      the first serial port
        &[0xb0, BOOTED],     // mov al, 'R'
        &[0xee],             // out dx, al
    ];
    let mut code = start.concat();
    let wait = code.len();
    code.extend([0xb4, 0x00]); // wait: mov ah, 0
    code.extend([0xcd, 0x16]); // int 16h           the next key into al; halted until then
    for key in Key::ALL {
        let mut body = key.instructions().concat();
        let after_compare = code.len() + 4;
        body.extend(jump(after_compare + body.len(), wait));
        code.extend([0x3c, key.letter()]); // cmp al, letter
        code.extend([0x75, u8::try_from(body.len()).expect("a short jump")]); // jne behind the body
        code.extend(body);
    }
    code.extend(jump(code.len(), wait));
    assert!(code.len() <= SECTOR_BYTES - 2, "the code overflows");
    code.resize(SECTOR_BYTES - 2, 0);
    code.extend([0x55, 0xaa]); // what makes a sector bootable
    code
}

/// `jmp to`, for an instruction at `from`; both count from the start of the sector.
fn jump(from: usize, to: usize) -> [u8; 3] {
    let behind = i16::try_from(from + 3).expect("within the sector");
    let distance = i16::try_from(to).expect("within the sector") - behind;
    let [low, high] = distance.to_le_bytes();
    [0xe9, low, high]
}

/// The disk of a guest; each has the boot sector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// A file of the guest's own, with room enough.
    Own,
    /// Much larger than the file system that it is on.
    Small,
    /// This file, which several hypervisors may see.
    At(PathBuf),
}

/// What Nova writes about an instance into its domain.
#[derive(Debug, Clone)]
pub struct Nova {
    pub display_name: String,
    pub flavor: String,
    pub user_id: String,
    pub project_id: String,
    /// None: booted from a volume.
    pub image: Option<String>,
}

/// What a test wants of a guest: by default 16 MiB, no KVM and no device that isn't needed.
#[derive(Debug, Clone)]
pub struct Guest {
    pub name: String,
    pub uuid: String,
    pub disk: Option<Disk>,
    on_crash: &'static str,
    watchdog: &'static str,
    nova: Option<Nova>,
    interface: Option<String>,
    has_balloon: bool,
}

impl Guest {
    /// A guest with nothing to boot: it halts in its BIOS, and is the cheapest that runs.
    pub fn idle(name: &str) -> Self {
        let number = GUESTS.fetch_add(1, Ordering::Relaxed);
        Guest {
            name: name.to_owned(),
            uuid: format!("{:08x}-0000-4000-8000-{number:012x}", std::process::id()),
            disk: None,
            on_crash: "preserve",
            watchdog: "pause",
            nova: None,
            interface: None,
            has_balloon: false,
        }
    }

    /// A guest with the boot sector, which does what keys say.
    pub fn new(name: &str) -> Self {
        Guest::idle(name).disk(Disk::Own)
    }

    pub fn disk(mut self, disk: Disk) -> Self {
        self.disk = Some(disk);
        self
    }

    /// What libvirt does when the guest says that it has crashed: `preserve`, `destroy`, `restart`.
    pub fn on_crash(mut self, action: &'static str) -> Self {
        self.on_crash = action;
        self
    }

    /// What happens when the watchdog bites: `pause`, `reset`, `poweroff`, `shutdown`, `none`.
    pub fn watchdog(mut self, action: &'static str) -> Self {
        self.watchdog = action;
        self
    }

    pub fn nova(mut self, nova: Nova) -> Self {
        self.nova = Some(nova);
        self
    }

    /// Gives it a tap interface of this name, which exists in its hypervisor's network alone.
    pub fn interface(mut self, tap: &str) -> Self {
        self.interface = Some(tap.to_owned());
        self
    }

    /// Gives it a balloon, which memory statistics come from.
    pub fn balloon(mut self) -> Self {
        self.has_balloon = true;
        self
    }

    /// The domain, with its disk's image and the file behind its serial port.
    pub fn xml(&self, image: Option<&str>, serial: &str) -> String {
        let balloon = if self.has_balloon { "virtio" } else { "none" };
        format!(
            "<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
{metadata}  <memory unit='MiB'>16</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>{on_crash}</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
{disk}{interface}    <controller type='usb' model='none'/>
    <serial type='file'><source path='{serial}'/></serial>
    <watchdog model='ib700' action='{watchdog}'/>
    <panic model='isa'/>
    <memballoon model='{balloon}'/>
  </devices>
</domain>
",
            name = self.name,
            uuid = self.uuid,
            metadata = self.nova.as_ref().map(metadata).unwrap_or_default(),
            on_crash = self.on_crash,
            disk = image.map(disk).unwrap_or_default(),
            interface = self.interface.as_deref().map(interface).unwrap_or_default(),
            watchdog = self.watchdog,
        )
    }
}

/// A disk that pauses the guest on an error, as Nova's do. The page cache stays between, because
/// not every kernel has direct IO on a tmpfs.
fn disk(image: &str) -> String {
    format!(
        "    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='writeback' error_policy='stop'/>
      <source file='{image}'/><target dev='hda' bus='ide'/>
    </disk>
"
    )
}

fn interface(tap: &str) -> String {
    format!(
        "    <interface type='ethernet'><target dev='{tap}'/><model type='virtio'/></interface>\n"
    )
}

fn metadata(nova: &Nova) -> String {
    let mut text = String::from(
        "  <metadata>\n    <nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>\n",
    );
    let _ = write!(
        text,
        "      <nova:package version='27.5.0'/>
      <nova:name>{}</nova:name>
      <nova:creationTime>2026-01-02 03:04:05</nova:creationTime>
      <nova:flavor name='{}'>
        <nova:memory>16</nova:memory><nova:disk>1</nova:disk><nova:swap>0</nova:swap>
        <nova:ephemeral>0</nova:ephemeral><nova:vcpus>1</nova:vcpus>
      </nova:flavor>
      <nova:owner>
        <nova:user uuid='{}'>somebody</nova:user><nova:project uuid='{}'>demo</nova:project>
      </nova:owner>
",
        nova.display_name, nova.flavor, nova.user_id, nova.project_id
    );
    if let Some(image) = &nova.image {
        let _ = writeln!(text, "      <nova:root type='image' uuid='{image}'/>");
    }
    text + "    </nova:instance>\n  </metadata>\n"
}
