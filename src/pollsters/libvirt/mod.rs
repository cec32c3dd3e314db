//! What runs on this node, as libvirt says.

pub mod domain;
pub mod state;
