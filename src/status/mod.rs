//! Pure. What a person sees of the fleet: rows of the database's current state become one
//! [`FleetView`], which is printed as JSON or as a table.
//!
//! The view never guesses. A reading that is too old, from an earlier life of its agent, or followed
//! by a probe that failed on the agent's own side says nothing about now: the verdict is `unknown`
//! with the reason in words, and never `lost`.

mod fleet;
mod freshness;
mod host;
mod identity;
mod instances;
mod outside;
#[cfg(feature = "storage")]
pub mod quarantine;
mod table;
mod text;
mod view;

pub use fleet::view;
pub use table::{TableOptions, render_table};
#[cfg(feature = "decider")]
pub(crate) use text::age;
#[cfg(feature = "storage")]
pub(crate) use text::{columns, harmless, is_unprintable, pad_right, printable};
pub use view::{
    CodeView, CompleteRoundView, ConflictView, FailureView, FleetView, GatewayView, HeartbeatView,
    HostView, HypervisorView, InstanceView, InstancesView, ObserverView, OutsideNetworkView,
    OutsideView, PathView, Place, PlacedInstanceView, RoundView, StorageView, Trouble,
    UnknownReason, Verdict,
};

#[cfg(test)]
mod tests;
