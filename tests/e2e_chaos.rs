//! Agent, collector, broker and database killed at random moments while readings travel over all of
//! them: whatever was accepted is in the database once, and the present is never late by more than
//! the outage.
//!
//! `CHAOS_KILLS` says how many times something is killed, `CHAOS_SEED` repeats a run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::process::Command;
use std::time::Duration;

use ceilometer_ha::clock;
use support::process::Process;
use support::site::{HOST, Site};
use support::{mariadb, program, rabbitmq, run, wait_until};

/// How many times something is killed where nobody asks for more.
const KILLS: u64 = 12;
/// By how much the present may be late once everything runs again: reconnecting takes turns of some
/// seconds, on a machine that may be busy.
const MARGIN: Duration = Duration::from_secs(15);

/// Who is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Agent,
    Collector,
    Broker,
    Database,
}

/// Every part that a reading passes.
struct Plant {
    site: Site,
    broker: rabbitmq::Server,
    database: mariadb::Server,
    agent: Option<Process>,
    collector: Option<Process>,
}

impl Plant {
    fn start() -> Self {
        let mut plant = Plant {
            site: Site::new(),
            broker: rabbitmq::Server::start(),
            database: mariadb::Server::start(),
            agent: None,
            collector: None,
        };
        plant.write_files();
        let mut dbsync = Command::new(program("ceilometer-collector-ha"));
        run(dbsync
            .args(["dbsync", "--config-file"])
            .arg(plant.site.path("collector.conf")));
        plant.start_again(Victim::Collector);
        plant.start_again(Victim::Agent);
        plant
    }

    fn write_files(&self) {
        let broker = format!(
            "[DEFAULT]\ntransport_url = {}\n[oslo_messaging_rabbit]\namqp_durable_queues = true\n",
            self.broker.url()
        );
        self.site.collector_config(&format!(
            "[database]\nconnection = {}\n{broker}",
            self.database.url()
        ));
        let config = self.site.agent_config();
        let text = fs::read_to_string(&config).unwrap();
        fs::write(
            &config,
            format!("{text}{broker}[DEFAULT]\ndebug = true\nlog_file = accepted.log\n"),
        )
        .unwrap();
        let pipeline = "sources:\n    - name: fast\n      interval: 0.1\n      meters: [compute.heartbeat]\n      sinks: [ha]\nsinks:\n    - name: ha\n      transformers:\n      publishers: ['notifier://?policy=queue']\n";
        fs::write(self.site.path("pipeline_ha.yaml"), pipeline).unwrap();
    }

    fn kill(&mut self, victim: Victim) {
        match victim {
            Victim::Agent => self.agent.take().expect("it runs").kill(),
            Victim::Collector => self.collector.take().expect("it runs").kill(),
            Victim::Broker => self.broker.kill(),
            Victim::Database => self.database.kill(),
        }
    }

    fn start_again(&mut self, victim: Victim) {
        match victim {
            Victim::Agent => self.agent = Some(self.daemon("ceilometer-polling-ha", "agent")),
            Victim::Collector => {
                self.collector = Some(self.daemon("ceilometer-collector-ha", "collector"));
            }
            Victim::Broker => self.broker.start_again(),
            Victim::Database => self.database.start_again(),
        }
    }

    fn daemon(&self, name: &str, file: &str) -> Process {
        let config = self.site.path(&format!("{file}.conf"));
        let log = self.site.path(&format!("{file}.log"));
        Process::start(
            Command::new(program(name)).arg("--config-file").arg(config),
            &log,
        )
    }

    /// What the agent said was accepted, by epoch: its readings are numbered without a gap.
    fn accepted(&self) -> BTreeMap<u64, BTreeSet<u64>> {
        let log = fs::read_to_string(self.site.path("accepted.log")).unwrap_or_default();
        let mut accepted: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        // With their ends, for a number is whole only where something follows it.
        let lines = log.split_inclusive('\n');
        for line in lines.filter(|line| line.contains("readings accepted")) {
            let (epoch, first, last) = (
                field(line, "epoch"),
                field(line, "first"),
                field(line, "last"),
            );
            let (Some(epoch), Some(first), Some(last)) = (epoch, first, last) else {
                // The line in which it was killed.
                continue;
            };
            accepted.entry(epoch).or_default().extend(first..=last);
        }
        accepted
    }

    fn count_accepted(&self) -> usize {
        self.accepted().values().map(BTreeSet::len).sum()
    }

