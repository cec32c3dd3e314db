//! Pure. What a node remembers about its gateways across restarts: which ones answered it, by
//! which interface, and the last addresses of those that are named.
//!
//! It is what tells "the storage path is gone" from "this was never configured right", so losing
//! it is safe (no reading) and keeping it is what makes a cut known after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// Gateways and names remembered: far above any real list, so that a file gone wild stays small.
pub const ENTRIES_MAX: usize = 65_536;

/// What is written to `state_path`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Interface of the first answer, by the gateway's address.
    #[serde(default)]
    pub answered: BTreeMap<IpAddr, String>,
    /// Last known address, by the gateway's name.
    #[serde(default)]
    pub names: BTreeMap<String, IpAddr>,
    /// URIs of libvirts that have answered.
    #[serde(default)]
    pub hypervisors: BTreeSet<String>,
}

/// The memory as pollsters, the resolver and the one who saves it share it.
#[derive(Debug, Clone, Default)]
pub struct SharedMemory {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    memory: Memory,
    version: u64,
}

impl SharedMemory {
    /// Starts from what was saved.
    pub fn new(memory: Memory) -> Self {
        SharedMemory {
            inner: Arc::new(Mutex::new(Inner { memory, version: 0 })),
        }
    }

    /// The interface by which this gateway first answered, if it ever did.
    pub fn interface_of(&self, gateway: IpAddr) -> Option<String> {
        self.lock().memory.answered.get(&gateway).cloned()
    }

    /// It answered by this interface. The first answer is kept, unless `replace` says that the
    /// interface was chosen by configuration.
    pub fn answered(&self, gateway: IpAddr, interface: &str, replace: bool) {
        let mut inner = self.lock();
        let known = inner.memory.answered.get(&gateway);
        let is_news = match known {
            Some(known) => replace && known != interface,
            None => inner.memory.answered.len() < ENTRIES_MAX,
        };
        if is_news {
            inner.memory.answered.insert(gateway, interface.to_owned());
            inner.version += 1;
        }
    }

    /// The last known address of a name.
    pub fn address_of(&self, name: &str) -> Option<IpAddr> {
        self.lock().memory.names.get(name).copied()
    }

    /// A name was resolved. As long as the address in use is among those it resolves to, it stays:
    /// a list in another order is no move.
    pub fn resolved(&self, name: &str, addresses: &[IpAddr]) {
        let Some(first) = addresses.first() else {
            return;
        };
        let mut inner = self.lock();
        let known = inner.memory.names.get(name);
        let is_news = known.is_none_or(|known| !addresses.contains(known));
        if is_news && (known.is_some() || inner.memory.names.len() < ENTRIES_MAX) {
            inner.memory.names.insert(name.to_owned(), *first);
            inner.version += 1;
        }
    }

    /// Whether this libvirt ever answered.
    pub fn hypervisor_answered(&self, uri: &str) -> bool {
        self.lock().memory.hypervisors.contains(uri)
    }

    /// This libvirt answered.
    pub fn hypervisor_answers(&self, uri: &str) {
        let mut inner = self.lock();
        let known = &mut inner.memory.hypervisors;
        if known.len() < ENTRIES_MAX && !known.contains(uri) {
            known.insert(uri.to_owned());
            inner.version += 1;
        }
    }

    /// What to save, if anything changed since `seen`, and the version to compare with next time.
    pub fn changed_since(&self, seen: u64) -> Option<(u64, Memory)> {
        let inner = self.lock();
        (inner.version != seen).then(|| (inner.version, inner.memory.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is one insertion, so a holder that panicked left nothing half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_interface_is_kept_until_configuration_names_another() {
        let memory = SharedMemory::default();
        let gateway = ip("192.0.2.7");
        memory.answered(gateway, "st0", false);
        memory.answered(gateway, "mgmt0", false);
        assert_eq!(memory.interface_of(gateway).as_deref(), Some("st0"));
        memory.answered(gateway, "st1", true);
        assert_eq!(memory.interface_of(gateway).as_deref(), Some("st1"));
        assert_eq!(
            memory.changed_since(0).unwrap().0,
            2,
            "only what changed counts as a change"
        );
    }

    #[test]
    fn a_name_keeps_its_address_while_it_still_resolves_to_it() {
        let memory = SharedMemory::default();
        memory.resolved("gw", &[ip("192.0.2.1"), ip("192.0.2.2")]);
        memory.resolved("gw", &[ip("192.0.2.2"), ip("192.0.2.1")]);
        assert_eq!(memory.address_of("gw"), Some(ip("192.0.2.1")));
        memory.resolved("gw", &[]);
        assert_eq!(memory.address_of("gw"), Some(ip("192.0.2.1")));
        memory.resolved("gw", &[ip("192.0.2.2")]);
        assert_eq!(memory.address_of("gw"), Some(ip("192.0.2.2")));
    }

    #[test]
    fn what_is_saved_is_read_back() {
        let memory = SharedMemory::default();
        memory.answered(ip("2001:db8::7"), "st0", false);
        memory.resolved("gw", &[ip("192.0.2.1")]);
        let (_, saved) = memory.changed_since(0).unwrap();
        let text = serde_json::to_string(&saved).unwrap();
        assert_eq!(serde_json::from_str::<Memory>(&text).unwrap(), saved);
    }
}
