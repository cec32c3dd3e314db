//! Pure. The words everything else is written in: samples, readings, who saw them and in which
//! order, what a probe can say, secrets that can't be printed, and values that a reload replaces.

mod instance;
mod quarantine;
mod reading;
mod reason;
mod sample;
mod secret;
mod shared;
mod state;
mod time;
mod value;

pub use instance::{INSTANCE_STATES, instance_state_name};
pub use quarantine::{Quarantined, QuarantinedMessage};
pub use reading::{Evidence, Identity, Proof, Reading, Received, ReceivedMeter, Standing};
pub use reason::{FailReason, GatewayStatus};
pub use sample::{Metadata, Meter, MeterType, Sample, Volume, meters};
pub use secret::Secret;
pub use shared::Shared;
pub use state::{CompleteRoundRow, Fleet, ObserverRow, PathRow, Rival, RoundRow, StateRow};
pub use time::{ParseTimeError, UtcTime};
pub use value::Value;
