//! `compute-ha reset-identity`: lets a host that lost its state directory be known by its new, lower epoch.

use super::{ConfigArgs, DaemonError, files, logging, output, plan, signals};
use crate::config::{Loaded, Purpose};
use crate::events;
use crate::status::{age, printable};
use crate::storage::{Database, Reset, Resetting};

/// Does it, or says why not: then the exit code is 1. Without `yes` it only says what it would do.
pub fn run(args: &ConfigArgs, host: &str, yes: bool) -> Result<(), DaemonError> {
    let Loaded {
        settings,
        options: set,
        ..
    } = files::load_settings(args, Purpose::Operator)?;
    if args.check_config {
        return plan::print_database(&settings, &set);
    }
    let outcome = signals::runtime()?.block_on(async {
        let database = Database::open(&settings.database.connection).await?;
        let outcome = database.reset_identity(host, !yes).await;
        database.close().await;
        outcome
    });
    let shown = printable(host);
    let what = format!("resetting the identity of {shown}");
    match outcome.map_err(|error| DaemonError::failed(&what, error))? {
        Resetting::Reset(reset) if !yes => output::line(format_args!(
            "would reset {shown}: {}. --yes does it",
            words(&reset)
        )),
        Resetting::Reset(reset) => {
            let words = words(&reset);
            {
                let _log = logging::start_beside_a_terminal(&settings.log)?;
                events::identity_reset(host, &words);
            }
            output::line(format_args!("reset {shown}: {words}"))
        }
        Resetting::NotNeeded { epoch, age_seconds } => output::line(format_args!(
            "nothing to reset of {shown}: its newest epoch {epoch} is the one that was heard last, {} ago",
            age(age_seconds)
        )),
        Resetting::StillThere { epoch, age_seconds } => Err(DaemonError::failed(
            what,
            format!(
                "its epoch {epoch} was heard {} ago, beside a lower one: two agents use its name. Stop \
                 one of them, and wait a minute",
                age(age_seconds)
            ),
        )),
        Resetting::Unknown { nearest } => {
            Err(DaemonError::failed(what, super::forget::unknown(&nearest)))
        }
    }
}

fn words(reset: &Reset) -> String {
    let Reset {
        epoch,
        age_seconds,
        was_epoch,
        retired,
        states,
    } = reset;
    format!(
        "epoch {epoch}, heard {} ago, is its present instead of {was_epoch}; nothing of its {retired} other \
         epochs moves a state again; {states} states removed, which come back with its next readings. \
         History stays",
        age(*age_seconds)
    )
}
