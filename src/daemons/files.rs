//! Reads the configuration's files for the modules that only know texts.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{ConfigArgs, DaemonError, output};
#[cfg(feature = "collector")]
use crate::config::Settings;
use crate::config::{
    ConfigText, Draft, FILE_BYTES_MAX, Inputs, Loaded, Problem, Purpose, SECRET_BYTES_MAX,
    SecretText,
};

/// The variable by which systemd says where a unit's credentials are.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// The mode's bit that lets every user read.
const READ_BY_OTHERS: u32 = 0o004;

/// The usual way of [`load`]: says what is odd on stderr.
pub fn load_settings(args: &ConfigArgs, purpose: Purpose) -> Result<Loaded, DaemonError> {
    let loaded = load(args, purpose)?;
    print(&loaded.warnings);
    Ok(loaded)
}

/// Reads and checks the configuration: files in the order given, then the files of directories, then
/// systemd's credentials, then the environment. It says nothing.
pub(super) fn load(args: &ConfigArgs, purpose: Purpose) -> Result<Loaded, DaemonError> {
    let mut paths = args.config_file.clone();
    for folder in &args.config_dir {
        paths.extend(files_in(folder)?);
    }
    let files = paths
        .iter()
        .map(|path| read(path))
        .collect::<Result<Vec<_>, _>>()?;
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let credentials = match std::env::var_os(CREDENTIALS) {
        Some(folder) => sorted(Path::new(&folder))?
            .iter()
            .map(|path| secret(path))
            .collect(),
        None => Vec::new(),
    };
    let inputs = Inputs {
        files: &files,
        credentials: &credentials,
        environment: &environment,
        strict: args.strict,
    };
    let draft = Draft::read(purpose, &inputs).map_err(DaemonError::Config)?;
    let secrets: Vec<SecretText> = draft
        .secret_files()
        .iter()
        .map(|path| secret(path))
        .collect();
    draft
        .check(&host_name(), &secrets)
        .map_err(DaemonError::Config)
}

/// Reads the pipeline file that the settings name; gives back what is odd about it as well.
#[cfg(feature = "agent")]
pub(super) fn load_pipeline(
    path: &Path,
    against: &crate::pipeline::Against,
) -> Result<(crate::pipeline::Pipeline, Vec<Problem>), DaemonError> {
    let text = read(path)?;
    crate::pipeline::parse(&text.path, &text.text, against).map_err(DaemonError::Config)
}

/// What a file holds, shortened so that two looks can be compared; None if it can't be read.
#[cfg(feature = "agent")]
pub(super) fn fingerprint(path: &Path) -> Option<[u8; 32]> {
    use sha2::{Digest, Sha256};
    Some(Sha256::digest(fs::read(path).ok()?).into())
}

/// Reads the list of hosts to look at into `list`; gives back what is odd or wrong about it.
#[cfg(feature = "agent")]
pub(super) fn load_hosts(
    path: &Path,
    list: &mut crate::pollsters::hosts::list::List,
) -> Result<Vec<Problem>, DaemonError> {
    let text = read(path)?;
    Ok(list.read_file(&text.path, &text.text))
}

/// Makes `state_path`, where the embedded database is unless an option says otherwise. Where that
/// fails, whoever needs it will say so with more reason; here it is only a hint.
#[cfg(feature = "collector")]
pub(super) fn make_state_path(settings: &Settings) {
    if let Err(error) = fs::create_dir_all(&settings.state_path) {
        let path = settings.state_path.display();
        output::complain(format_args!("warning: making {path} failed: {error}"));
    }
}

/// A file that can't be read.
pub fn read_error(path: &Path, source: io::Error) -> DaemonError {
    DaemonError::Read {
        path: path.to_owned(),
        source,
    }
}

fn read(path: &Path) -> Result<ConfigText, DaemonError> {
    let bytes = read_bounded(path, FILE_BYTES_MAX).map_err(|error| read_error(path, error))?;
    // A stray byte in a comment must not keep a node unwatched; in a value it will be found odd.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Ok(ConfigText { path, text })
}

/// What is in a file, and at most one byte more than is accepted, which is enough to refuse it.
fn read_bounded(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file that holds the value of one option.
fn secret(path: &Path) -> SecretText {
    let metadata = fs::metadata(path);
    let is_public = metadata
        .as_ref()
        .is_ok_and(|found| found.permissions().mode() & READ_BY_OTHERS != 0);
    let found = metadata.and_then(|metadata| {
        // A pipe might never answer.
        if metadata.is_file() {
            read_bounded(path, SECRET_BYTES_MAX)
        } else {
            Err(io::Error::other("it is no regular file"))
        }
    });
    SecretText {
        path: path.to_owned(),
        found: found.map_err(|error| error.to_string()),
        is_public,
    }
}

/// Says on stderr what is odd about a file that can be used.
pub(super) fn print(problems: &[Problem]) {
    for problem in problems {
        output::complain(format_args!("{}: {problem}", problem.severity));
    }
}

/// The configuration files of a directory, in the order of their names; hidden ones are an editor's.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, DaemonError> {
    let mut paths = sorted(folder)?;
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".conf") && !name.starts_with('.')
    });
    Ok(paths)
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>, DaemonError> {
    let entries = fs::read_dir(folder).map_err(|error| read_error(folder, error))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| read_error(folder, error))?;
    paths.sort();
    Ok(paths)
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".to_owned())
}
