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

/// Looks every name up once and says when to do so again. Blocks.
pub fn refresh(names: &[String], memory: &SharedMemory) -> Duration {
    let mut all_resolved = true;
    for name in names {
        match resolve(name) {
            Ok(addresses) if !addresses.is_empty() => memory.resolved(name, &addresses),
            _ => all_resolved = false,
        }
    }
    if all_resolved { REFRESH } else { RETRY }
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
        assert_eq!(refresh(&[name.to_owned()], &memory), RETRY);
        assert_eq!(memory.address_of(name), Some(known));
        assert_eq!(refresh(&["127.0.0.1".to_owned()], &memory), REFRESH);
    }
}