    /// Waits until so many more were accepted, which is a moment that nobody foresees.
    fn wait_for_accepted(&self, more: usize) {
        let enough = self.count_accepted() + more;
        wait_until("readings to be accepted", || match self.count_accepted() {
            count if count >= enough => Ok(()),
            count => Err(format!("{count} of {enough}\n{}", self.tail())),
        });
    }

    fn tail(&self) -> String {
        let log = fs::read_to_string(self.site.path("agent.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(12).collect();
        lines.join("\n")
    }

    /// What is in the history, by epoch and number, and how many times.
    fn stored(&self) -> BTreeMap<(u64, u64), u64> {
        let rows = self.database.sql(
            "SELECT m.value, CAST(s.volume AS UNSIGNED), count(*) FROM sample s \
             JOIN metadata_int m ON m.id = s.resource_id AND m.meta_key = 'epoch' \
             GROUP BY m.value, s.volume",
        );
        let number = |text: &str| text.parse::<u64>().expect("a whole number");
        rows.iter()
            .map(|row| {
                let columns: Vec<&str> = row.split('\t').collect();
                ((number(columns[0]), number(columns[1])), number(columns[2]))
            })
            .collect()
    }

    /// Waits until the state is of a reading that was made after this moment; by the clock of this
    /// machine, which is everybody's.
    fn wait_for_present(&self, after: i64) {
        let sql = format!(
            "SELECT count(*) FROM ha_state WHERE observer = '{HOST}' AND meter = 'compute.heartbeat' \
             AND observed_at > {after}"
        );
        wait_until("the present to be shown", || {
            match self.database.number(&sql) {
                1 => Ok(()),
                _ => Err(self.tail()),
            }
        });
    }
}

/// The number behind `name=` in a line of the log.
fn field(line: &str, name: &str) -> Option<u64> {
    let (_, rest) = line.split_once(&format!(" {name}="))?;
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    rest.get(..end)?.parse().ok()
}

/// Numbers that look random and can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }

    fn victim(&mut self) -> Victim {
        match self.below(10) {
            0..4 => Victim::Agent,
            4..7 => Victim::Collector,
            7..9 => Victim::Database,
            _ => Victim::Broker,
        }
    }
}

fn number_from(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

#[test]
fn whoever_is_killed_nothing_accepted_is_missing_and_nothing_is_twice() {
    let seed = number_from("CHAOS_SEED").unwrap_or_else(|| clock::utc().unix_millis() | 1);
    let kills = number_from("CHAOS_KILLS").unwrap_or(KILLS);
    println!("CHAOS_SEED={seed} CHAOS_KILLS={kills}");
    let mut dice = Dice(seed);
    let mut plant = Plant::start();
    for round in 0..kills {
        plant.wait_for_accepted(1 + usize::try_from(dice.below(25)).unwrap());
        // Each once before chance decides.
        let victim = match round {
            0 => Victim::Broker,
            1 => Victim::Database,
            _ => dice.victim(),
        };
        plant.kill(victim);
        let killed = clock::now();
        plant.start_again(victim);
        let (outage, back) = (killed.elapsed(), clock::utc().unix_micros());
        plant.wait_for_present(back);
        let late = killed.elapsed();
        println!("{round}: {victim:?} was away for {outage:?}, the present for {late:?}");
        assert!(late <= outage + MARGIN, "{victim:?}: {late:?}");
    }
    let agent = plant.agent.take().unwrap();
    assert!(agent.terminate().success());
    let accepted = plant.accepted();
    let made: u64 = accepted.values().filter_map(|numbers| numbers.last()).sum();
    let count: usize = accepted.values().map(BTreeSet::len).sum();
    println!("{count} of {made} readings were accepted");
    assert!(
        count * 10 >= usize::try_from(made).unwrap() * 9,
        "{count} of {made}"
    );
    wait_until("everything accepted to be stored", || {
        let stored = plant.stored();
        let missing: Vec<_> = accepted
            .iter()
            .flat_map(|(epoch, numbers)| numbers.iter().map(move |number| (*epoch, *number)))
            .filter(|reading| !stored.contains_key(reading))
            .collect();
        match missing.as_slice() {
            [] => Ok(()),
            missing => Err(format!("{} are missing: {missing:?}", missing.len())),
        }
    });
    let twice: Vec<_> = plant.stored().into_iter().filter(|(_, n)| *n > 1).collect();
    assert!(twice.is_empty(), "stored twice: {twice:?}");
    // What was sent but not heard to be accepted may be there as well, once.
    assert!(plant.collector.take().unwrap().terminate().success());
}
