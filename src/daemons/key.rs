//! `compute-ha key`: makes, hands out and retires the keys by which hosts prove what they say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::status::Format;
use super::{ConfigArgs, DaemonError, files, key_files, keys, logging, output, plan, signals};
use crate::config::{Loaded, Purpose, Settings};
use crate::events;
use crate::model::Secret;
use crate::status::{age, printable};
use crate::storage::{Database, HostKeyUse};
use crate::wire::keys::{KeyRing, master_line, retired_line};

/// What is done with keys.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Print the key of a host, for its [publisher] host_key_file
    Issue {
        /// The host's name, as its [DEFAULT] host has it
        host: String,

        /// Write it to this file, which must not be there yet, for its owner alone
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Add a new master to the keys file, from which the next keys are made; older ones still hold
    Rotate,
    /// Believe the keys of a number no longer
    Retire {
        /// The number
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        number: u32,

        /// Of this host alone
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
    },
    /// List the numbers, and which hosts used which and when last
    List {
        /// A table for people or JSON for programs
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
}

/// Does it.
pub fn run(args: &ConfigArgs, command: &Command) -> Result<(), DaemonError> {
    let Loaded {
        settings, options, ..
    } = files::load_settings(args, Purpose::Operator)?;
    if args.check_config {
        return plan::print_database(&settings, &options);
    }
    let path = keys_file(&settings)?;
    match command {
        Command::Issue { host, output } => issue(path, host, output.as_deref()),
        Command::Rotate => rotate(&settings, path),
        Command::Retire { number, host } => retire(&settings, path, *number, host.as_deref()),
        Command::List { format } => list(&settings, path, *format),
    }
}

fn keys_file(settings: &Settings) -> Result<&Path, DaemonError> {
    let named = settings.collector.trust.host_keys_file.as_deref();
    named.ok_or_else(|| {
        failed(
            "looking for the keys",
            "[collector] host_keys_file names no file: set it where the collector runs",
        )
    })
}

fn issue(path: &Path, host: &str, to: Option<&Path>) -> Result<(), DaemonError> {
    let what = format!("issuing a key for {}", printable(host));
    let is_name = !host.is_empty() && !host.starts_with('#') && !host.contains(char::is_whitespace);
    if !is_name {
        return Err(failed(what, "that is no name of a host"));
    }
    let ring = keys::ring(path)?;
    let Some(key) = ring.newest(host) else {
        let words =
            "no master in the keys file is left to make it from: `compute-ha key rotate` adds one";
        return Err(failed(what, words));
    };
    match to {
        None => output::write(&key.issued()),
        Some(file) => {
            key_files::write_own(file, &key.issued())
                .map_err(|error| failed(format!("writing {}", file.display()), error))?;
            output::line(format_args!(
                "wrote key {} of {} to {}",
                key.number(),
                printable(host),
                file.display()
            ))
        }
    }
}

fn rotate(settings: &Settings, path: &Path) -> Result<(), DaemonError> {
    let what = "adding a master";
    let ring = match path.exists() {
        true => keys::ring(path)?,
        false => KeyRing::default(),
    };
    let Some(number) = ring.next_number() else {
        return Err(failed(what, "there is no number left"));
    };
    let secret = random().map_err(|error| failed("reading random bytes", error))?;
    key_files::append(path, &master_line(number, &secret))
        .map_err(|error| failed(format!("writing {}", path.display()), error))?;
    told(settings, &format!("master {number} added"))?;
    output::line(format_args!(
        "added master {number}: let every collector reload, then issue each host its new key"
    ))
}

fn retire(
    settings: &Settings,
    path: &Path,
    number: u32,
    host: Option<&str>,
) -> Result<(), DaemonError> {
    let of = host.map_or_else(String::new, |host| format!(" of {}", printable(host)));
    let what = format!("retiring key {number}{of}");
    let ring = keys::ring(path)?;
    let is_known = ring.masters().any(|(known, _)| known == number)
        || ring
            .keys()
            .any(|(of, known)| known == number && host.is_none_or(|host| host == of));
    if !is_known {
        return Err(failed(what, "the keys file has no key of that number"));
    }
    if ring.is_retired(host.unwrap_or_default(), number) {
        return Err(failed(what, "it is retired already"));
    }
    let mut others = ring
        .masters()
        .filter(|(other, is_retired)| *other != number && !is_retired);
    if host.is_none() && ring.masters().next().is_some() && others.next().is_none() {
        let words = "it is the only master that is left: add the next one first, with `compute-ha key rotate`";
        return Err(failed(what, words));
    }
    key_files::append(path, &retired_line(number, host))
        .map_err(|error| failed(format!("writing {}", path.display()), error))?;
    told(settings, &format!("key {number}{of} retired"))?;
    output::line(format_args!(
        "retired key {number}{of}: it holds until every collector has reloaded"
    ))
}

fn list(settings: &Settings, path: &Path, format: Format) -> Result<(), DaemonError> {
    let ring = keys::ring(path)?;
    let uses = signals::runtime()?.block_on(uses(&settings.database.connection))?;
    let listed = Listed::of(&ring, &uses);
    match format {
        Format::Table => output::write(&listed.table()),
        Format::Json => {
            let json = serde_json::to_string_pretty(&listed)
                .map_err(|error| failed("writing JSON", error))?;
            output::write(&format!("{json}\n"))
        }
    }
}

async fn uses(connection: &Secret) -> Result<Vec<HostKeyUse>, DaemonError> {
    let failed = |error| DaemonError::failed("reading which keys were used", error);
    let database = Database::open_read_only(connection).await.map_err(failed)?;
    let uses = database.host_key_uses().await;
    database.close().await;
    uses.map_err(failed)
}

/// What is known of keys, without the keys. Its fields are a contract.
#[derive(Debug, Serialize)]
struct Listed {
    keys: Vec<ListedKey>,
    hosts: Vec<ListedUse>,
}

/// A number that the keys file has, or that a host used.
#[derive(Debug, Serialize)]
struct ListedKey {
    number: u32,
    is_master: bool,
    is_retired: bool,
    /// Hosts that have a line of their own.
    hosts: Vec<String>,
}

/// That a host used a key.
#[derive(Debug, Serialize)]
struct ListedUse {
    host: String,
    number: u32,
    is_retired: bool,
    first_used_seconds_ago: f64,
    last_used_seconds_ago: f64,
}

impl Listed {
    fn of(ring: &KeyRing, uses: &[HostKeyUse]) -> Self {
        let key = |number, is_master, is_retired| ListedKey {
            number,
            is_master,
            is_retired,
            hosts: Vec::new(),
        };
        let masters = ring.masters();
        let mut keys: BTreeMap<u32, ListedKey> = masters
            .map(|(number, is_retired)| (number, key(number, true, is_retired)))
            .collect();
        for (host, number) in ring.keys() {
            let listed = keys
                .entry(number)
                .or_insert_with(|| key(number, false, ring.is_retired("", number)));
            listed.hosts.push(host.to_owned());
        }
        for listed in keys.values_mut() {
            listed.hosts.sort();
        }
        let uses = uses.iter().map(|one| ListedUse {
            host: one.host.clone(),
            number: one.number,
            is_retired: ring.is_retired(&one.host, one.number),
            first_used_seconds_ago: one.first_seconds_ago,
            last_used_seconds_ago: one.last_seconds_ago,
        });
        Listed {
            keys: keys.into_values().collect(),
            hosts: uses.collect(),
        }
    }

    fn table(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        // Writing into a String can't fail.
        for key in &self.keys {
            let kind = if key.is_master {
                "master"
            } else {
                "single keys"
            };
            let retired = if key.is_retired { ", retired" } else { "" };
            let _ = write!(text, "{:>4}  {kind}{retired}", key.number);
            if !key.hosts.is_empty() {
                let hosts: Vec<String> = key.hosts.iter().map(|host| printable(host)).collect();
                let _ = write!(text, "  own line: {}", hosts.join(", "));
            }
            text.push('\n');
        }
        if self.hosts.is_empty() {
            text.push_str("no host has proven anything yet\n");
        }
        for used in &self.hosts {
            let retired = if used.is_retired { "  (retired)" } else { "" };
            let _ = writeln!(
                text,
                "{}  key {}  last used {} ago{retired}",
                printable(&used.host),
                used.number,
                age(used.last_used_seconds_ago)
            );
        }
        text
    }
}

fn random() -> io::Result<[u8; 32]> {
    let mut secret = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut secret)?;
    Ok(secret)
}

fn told(settings: &Settings, what: &str) -> Result<(), DaemonError> {
    let _log = logging::start_beside_a_terminal(&settings.log)?;
    events::keys_changed(what);
    Ok(())
}

fn failed(
    what: impl Into<String>,
    why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> DaemonError {
    DaemonError::failed(what, why)
}
