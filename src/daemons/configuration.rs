//! All that the files say, read in one go: at a start, and again at a reload.

use std::sync::Arc;

use super::keys::Keys;
use super::{ConfigArgs, DaemonError, files};
use crate::config::{Loaded, Problem, Purpose, SetOption, Settings, change};
#[cfg(feature = "agent")]
use crate::pipeline::{self, Pipeline};

/// Reads the files of one program, the same ones each time.
#[derive(Clone)]
pub(super) struct Reader {
    args: ConfigArgs,
    purpose: Purpose,
    adjust: fn(&mut Settings),
}

/// What is in force.
#[derive(Clone)]
pub(super) struct Configuration {
    pub(super) settings: Arc<Settings>,
    /// Without sources where no agent runs.
    #[cfg(feature = "agent")]
    pub(super) pipeline: Pipeline,
    /// The options that something sets, and where.
    pub(super) options: Vec<SetOption>,
    /// The keys of hosts.
    pub(super) keys: Keys,
    /// What is odd about it.
    pub(super) warnings: Vec<Problem>,
    /// The pipeline's file, as it was just before it was read.
    pub(super) seen: Seen,
}

/// What a file held at a look, shortened; None if it couldn't be read, or isn't looked at.
pub(super) type Seen = Option<[u8; 32]>;

/// By what a configuration differs from the one before.
pub(super) struct Difference {
    /// Options and parts of the pipeline that change.
    pub(super) changes: Vec<String>,
    /// Options whose new value waits for a start.
    pub(super) pending: Vec<String>,
}

impl Reader {
    pub(super) fn new(args: &ConfigArgs, purpose: Purpose) -> Self {
        Reader {
            args: args.clone(),
            purpose,
            adjust: |_| {},
        }
    }

    /// The same, with a last word on every settings that are read.
    #[cfg(all(feature = "agent", feature = "collector", feature = "decider"))]
    pub(super) fn adjusting(self, adjust: fn(&mut Settings)) -> Self {
        Reader { adjust, ..self }
    }

    /// Reads everything, for a start, and says on stderr what is odd about it: there is no log yet.
    pub(super) fn read(&self) -> Result<Configuration, DaemonError> {
        let mut loaded = self.load()?;
        files::print(&loaded.warnings);
        let mut warnings = std::mem::take(&mut loaded.warnings);
        let mut configuration = self.complete(loaded)?;
        files::print(&configuration.warnings);
        warnings.append(&mut configuration.warnings);
        configuration.warnings = warnings;
        Ok(configuration)
    }

    /// Reads everything again, for a reload. What needs a start keeps its value.
    pub(super) fn read_again(
        &self,
        running: &Configuration,
    ) -> Result<(Configuration, Difference), DaemonError> {
        let loaded = self.load()?;
        let change = change(self.purpose, &running.settings, loaded.settings);
        let new = self.complete(Loaded {
            settings: change.settings,
            ..loaded
        })?;
        let mut changes = change.live;
        #[cfg(feature = "agent")]
        changes.extend(pipeline::differences(&running.pipeline, &new.pipeline));
        if running.keys != new.keys {
            changes.push("the keys of hosts".to_owned());
        }
        let difference = Difference {
            changes,
            pending: change.pending,
        };
        Ok((new, difference))
    }

    fn load(&self) -> Result<Loaded, DaemonError> {
        let mut loaded = files::load(&self.args, self.purpose)?;
        (self.adjust)(&mut loaded.settings);
        Ok(loaded)
    }

    /// Adds what other files say. An agent runs for these purposes.
    #[cfg(feature = "agent")]
    fn complete(&self, loaded: Loaded) -> Result<Configuration, DaemonError> {
        let Loaded {
            settings,
            options,
            mut warnings,
        } = loaded;
        let keys = Keys::load(&settings, self.purpose)?;
        let mut pipeline = Pipeline {
            sources: Vec::new(),
            sinks: Vec::new(),
        };
        let mut seen = None;
        if matches!(self.purpose, Purpose::Agent | Purpose::Everything) {
            // First, so that the next look finds what changes after it.
            seen = look(&settings);
            let (read, more) = super::agent::load_pipeline(&settings, self.args.strict)?;
            pipeline = read;
            warnings.extend(more);
        }
        Ok(Configuration {
            settings: Arc::new(settings),
            pipeline,
            options,
            keys,
            warnings,
            seen,
        })
    }

    #[cfg(not(feature = "agent"))]
    fn complete(&self, loaded: Loaded) -> Result<Configuration, DaemonError> {
        let Loaded {
            settings,
            options,
            warnings,
        } = loaded;
        Ok(Configuration {
            keys: Keys::load(&settings, self.purpose)?,
            settings: Arc::new(settings),
            options,
            warnings,
            seen: None,
        })
    }
}

impl Configuration {
    /// The pipeline's file as it is now, if it is to be looked at.
    pub(super) fn look(&self) -> Seen {
        look(&self.settings)
    }
}

#[cfg(feature = "agent")]
fn look(settings: &Settings) -> Seen {
    settings.pipeline_refresh?;
    files::fingerprint(&settings.pipeline_cfg_file)
}

/// A collector has no pipeline.
#[cfg(not(feature = "agent"))]
fn look(_settings: &Settings) -> Seen {
    None
}
