//! Reads the configuration's files for the modules that only know texts.

use std::fs;
use std::path::{Path, PathBuf};

use super::{ConfigArgs, DaemonError, output};
use crate::config::{self, ConfigText, Problem, Purpose, Settings};

/// Reads and checks the configuration: files in the order given, then the files of directories,
/// then the environment.
pub fn load_settings(args: &ConfigArgs, purpose: Purpose) -> Result<Settings, DaemonError> {
    let mut paths = args.config_file.clone();
    for folder in &args.config_dir {
        paths.extend(files_in(folder)?);
    }
    let texts = paths
        .iter()
        .map(|path| read(path))
        .collect::<Result<Vec<_>, _>>()?;
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let loaded = config::load(purpose, &texts, &environment, &host_name(), args.strict)
        .map_err(DaemonError::Config)?;
    print(&loaded.warnings);
    Ok(loaded.settings)
}

/// Reads the pipeline file that the settings name.
#[cfg(feature = "agent")]
pub(super) fn load_pipeline(
    path: &Path,
    against: &crate::pipeline::Against,
) -> Result<crate::pipeline::Pipeline, DaemonError> {
    let text = read(path)?;
    let (pipeline, warnings) =
        crate::pipeline::parse(&text.path, &text.text, against).map_err(DaemonError::Config)?;
    print(&warnings);
    Ok(pipeline)
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
pub fn read_error(path: &Path, source: std::io::Error) -> DaemonError {
    DaemonError::Read {
        path: path.to_owned(),
        source,
    }
}

fn read(path: &Path) -> Result<ConfigText, DaemonError> {
    let bytes = fs::read(path).map_err(|error| read_error(path, error))?;
    // A stray byte in a comment must not keep a node unwatched; in a value it will be found odd.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Ok(ConfigText { path, text })
}

/// Says on stderr what is odd about a file that can be used.
pub(super) fn print(problems: &[Problem]) {
    for problem in problems {
        output::complain(format_args!("{}: {problem}", problem.severity));
    }
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>, DaemonError> {
    let entries = fs::read_dir(folder).map_err(|error| read_error(folder, error))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conf")
        })
        .collect();
    paths.sort();
    Ok(paths)
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".to_owned())
}
