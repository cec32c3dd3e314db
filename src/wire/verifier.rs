//! Pure. What is asked of a message before it is believed: the signature that the fleet shares, the
//! proof of its host's own key, that the host may say it, that it came by the way that it names, and
//! that its time is about now.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::keys::{HostKey, KeyRing, Lookup};
use super::proof::{self, Claimed};
use super::{Refusal, origin, signature};
use crate::model::{Proof, Received, Secret, Standing, UtcTime, Value};

/// How many hosts' keys are kept ready, at about 500 bytes each: only those that a proof was right by,
/// so nobody fills it up without the keys. When it is full it is emptied, which costs each a derivation.
const KEYS_READY_MAX: usize = 65_536;

/// How many keys of one host are kept ready. More than two hold only while a rotation is under way;
/// when there are more, the oldest is derived again for each message.
const KEYS_OF_HOST_MAX: usize = 4;

/// How many hosts are known to prove what they say: far above any fleet. Messages of further ones are
/// taken without a proof too, unless proofs are required.
const PROVEN_MAX: usize = 65_536;

/// The way by which a message arrived, as the receiver knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via<'a> {
    /// Nothing is known of it.
    Anywhere,
    /// In a datagram to this address of ours.
    Udp(SocketAddr),
    /// From the queue of this topic.
    Topic(&'a str),
}

/// What is asked of messages beside the signature.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The keys of hosts. Without any, no proof is looked at and every host may speak for every other.
    pub keys: KeyRing,
    /// Whether a message of ours has to have a proof.
    pub require_proof: bool,
    /// Hosts that may say something about others.
    pub observers: BTreeSet<String>,
    /// Paths that are taken whatever the way.
    pub accept_paths: BTreeSet<String>,
    /// How far a reading's time may be off; None for any time.
    pub clock_tolerance: Option<Duration>,
}

/// What messages are verified by.
#[derive(Debug, Clone)]
pub struct Verifier {
    secret: Secret,
    policy: Arc<Policy>,
    ready: Arc<RwLock<HashMap<String, Vec<HostKey>>>>,
    proven: Proven,
}

impl Verifier {
    /// Takes what is signed with the secret that the fleet shares.
    pub fn new(secret: Secret) -> Self {
        Verifier::with(secret, Policy::default(), &Proven::default())
    }

    /// The same, and asks more. `proven` outlives a verifier, as when the configuration is loaded again.
    pub fn with(secret: Secret, policy: Policy, proven: &Proven) -> Self {
        Verifier {
            secret,
            policy: Arc::new(policy),
            ready: Arc::default(),
            proven: proven.clone(),
        }
    }

    pub(super) fn check_signature<K: AsRef<str>>(
        &self,
        message: &[(K, Value)],
    ) -> Result<(), Refusal> {
        signature::verify(message, &self.secret)
    }

    /// How well the origin of an authentic message is proven. Comes after the signature, so that only
    /// those who know the fleet's secret can make anybody derive keys.
    pub(super) fn check_proof<K: AsRef<str>>(
        &self,
        message: &[(K, Value)],
    ) -> Result<Proof, Refusal> {
        let Some(observer) = text_of(message, "ha_observer") else {
            return Ok(Proof::SharedSecret);
        };
        let policy = &*self.policy;
        if policy.keys.is_empty() && !policy.require_proof {
            return Ok(Proof::SharedSecret);
        }
        let text = text_of(message, proof::KEY).unwrap_or_default();
        let has_to = policy.require_proof || self.proven.contains(observer);
        if text.is_empty() {
            return match has_to {
                true => Err(Refusal::NoProof),
                false => Ok(Proof::SharedSecret),
            };
        }
        if !policy.keys.knows(observer) {
            return match has_to {
                true => Err(Refusal::UnknownKey),
                false => Ok(Proof::SharedSecret),
            };
        }
        let claimed = Claimed::read(text).ok_or(Refusal::BadProof)?;
        self.check_claim(observer, &claimed, message)
    }

    fn check_claim<K: AsRef<str>>(
        &self,
        observer: &str,
        claimed: &Claimed,
        message: &[(K, Value)],
    ) -> Result<Proof, Refusal> {
        let number = claimed.number;
        if self.policy.keys.is_retired(observer, number) {
            return Err(Refusal::ExpiredKey);
        }
        let proof = Proof::HostKey(number);
        if let Some(is_right) = self.check_with_ready(observer, claimed, message) {
            return is_right.then_some(proof).ok_or(Refusal::BadProof);
        }
        let key = match self.policy.keys.find(observer, number) {
            Lookup::Key(key) => *key,
            Lookup::Retired => return Err(Refusal::ExpiredKey),
            Lookup::Unknown => return Err(Refusal::UnknownKey),
        };
        if !claimed.is_by(&key, message) {
            return Err(Refusal::BadProof);
        }
        self.proven.add([observer]);
        self.keep_ready(key);
        Ok(proof)
    }

    /// Whether the claim is right, if its key is at hand.
    fn check_with_ready<K: AsRef<str>>(
        &self,
        observer: &str,
        claimed: &Claimed,
        message: &[(K, Value)],
    ) -> Option<bool> {
        let ready = self.ready.read().unwrap_or_else(PoisonError::into_inner);
        let mut keys = ready.get(observer)?.iter();
        let key = keys.find(|key| key.number() == claimed.number)?;
        Some(claimed.is_by(key, message))
    }

