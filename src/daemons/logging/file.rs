//! A log file. Whoever rotates may move it away, delete it or cut it to nothing; all of it is
//! noticed, and a signal only makes it sooner.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::outlet::Destination;
use super::record::{Form, Record};
use super::stream::Stream;

/// For the owner, and for a group that may read logs.
const MODE: u32 = 0o640;

/// The file at a path.
pub(super) struct LogFile {
    path: PathBuf,
    form: Form,
    file: Option<File>,
    stream: Stream,
}

impl LogFile {
    /// Not opened yet: a disk may hang.
    pub(super) fn new(path: &Path, form: Form) -> Self {
        LogFile {
            path: path.to_owned(),
            form,
            file: None,
            stream: Stream::default(),
        }
    }

    /// Whether the path leads to the file that is open.
    fn is_in_place(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let open = self.file.as_ref().and_then(|file| file.metadata().ok());
        let at_path = fs::metadata(&self.path).ok();
        open.is_some() && open.map(identity) == at_path.map(identity)
    }
}

impl Destination for LogFile {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        if self.file.is_none() {
            self.open()?;
        }
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        self.stream.write(file, || record.line(self.form))
    }

    /// Opens what is at the path, or makes it. What was open stays so until that has worked.
    fn open(&mut self) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        // Appending, every line goes to the end, also of a file that was cut to nothing.
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .append(true)
            .mode(MODE)
            .open(&self.path)?;
        self.file = Some(file);
        self.stream.forget();
        Ok(())
    }

    fn look(&mut self) {
        if self.file.is_some() && !self.is_in_place() {
            self.reopen();
        }
    }

    fn reopen(&mut self) {
        if let Err(error) = self.open() {
            tracing::warn!(file = %self.path.display(), %error, "the log file can't be opened anew");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UtcTime;

    fn lines(path: &Path) -> usize {
        fs::read_to_string(path).unwrap_or_default().lines().count()
    }

    #[test]
    fn a_file_that_is_moved_deleted_or_cut_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("a/log"), folder.path().join("log.1"));
        let mut log = LogFile::new(&path, Form::Text);
        let record = Record::lost(1, UtcTime::from_unix_micros(0));
        log.write(&record).unwrap();
        fs::rename(&path, &moved).unwrap();
        log.write(&record).unwrap();
        assert_eq!(
            (lines(&moved), lines(&path)),
            (2, 0),
            "until it is looked at"
        );
        log.look();
        log.write(&record).unwrap();
        assert_eq!((lines(&moved), lines(&path)), (2, 1));
        File::create(&path).unwrap();
        log.look();
        log.write(&record).unwrap();
        assert!(
            !fs::read(&path).unwrap().contains(&0),
            "at the end of what is left"
        );
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        log.look();
        log.write(&record).unwrap();
        assert_eq!(lines(&path), 1);
    }
}
