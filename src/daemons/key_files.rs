//! Writes the files of keys, for their owner alone: a collector's line by line, a node's as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The mode of a file that holds a key.
const OWNER_ALONE: u32 = 0o600;

/// Adds a line to a keys file: to a copy, which takes the file's place once it is on the disk, with the
/// same mode and owner. A file that isn't there is made.
pub(super) fn append(path: &Path, line: &str) -> io::Result<()> {
    let (mut text, mode, owner) = match fs::metadata(path) {
        Ok(found) => (
            fs::read_to_string(path)?,
            found.permissions().mode() & 0o7777,
            Some((found.uid(), found.gid())),
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (String::new(), OWNER_ALONE, None),
        Err(error) => return Err(error),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let draft = path.with_file_name(name);
    let written = write_new(&draft, &text, mode, owner).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Writes a file that must not be there yet, for its owner alone.
pub(super) fn write_own(path: &Path, text: &str) -> io::Result<()> {
    write_new(path, text, OWNER_ALONE, None)
}

fn write_new(path: &Path, text: &str, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWNER_ALONE)
        .open(path)?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::fchown(&file, Some(user), Some(group))?;
    }
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
