//! The spool's folder on a disk: `state_path/spool/NAME`, for the owner alone. Who has its lock is the only
//! one to use it; the lock is the kernel's and ends with its process.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use super::record::Place;
use super::store::Folder;

/// Damaged segments that are kept for somebody to look at, beside what the spool may hold. The oldest go.
const SET_ASIDE_MAX: usize = 4;

/// The name of a path is shortened to so many characters, with a digest behind it.
const NAME_CHARS_MAX: usize = 64;

/// How a segment's file ends.
const SEGMENT: &str = "seg";
/// How one ends that was set aside.
const DAMAGED: &str = "damaged";

/// The folder of a publisher's spool below this one. Its name begins with what is readable of the path, and
/// ends with a digest of all of it.
pub fn folder_of(state_path: &Path, publisher: &str) -> PathBuf {
    let readable = publisher
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("-");
    let mut name: String = readable.chars().take(NAME_CHARS_MAX).collect();
    let digest = Sha256::digest(publisher.as_bytes());
    name.push('.');
    for byte in digest.iter().take(8) {
        name.push_str(&format!("{byte:02x}"));
    }
    state_path.join("spool").join(name)
}

/// A folder on a disk, locked.
#[derive(Debug)]
pub struct DiskFolder {
    path: PathBuf,
    /// Held for as long as the folder is in use.
    _lock: Flock<File>,
    progress: File,
    /// The segment that is being written.
    writing: Option<(u64, File)>,
}

impl DiskFolder {
    /// Makes the folder if need be, and locks it.
    pub fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        // The folder itself must outlive a power failure, or what is in it won't.
        for folder in path.ancestors().take(3) {
            sync_folder(folder)?;
        }
        let lock = Flock::lock(open(&path.join("lock"))?, FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|(_, error)| match error {
            Errno::EWOULDBLOCK => io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another publisher or agent uses this spool",
            ),
            other => other.into(),
        })?;
        Ok(DiskFolder {
            path: path.to_owned(),
            _lock: lock,
            progress: open(&path.join("progress"))?,
            writing: None,
        })
    }

    fn file_of(&self, segment: u64, ending: &str) -> PathBuf {
        self.path.join(format!("{segment:020}.{ending}"))
    }

    /// The files with this ending, by number.
    fn numbers(&self, ending: &str) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            let number = name
                .strip_suffix(ending)
                .and_then(|name| name.strip_suffix('.'));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A new file for a segment; what a failed attempt left there is overwritten.
    fn begin(&self, segment: u64) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let new = options.write(true).create(true).truncate(true);
        new.mode(0o600).open(self.file_of(segment, SEGMENT))
    }
}

impl Folder for DiskFolder {
    fn segments(&mut self) -> io::Result<Vec<u64>> {
        self.numbers(SEGMENT)
    }

    fn read(&mut self, segment: u64, offset: usize, most: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.file_of(segment, SEGMENT))?;
        file.seek(SeekFrom::Start(wide(offset)))?;
        let mut bytes = Vec::new();
        file.take(wide(most)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn append(&mut self, at: Place, bytes: &[u8]) -> io::Result<()> {
        let file = match self.writing.take() {
            Some((segment, file)) if segment == at.segment && at.offset > 0 => file,
            _ if at.offset == 0 => self.begin(at.segment)?,
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        file.write_all_at(bytes, wide(at.offset))?;
        file.sync_data()?;
        if at.offset == 0 {
            sync_folder(&self.path)?;
        }
        if file.metadata()?.nlink() == 0 {
            let error = "somebody deleted the file of the spool that was being written";
            return Err(io::Error::new(io::ErrorKind::NotFound, error));
        }
        // Only a file whose last write was safe is appended to.
        self.writing = Some((at.segment, file));
        Ok(())
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        match fs::remove_file(self.file_of(segment, SEGMENT)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn set_aside(&mut self, segment: u64) -> io::Result<()> {
        let (from, to) = (
            self.file_of(segment, SEGMENT),
            self.file_of(segment, DAMAGED),
        );
        match fs::rename(from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        }
        let kept = self.numbers(DAMAGED)?;
        let surplus = kept.len().saturating_sub(SET_ASIDE_MAX);
        for number in kept.into_iter().take(surplus) {
            fs::remove_file(self.file_of(number, DAMAGED))?;
        }
        Ok(())
    }

    fn progress(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.progress.seek(SeekFrom::Start(0))?;
        (&self.progress).take(64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn set_progress(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.progress.write_all_at(bytes, 0)
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false);
    file.mode(0o600).open(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
