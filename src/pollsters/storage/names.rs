//! Keeps the addresses of gateways that are configured by name. Resolving may hang for as long as
//! it likes: a round only ever uses what is known already.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use super::SharedMemory;

/// How often names that resolved are looked up again.
pub const REFRESH: Duration = Duration::from_secs(60);
/// How often names that didn't are.
pub const RETRY: Duration = Duration::from_secs(2);

/// The gateways among `configured` that are names.
pub fn names_in(configured: &[String]) -> Vec<String> {
    configured
        .iter()
        .filter(|gateway| gateway.parse::<IpAddr>().is_err())
        .cloned()
        .collect()
}

/// What came of looking names up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lookups {
    /// Names that resolved.
    pub resolved: usize,
    /// Names that didn't.
    pub failed: usize,
}

impl Lookups {
    /// When to look again.
    pub fn again_in(self) -> Duration {
        if self.failed == 0 { REFRESH } else { RETRY }
    }
}

/// Looks every name up once. Blocks.
pub fn refresh(names: &[String], memory: &SharedMemory) -> Lookups {
    let mut lookups = Lookups::default();
    for name in names {
        match resolve(name) {
            Ok(addresses) if !addresses.is_empty() => {
                memory.resolved(name, &addresses);
                lookups.resolved += 1;
            }
            _ => lookups.failed += 1,
        }
    }
    lookups
}

fn resolve(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0)
        .to_socket_addrs()?
        .map(|address| address.ip())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stops_resolving_keeps_its_address_and_is_tried_again_soon() {
        let memory = SharedMemory::default();
        let known: IpAddr = "192.0.2.1".parse().unwrap();
        // No resolver is asked about a name with an empty part.
        let name = "gateway..invalid";
        memory.resolved(name, &[known]);
        assert_eq!(refresh(&[name.to_owned()], &memory).again_in(), RETRY);
        assert_eq!(memory.address_of(name), Some(known));
        let both = refresh(&["127.0.0.1".to_owned(), name.to_owned()], &memory);
        assert_eq!((both.resolved, both.failed, both.again_in()), (1, 1, RETRY));
        let well = refresh(&["127.0.0.1".to_owned()], &memory);
        assert_eq!(well.again_in(), REFRESH);
    }
}
