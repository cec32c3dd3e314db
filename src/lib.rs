//! Compute-node high-availability health monitor for OpenStack/KVM clouds.
//!
//! Data flows one way, and imports go only down these tiers (`ARCHITECTURE.md` draws them):
//!
//! | tier | modules |
//! |---|---|
//! | 0 | [`model`] |
//! | 1 | [`clock`], [`events`], [`config`], [`wire`], [`pipeline`], [`query`], [`status`] |
//! | 2 | [`broker`] |
//! | 3 | [`pollsters`], [`publisher`], [`collector`], [`storage`] |
//! | 4 | [`web`] |
//! | 5 | [`daemons`] |

pub mod model;

pub mod clock;
pub mod config;
pub mod events;
#[cfg(feature = "publisher")]
pub mod pipeline;
#[cfg(feature = "storage")]
pub mod query;
pub mod status;
pub mod wire;

#[cfg(feature = "broker")]
pub mod broker;

#[cfg(feature = "collector")]
pub mod collector;
#[cfg(feature = "agent")]
pub mod pollsters;
#[cfg(feature = "publisher")]
pub mod publisher;
#[cfg(feature = "storage")]
pub mod storage;

pub mod web;

pub mod daemons;
