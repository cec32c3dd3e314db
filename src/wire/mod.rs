//! Pure. The metering message on the wire: how a reading becomes a signed datagram, and how a
//! datagram from any sender becomes verified messages again.
//!
//! In the order of the data: [`encode`] signs a reading for one path, [`pack`] fills datagrams,
//! [`receive`] takes one apart, and [`receive_body`] what comes from a message broker ([`envelope`]).
//! Below them: [`msgpack`] (bounded decoding), [`signature`] (what is signed, and the check of it) and
//! [`pytext`] (the text of a value, as Python prints it); [`Verifier`] says what is believed, with
//! [`keys`] and [`proof`] of each host's own and the rules of `origin`.

pub mod envelope;
mod json;
pub mod keys;
mod message;
pub mod msgpack;
mod origin;
pub mod proof;
pub mod pytext;
mod refusal;
pub mod signature;
mod verifier;

pub use message::{
    Datagram, Message, Signing, VERSION, accept, encode, pack, receive, receive_body, signed,
};
pub use refusal::Refusal;
pub use verifier::{Policy, Proven, Verifier, Via};
