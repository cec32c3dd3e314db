//! A file system of the test's own that can be frozen: ext4 on a loop device.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::run;

/// The size where a test doesn't name one.
const BYTES: u64 = 64 << 20;

/// A disk, mounted. It must outlive whoever uses it, so make it first.
pub struct Disk {
    at: PathBuf,
    frozen: Option<Child>,
}

impl Disk {
    /// Makes one and mounts it here.
    pub fn at(path: &Path) -> Self {
        Disk::of(BYTES, path)
    }

    /// The same of another size.
    pub fn of(bytes: u64, path: &Path) -> Self {
        assert!(
            Path::new("/dev/loop-control").exists(),
            "these tests freeze a file system and need loop devices"
        );
        let image = path.with_extension("img");
        let file = File::create(&image).expect("make a file");
        file.set_len(bytes).expect("make it long");
        run(Command::new("mkfs.ext4").arg("-q").arg(&image));
        fs::create_dir_all(path).expect("make a folder");
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(path));
        Disk {
            at: path.to_owned(),
            frozen: None,
        }
    }

    /// From now on whoever writes to it waits. A process of its own thaws it when its pipe to this
    /// one closes, so that a test that is killed leaves nothing frozen.
    pub fn freeze(&mut self) {
        let mut holder = Command::new("sh")
            .args([
                "-c",
                "fsfreeze -f \"$0\" && echo frozen && read end; fsfreeze -u \"$0\"",
            ])
            .arg(&self.at)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a shell");
        let mut line = String::new();
        let stdout = holder.stdout.as_mut().expect("its stdout");
        BufReader::new(stdout).read_line(&mut line).expect("hear");
        assert_eq!(line, "frozen\n");
        self.frozen = Some(holder);
    }

    /// It takes what waited.
    pub fn thaw(&mut self) {
        if let Some(mut holder) = self.frozen.take() {
            drop(holder.stdin.take());
            holder.wait().expect("wait for the shell");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        // Lazily, because a process of a test that failed may still be there for a moment.
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}
