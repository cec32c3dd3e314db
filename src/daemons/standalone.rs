//! Agent and collector in one process, with the embedded database, and the fleet of one on the
//! screen: the demo, and the smallest installation.

use std::convert::Infallible;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::agent::Agent;
use super::collector::Collector;
use super::instance::Role;
use super::reload::{Part, Reader, Reloads};
use super::signals::{End, Hangups};
use super::status::{self, Format};
use super::systemd::Service;
use super::{ConfigArgs, DaemonError, http, output, plan, process, secret, signals};
use crate::config::{LibvirtSettings, Purpose, Settings};
use crate::events::Chain;
use crate::model::Secret;
use crate::storage::Database;

const LOG: &str = "standalone.log";
const REFRESH: Duration = Duration::from_secs(1);
/// Not on a terminal, every table is a part of a log.
const REFRESH_LOG: Duration = Duration::from_secs(10);

/// Where libvirt's sockets are.
const LIBVIRT_SOCKETS: &str = "/run/libvirt";
/// The names that a daemon for QEMU may give its own, the modular one first.
const SOCKET_NAMES: [&str; 2] = ["virtqemud-sock-ro", "libvirt-sock-ro"];
/// A libvirt that needs no daemon and has one instance, which always runs.
const TEST_DRIVER: &str = "test:///default";

/// Runs both until it is told to end.
pub fn run(args: &ConfigArgs) -> Result<(), DaemonError> {
    let runtime = signals::runtime()?;
    let is_terminal = io::stdout().is_terminal();
    // Who closes the terminal wants it to end.
    let hangups = match is_terminal {
        true => None,
        false => Some(Hangups::listen(&runtime)?),
    };
    let reader = Reader::new(args, Purpose::Everything)
        .adjusting(|settings| choose_libvirt(&mut settings.libvirt, Path::new(LIBVIRT_SOCKETS)));
    let configuration = reader.read()?;
    let settings = Arc::clone(&configuration.settings);
    if args.check_config {
        return plan::print_standalone(&settings, &configuration.pipeline, &configuration.options);
    }
    let end = End::listen(&runtime)?;
    // The screen belongs to the table.
    let log = settings.state_path.join(LOG);
    let log = is_terminal.then_some(log.as_path());
    let log = process::begin(&settings, log, &[Role::Agent, Role::Collector])?;
    let log = Arc::new(log);
    let secret = secret::telemetry_secret(&settings)?;
    runtime.block_on(async {
        let collector = Collector::start(&configuration, &secret).await?;
        let agent = Arc::new(Agent::start(&configuration, &secret)?);
        // What may fail comes first.
        let parts: Vec<Arc<dyn Part>> = vec![agent.clone(), collector.part()];
        let health = vec![agent.health(), collector.health()];
        let service = Arc::new(Service::ready(health));
        let reloads = Reloads::start(reader, configuration, (&log, &service), parts)?;
        tokio::spawn(http::serve(
            settings.agent.http_listen,
            reloads.watch(agent.health()),
        ));
        tokio::spawn(http::serve(
            settings.collector.http_listen,
            reloads.watch(collector.health()),
        ));
        if let Some(hangups) = hangups {
            tokio::spawn(reloads.at(hangups));
        }
        tokio::select! {
            () = end.wait() => {}
            never = show(&settings, is_terminal) => match never {},
        }
        service.stopping();
        // The agent first, so that what it still has to say is stored.
        let agent_ended = tokio::task::spawn_blocking(move || agent.stop()).await;
        collector.stop().await;
        agent_ended.map_err(|error| DaemonError::failed("stopping the agent", error))
    })?;
    runtime.shutdown_background();
    Ok(())
}

/// Where the configuration names no libvirt and this machine has none, there is still something to
/// look at.
fn choose_libvirt(settings: &mut LibvirtSettings, sockets: &Path) {
    let is_there = SOCKET_NAMES.iter().any(|name| sockets.join(name).exists());
    if !settings.is_chosen && !is_there {
        TEST_DRIVER.clone_into(&mut settings.uri);
    }
}

/// Shows the table again and again. A node is watched whether or not anybody can see it: what goes
/// wrong here is said, and never ends the program.
async fn show(settings: &Settings, is_terminal: bool) -> Infallible {
    let hints = hints(settings);
    let mut ticks = tokio::time::interval(if is_terminal { REFRESH } else { REFRESH_LOG });
    // The first look comes when there is something to see.
    ticks.reset();
    loop {
        ticks.tick().await;
        let table = table(&settings.database.connection, is_terminal)
            .await
            .unwrap_or_else(|error| format!("{}\n", Chain(&error)));
        let text = format!("{table}\n{hints}\n");
        let screen = if is_terminal {
            status::on_clear_screen(&text)
        } else {
            text
        };
        if let Err(error) = write(screen).await {
            tracing::warn!("no more tables: {}", Chain(&error));
            return std::future::pending().await;
        }
    }
}

async fn table(connection: &Secret, is_terminal: bool) -> Result<String, DaemonError> {
    let failed = |error| DaemonError::failed("reading the state", error);
    let database = Database::open_read_only(connection).await.map_err(failed)?;
    let fleet = database.fleet().await;
    database.close().await;
    let fleet = fleet.map_err(failed)?;
    let view = crate::status::view(&fleet);
    status::render(&view, Format::Table, is_terminal)
}

/// Writes where somebody may have stopped reading: then this waits, and nothing else does.
async fn write(text: String) -> Result<(), DaemonError> {
    tokio::task::spawn_blocking(move || output::write(&text))
        .await
        .map_err(|error| DaemonError::failed("writing to stdout", error))?
}

/// Where else to look.
fn hints(settings: &Settings) -> String {
    let mut hints = vec![format!("database  {}", settings.state_path.display())];
    for (what, address) in [
        ("agent    ", settings.agent.http_listen),
        ("collector", settings.collector.http_listen),
    ] {
        if let Some(address) = address {
            hints.push(format!(
                "{what} http://{address}/metrics  http://{address}/healthz"
            ));
        }
    }
    hints.push("Ctrl-C ends it".to_owned());
    hints.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(is_chosen: bool, sockets: &Path) -> String {
        let mut settings = LibvirtSettings {
            uri: "qemu:///system".to_owned(),
            is_chosen,
            timeout: Duration::from_secs(3),
        };
        choose_libvirt(&mut settings, sockets);
        settings.uri
    }

    #[test]
    fn the_test_driver_stands_in_only_where_nothing_is_there_and_nothing_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(chosen(false, folder.path()), TEST_DRIVER);
        assert_eq!(chosen(true, folder.path()), "qemu:///system");
        std::fs::write(folder.path().join("libvirt-sock-ro"), "").unwrap();
        assert_eq!(chosen(false, folder.path()), "qemu:///system");
    }
}
