//! Readings that couldn't be delivered, on disk until they can: a bounded queue of files for each publisher
//! that is to lose none over a restart.
//!
//! In the order of the data: [`hand`] takes a round from a publisher and never waits for the disk;
//! [`worker`] writes what waits, and reads back what is to be sent; [`store`] is the queue; [`record`],
//! [`body`] and [`crc`] are its bytes; [`disk`] its folder. What is accepted was synced.

mod backlog;
pub mod body;
pub mod crc;
pub mod disk;
pub mod hand;
pub mod record;
pub mod store;
pub mod worker;

pub use backlog::Spooled;
