//! Rounds of ICMP echo probes to any number of addresses at once: what the pollsters that ping share.
//!
//! Pure parts: [`icmp`] (packets), [`counted`] (metrics), [`round`] (one round), [`weigh`] (what became of one target's
//! probes), [`path`] and [`netlink`] (our own side of the path). IO: [`prober`], [`socket`],
//! [`routes`].

pub mod counted;
pub mod icmp;
pub mod netlink;
pub mod path;
pub mod prober;
pub mod round;
pub mod routes;
pub mod socket;
pub mod weigh;

use std::io;

use nix::errno::Errno;

use crate::model::FailReason;

/// The reason behind an error of our own operating system.
pub fn reason_of(error: &io::Error) -> FailReason {
    let errno = error
        .raw_os_error()
        .map_or(Errno::UnknownErrno, Errno::from_raw);
    socket::reason_of(
        "asking the kernel for a path",
        errno,
        FailReason::NoPermission,
    )
}
