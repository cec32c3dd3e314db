//! Pure. The closed lists of what a probe can say: what became of a gateway's probes, and why a
//! pollster has no reading. Codes go over the wire as volumes, names are metric labels and
//! metadata, words are for people; all three are a contract and are never given a new meaning.

use std::fmt;

/// Writes one closed list: variant, code, name, words.
macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal, $text:literal, $words:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every member, in order of its code.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The number on the wire and in the database.
            pub fn code(self) -> i64 {
                match self { $($name::$variant => $code),+ }
            }

            /// The name in metadata and metric labels.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }

            /// What to tell a person.
            pub fn words(self) -> &'static str {
                match self { $($name::$variant => $words),+ }
            }

            /// The member with this code; None for one from a newer agent.
            pub fn from_code(code: i64) -> Option<Self> {
                Self::ALL.iter().copied().find(|member| member.code() == code)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

reasons! {
    /// What became of one gateway's probes in one round: the value of `storage_gateway.status`.
    GatewayStatus {
        /// Enough echo replies came back by the pinned path.
        Answered = 0, "answered", "answers";
        /// Nothing came back in time.
        Silent = 1, "silent", "silent";
        /// A router, or our own stack, said that the host or network can't be reached.
        Unreachable = 2, "unreachable", "unreachable, says the network";
        /// A filter on the path refused.
        Prohibited = 3, "prohibited", "refused by a filter on the path";
        /// It answered before, and now our own link, address or route to it is gone.
        LocalPathLost = 4, "local_path_lost", "own link, address or route to it is gone";
        /// The path loops or is too long.
        TimeExceeded = 5, "time_exceeded", "probes expire on the path";
        /// Any other error from the path.
        PathError = 6, "path_error", "the path reports an error";
        /// Answers came, but around through another interface.
        WrongPath = 7, "wrong_path", "answers only through another interface";
        /// Answers came, but after the timeout.
        TooLate = 8, "too_late", "answers after the timeout";
    }
}

reasons! {
    /// Why a pollster has no reading: the value of `pollster.failed`. Each is on our own side and
    /// says nothing about what was to be probed.
    FailReason {
        /// The kernel refuses an ICMP socket (EPERM, EACCES).
        NoPermission = 1, "no_permission", "no permission for ICMP: grant CAP_NET_RAW or widen net.ipv4.ping_group_range";
        /// A filter on our own output refuses the probes (EPERM from send).
        OutputBlocked = 2, "output_blocked", "our own firewall blocks the probes";
        /// No gateway is configured.
        NotConfigured = 3, "not_configured", "storage_server_address is empty";
        /// The name doesn't resolve and no address of it is known.
        NameUnresolved = 4, "name_unresolved", "the gateway's name does not resolve";
        /// Out of file descriptors (EMFILE, ENFILE).
        DescriptorLimit = 5, "descriptor_limit", "out of file descriptors";
        /// Out of socket memory (ENOBUFS, ENOMEM).
        NoBuffers = 6, "no_buffers", "out of socket buffers";
        /// Our own link, address or route is missing, and the gateway never answered this node.
        PathNeverSeen = 7, "path_never_seen", "no path to a gateway that never answered: check addresses, storage_interface and routes";
        /// Fewer than `ping_count` probes really left.
        ProbesNotSent = 8, "probes_not_sent", "not all probes could be sent";
        /// Our own socket dropped packets.
        ReceiveOverflow = 9, "receive_overflow", "our own socket dropped replies";
        /// We ran late: stopped, paused or starved of CPU.
        TimersLate = 10, "timers_late", "the agent was stopped or starved of CPU";
        /// Too many gateways without a reading for the quorum to say yes or no.
        NoQuorum = 11, "no_quorum", "too few gateways could be probed to judge";
        /// Another error from our own operating system.
        SystemError = 12, "system_error", "an error of our own operating system: see the agent's log";
        /// libvirt refuses us.
        HypervisorDenied = 13, "hypervisor_denied", "no permission for libvirt: let the agent's user open its read-only socket";
        /// No driver serves the configured URI, or it can't be understood.
        HypervisorUnusable = 14, "hypervisor_unusable", "libvirt can't be used by this URI: see libvirt_uri";
        /// No libvirt is there, and none ever answered this node.
        HypervisorNeverSeen = 15, "hypervisor_never_seen", "libvirt isn't there and never answered this node: is it installed? see libvirt_uri";
        /// libvirt hangs or is dead, so what it would have said is unknown; `hypervisor.connectivity`
        /// is the reading about that.
        HypervisorSilent = 16, "hypervisor_silent", "libvirt hangs or is dead";
        /// libvirt lives and answered with an error.
        HypervisorError = 17, "hypervisor_error", "libvirt answered with an error: see the agent's log";
        /// The QEMU of one guest doesn't answer libvirt.
        InstanceSilent = 18, "instance_silent", "the guest's QEMU doesn't answer libvirt";
        /// An external pollster took longer than it may.
        PluginTimeout = 19, "plugin_timeout", "took longer than its timeout and was killed";
        /// An external pollster said more than it may.
        PluginOutput = 20, "plugin_output", "printed more than it may and was killed";
        /// An external pollster died by a signal, its memory limit among the causes.
        PluginCrashed = 21, "plugin_crashed", "died by a signal, or ran out of the memory it may have";
        /// What an external pollster said can't be read.
        PluginGarbage = 22, "plugin_garbage", "printed what can't be read in its format";
        /// An external pollster can't be started.
        PluginMissing = 23, "plugin_missing", "can't be started: is it installed and executable?";
        /// Not one host of a network answers: the fault may be the observer's own.
        NoWitness = 24, "no_witness", "no host of this network answers: the fault may be our own";
        /// No host to be looked at is configured.
        NoHosts = 25, "no_hosts", "no hosts to look at are configured";
        /// The BMC, or the way to it, doesn't answer.
        BmcSilent = 26, "bmc_silent", "the BMC doesn't answer";
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_and_names_are_unique_and_lead_back() {
        let mut codes = BTreeSet::new();
        let mut names = BTreeSet::new();
        for status in GatewayStatus::ALL {
            assert_eq!(GatewayStatus::from_code(status.code()), Some(*status));
            assert!(codes.insert(status.code()) && names.insert(status.as_str()));
        }
        codes.clear();
        for reason in FailReason::ALL {
            assert_eq!(FailReason::from_code(reason.code()), Some(*reason));
            assert!(codes.insert(reason.code()) && names.insert(reason.as_str()));
        }
        assert_eq!(
            FailReason::from_code(0),
            None,
            "0 is no reason: a reading of 0 must not look like one"
        );
    }
}
