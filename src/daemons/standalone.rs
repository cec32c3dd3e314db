//! Agent and collector in one process, with the embedded database, and the fleet of one on the
//! screen: the demo, and the smallest installation.

use std::convert::Infallible;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use super::agent::{self, Agent};
use super::collector::Collector;
use super::signals::End;
use super::status::{self, Format};
use super::{ConfigArgs, DaemonError, files, http, logging, output, plan, secret, signals};
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
    let mut settings = files::load_settings(args, Purpose::Everything)?;
    choose_libvirt(&mut settings.libvirt, Path::new(LIBVIRT_SOCKETS));
    let pipeline = agent::load_pipeline(&settings, args.strict)?;
    if args.check_config {
        plan::print_agent(&settings, &pipeline)?;
        return plan::print_collector(&settings);
    }
    let runtime = signals::runtime()?;
    let end = End::listen(&runtime)?;
    // The screen belongs to the table.
    let log = settings.state_path.join(LOG);
    let is_terminal = io::stdout().is_terminal();
    let _log = logging::start(&settings.log, is_terminal.then_some(log.as_path()))?;
    let secret = secret::telemetry_secret(&settings)?;
    runtime.block_on(async {
        let collector = Collector::start(&settings, &secret).await?;
        let agent = Agent::start(&settings, &pipeline, &secret)?;
        tokio::spawn(http::serve(settings.agent.http_listen, agent.health()));
        tokio::spawn(http::serve(
            settings.collector.http_listen,
            collector.health(),
        ));
        tokio::select! {
            () = end.wait() => {}
            never = show(&settings, is_terminal) => match never {},
        }
        // The agent first, so that what it still has to say is stored.
        let agent_ended = tokio::task::spawn_blocking(|| agent.stop()).await;
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
        let written = output::write(&if is_terminal {
            status::on_clear_screen(&text)
        } else {
            text
        });
        if let Err(error) = written {
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
    let view = crate::status::view(fleet.now, &fleet.states, &fleet.paths, &fleet.rounds);
    status::render(&view, Format::Table, is_terminal)
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
