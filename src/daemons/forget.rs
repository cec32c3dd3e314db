//! `compute-ha forget`: removes the present of a host that is no more.

use super::{ConfigArgs, DaemonError, files, logging, output, plan, signals};
use crate::config::{Loaded, Purpose};
use crate::events;
use crate::status::{age, printable};
use crate::storage::{Database, ForgetOptions, Forgetting, Forgotten};

/// Forgets it, or says why not: then the exit code is 1.
pub fn run(args: &ConfigArgs, host: &str, options: ForgetOptions) -> Result<(), DaemonError> {
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
        let outcome = database.forget(host, options).await;
        database.close().await;
        outcome
    });
    let shown = printable(host);
    let what = format!("forgetting {shown}");
    match outcome.map_err(|error| DaemonError::failed(&what, error))? {
        Forgetting::Forgotten(forgotten) if options.dry_run => {
            output::line(format_args!("would forget {shown}: {}", words(&forgotten)))
        }
        Forgetting::Forgotten(forgotten) => {
            let words = words(&forgotten);
            {
                let _log = logging::start_beside_a_terminal(&settings.log)?;
                events::host_forgotten(host, &words);
            }
            output::line(format_args!("forgot {shown}: {words}"))
        }
        Forgetting::HeardLately {
            observer,
            age_seconds,
        } => Err(DaemonError::failed(
            what,
            heard_lately(host, &observer, age_seconds),
        )),
        Forgetting::Unknown { nearest } => Err(DaemonError::failed(what, unknown(&nearest))),
    }
}

fn words(forgotten: &Forgotten) -> String {
    let Forgotten {
        states,
        states_of_others,
        paths,
        rounds,
        observers: _,
        last_heard_seconds,
    } = forgotten;
    format!(
        "{states} states of its own, {states_of_others} of others about it, {paths} paths, {rounds} \
         rounds; last heard of {} ago. History stays",
        age(*last_heard_seconds)
    )
}

fn heard_lately(host: &str, observer: &str, age_seconds: f64) -> String {
    let age = age(age_seconds);
    if observer == host {
        return format!(
            "it was heard {age} ago and would be back with its next reading: stop its agent first, \
             or use --force"
        );
    }
    let observer = printable(observer);
    format!(
        "{observer} told of it {age} ago and would bring it back: take it out of what {observer} \
         looks at first, or use --force"
    )
}

pub(super) fn unknown(nearest: &[String]) -> String {
    let nearest: Vec<String> = nearest.iter().map(|name| printable(name)).collect();
    match nearest.is_empty() {
        true => "nobody of that name is known".to_owned(),
        false => format!(
            "nobody of that name is known; did you mean {}?",
            nearest.join(" or ")
        ),
    }
}
