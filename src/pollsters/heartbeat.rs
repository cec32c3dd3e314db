//! `compute.heartbeat`: the agent lives. Its volume is the number of the reading itself, which is
//! known only when readings are numbered; here it is 0.

use super::{Context, Pollster, Round};
use crate::clock;
use crate::model::{Metadata, Sample, Value, Volume, meters};

/// The heartbeat of one agent.
pub struct Heartbeat {
    host: String,
    metadata: Metadata,
}

impl Heartbeat {
    /// Everything it says of itself stays the same for one life of the agent.
    pub fn new(context: &Context) -> Self {
        let metadata = Metadata::from([
            ("node".to_owned(), Value::from(context.host.as_str())),
            ("epoch".to_owned(), Value::from(context.epoch)),
            ("version".to_owned(), Value::from(env!("CARGO_PKG_VERSION"))),
        ]);
        Heartbeat {
            host: context.host.clone(),
            metadata,
        }
    }
}

impl Pollster for Heartbeat {
    fn poll(&mut self, _round: Round) -> Vec<Sample> {
        vec![Sample::new(
            meters::HEARTBEAT,
            Volume::Int(0),
            self.host.clone(),
            clock::utc(),
            self.metadata.clone(),
        )]
    }
}
