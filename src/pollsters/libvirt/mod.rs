//! What libvirt knows: whether it lives, which instances there are, and what happens to them.
//!
//! libvirt is the most dangerous neighbour that the agent has: a stopped libvirtd blocks every call
//! for ever, opening a connection included, and a connection that was lost never heals. So it is
//! asked in threads of its own ([`link`]), read-only, and what judges a node rests on the one bulk
//! call that enters no QEMU.
//!
//! Pure parts: [`report`] (what it says), [`state`] (its codes), [`domain`] (its XML), [`book`] (what
//! is worth a reading), [`leaving`] (who vanishes without a word), [`figures`] (statistics). IO: [`sys`], [`link`] and the three pollsters.

pub mod book;
pub mod domain;
pub mod figures;
pub mod hypervisor;
pub mod instances;
pub mod leaving;
pub mod link;
pub mod report;
pub mod state;
pub mod statistics;
pub mod sys;

/// The names of the pollsters that ask libvirt.
pub const POLLSTERS: [&str; 3] = [hypervisor::NAME, instances::NAME, statistics::NAME];