    fn keep_ready(&self, key: HostKey) {
        let mut ready = self.ready.write().unwrap_or_else(PoisonError::into_inner);
        if ready.len() >= KEYS_READY_MAX && !ready.contains_key(key.host()) {
            ready.clear();
        }
        let keys = ready.entry(key.host().to_owned()).or_default();
        if keys.len() < KEYS_OF_HOST_MAX && !keys.contains(&key) {
            keys.push(key);
        }
    }

    /// Whether a message that was read may say what it says, by the way it came.
    pub(super) fn check_origin(&self, received: &Received, via: Via<'_>) -> Result<(), Refusal> {
        let Some(identity) = &received.identity else {
            return Ok(());
        };
        let policy = &*self.policy;
        if !origin::is_the_way(received.path.as_deref(), via, &policy.accept_paths) {
            return Err(Refusal::OtherPath);
        }
        let is_held = policy.require_proof || !policy.keys.is_empty();
        if is_held && !origin::may_say(&identity.observer, received, &policy.observers) {
            return Err(Refusal::WrongHost);
        }
        Ok(())
    }

    /// Takes a reading whose time is too far from ours for what it is: no word about now. What is none
    /// already stays so, whatever its time.
    pub fn judge_time(&self, received: &mut Received, now: UtcTime) {
        let (Some(tolerance), Some(at)) = (self.policy.clock_tolerance, received.timestamp) else {
            return;
        };
        if received.identity.is_none() || received.evidence.standing != Standing::Live {
            return;
        }
        let off = at.unix_micros().saturating_sub(now.unix_micros());
        if u128::from(off.unsigned_abs()) > tolerance.as_micros() {
            received.evidence.standing = match off > 0 {
                true => Standing::Future,
                false => Standing::Ancient,
            };
        }
    }
}

/// The hosts that have proven themselves once: from then on they have to.
#[derive(Debug, Clone, Default)]
pub struct Proven(Arc<RwLock<HashSet<String>>>);

impl Proven {
    /// These have.
    pub fn add<'h>(&self, hosts: impl IntoIterator<Item = &'h str>) {
        let mut proven = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for host in hosts {
            if proven.len() < PROVEN_MAX && !proven.contains(host) {
                proven.insert(host.to_owned());
            }
        }
    }

    /// Whether a host has.
    pub fn contains(&self, host: &str) -> bool {
        let proven = self.0.read().unwrap_or_else(PoisonError::into_inner);
        proven.contains(host)
    }
}

/// The text of an entry, if it is there and text.
fn text_of<'m, K: AsRef<str>>(message: &'m [(K, Value)], key: &str) -> Option<&'m str> {
    let mut entries = message.iter();
    let (_, value) = entries.find(|(known, _)| known.as_ref() == key)?;
    value.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifier(keys: &str) -> Verifier {
        let policy = Policy {
            keys: KeyRing::parse(keys).unwrap(),
            ..Policy::default()
        };
        Verifier::with(Secret::new("s"), policy, &Proven::default())
    }

    fn proved(host: &str, number: u32, secret: [u8; 32]) -> Vec<(&'static str, Value)> {
        let mut message = vec![("ha_observer", Value::from(host))];
        let proof = proof::make(&message, &HostKey::new(host, number, secret));
        message.push((proof::KEY, proof.into()));
        message
    }

    fn hex(byte: u8) -> String {
        format!("{byte:02x}").repeat(32)
    }

    #[test]
    fn a_proof_under_a_wrong_key_makes_nobody_s_key_ready_and_nobody_proven() {
        let verifier = verifier(&format!("master 1 {}", hex(1)));
        for host in ["a", "b", "c"] {
            let message = proved(host, 1, [2; 32]);
            assert_eq!(verifier.check_proof(&message), Err(Refusal::BadProof));
            assert!(!verifier.proven.contains(host));
        }
        assert!(verifier.ready.read().unwrap().is_empty());
    }

    #[test]
    fn keys_are_kept_ready_within_bounds() {
        let keys: String = (1..=6)
            .map(|number| format!("key a {number} {}\n", hex(number)))
            .collect();
        let verifier = verifier(&keys);
        for _ in 0..2 {
            for number in 1..=6 {
                let message = proved("a", u32::from(number), [number; 32]);
                let proof = Proof::HostKey(number.into());
                assert_eq!(verifier.check_proof(&message), Ok(proof));
            }
        }
        assert_eq!(verifier.ready.read().unwrap()["a"].len(), KEYS_OF_HOST_MAX);
        for number in 0..KEYS_READY_MAX {
            verifier.keep_ready(HostKey::new(&format!("h{number}"), 1, [0; 32]));
        }
        assert!(verifier.ready.read().unwrap().len() <= KEYS_READY_MAX);
    }

    #[test]
    fn more_hosts_than_a_fleet_has_are_not_remembered() {
        let proven = Proven::default();
        for number in 0..=PROVEN_MAX {
            proven.add([format!("h{number}").as_str()]);
        }
        assert!(proven.contains("h0") && !proven.contains(&format!("h{PROVEN_MAX}")));
    }
}
