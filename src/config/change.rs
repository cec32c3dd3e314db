//! Pure. What a reload makes of new settings: those of options that change while the program runs
//! hold from now on, those that only a start reads keep their running value and are named.

use super::Purpose;
use super::broker::{BrokerSettings, Declared};
use super::options::{self, DEFAULT, Reload};
use super::settings::{
    AgentSettings, CentralSettings, CollectorSettings, ComputeSettings, DatabaseSettings,
    IpmiSettings, LibvirtSettings, LogSettings, PluginSettings, ProcessSettings, Reserved,
    Settings, TrustSettings,
};

/// What holds after a reload, and by what it differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What holds.
    pub settings: Settings,
    /// Options with a new value that holds; those that make one value together are named together.
    pub live: Vec<String>,
    /// Options with a new value that waits for a start, likewise.
    pub pending: Vec<String>,
}

/// The options that make one value, as section and name.
type Names = [(&'static str, &'static str)];

/// Compares every setting that a program reads. No `..` below: whoever adds a setting says by which
/// option it is known.
pub fn change(purpose: Purpose, running: &Settings, loaded: Settings) -> Change {
    let mut picker = Picker::new(purpose);
    let settings = settings(&mut picker, running, loaded);
    Change {
        settings,
        live: picker.live,
        pending: picker.pending,
    }
}

#[derive(Debug)]
struct Picker {
    purpose: Purpose,
    live: Vec<String>,
    pending: Vec<String>,
    #[cfg(test)]
    asked: Vec<(&'static str, &'static str)>,
}

impl Picker {
    fn new(purpose: Purpose) -> Self {
        Picker {
            purpose,
            live: Vec::new(),
            pending: Vec::new(),
            #[cfg(test)]
            asked: Vec::new(),
        }
    }

    /// The new value if it may hold, else the running one.
    fn pick<T: PartialEq + Clone>(&mut self, names: &Names, running: &T, new: T) -> T {
        #[cfg(test)]
        self.asked.extend_from_slice(names);
        let is_used = names
            .iter()
            .any(|(group, _)| self.purpose.uses(&format!("[{group}]")));
        if *running == new || !is_used {
            return new;
        }
        let is_live = |(group, name): &(&str, &str)| {
            options::find(group, name).is_some_and(|spec| spec.reload == Reload::Live)
        };
        let titles: Vec<String> = names
            .iter()
            .map(|(group, name)| format!("[{group}] {name}"))
            .collect();
        let title = titles.join(" or ");
        if names.iter().all(is_live) {
            self.live.push(title);
            new
        } else {
            self.pending.push(title);
            running.clone()
        }
    }

    /// The same for a single option.
    fn one<T: PartialEq + Clone>(
        &mut self,
        group: &'static str,
        name: &'static str,
        running: &T,
        new: T,
    ) -> T {
        self.pick(&[(group, name)], running, new)
    }
}

fn settings(picker: &mut Picker, running: &Settings, loaded: Settings) -> Settings {
    let Settings {
        host,
        sample_source,
        polling_namespaces,
        pipeline_cfg_file,
        pipeline_refresh,
        state_path,
        log,
        process,
        reserved,
        compute,
        libvirt,
        central,
        agent,
        plugins,
        ipmi,
        collector,
        database,
        telemetry_secret,
        allow_weak_secret,
        host_key_file,
        broker,
        topic,
        spool_bytes,
    } = loaded;
    let of_refresh = [
        (DEFAULT, "refresh_pipeline_cfg"),
        (DEFAULT, "pipeline_polling_interval"),
    ];
    let of_secret = [
        ("publisher", "telemetry_secret"),
        ("publisher", "telemetry_secret_file"),
    ];
    Settings {
        host: picker.one(DEFAULT, "host", &running.host, host),
        sample_source: picker.one(
            DEFAULT,
            "sample_source",
            &running.sample_source,
            sample_source,
        ),
        polling_namespaces: picker.one(
            DEFAULT,
            "polling_namespaces",
            &running.polling_namespaces,
            polling_namespaces,
        ),
        pipeline_cfg_file: picker.one(
            DEFAULT,
            "pipeline_cfg_file",
            &running.pipeline_cfg_file,
            pipeline_cfg_file,
        ),
        pipeline_refresh: picker.pick(&of_refresh, &running.pipeline_refresh, pipeline_refresh),
        state_path: picker.one(DEFAULT, "state_path", &running.state_path, state_path),
        log: self::log(picker, &running.log, log),
        process: self::process(picker, &running.process, &process),
        reserved: self::reserved(picker, &running.reserved, reserved),
        compute: self::compute(picker, &running.compute, compute),
        libvirt: self::libvirt(picker, &running.libvirt, libvirt),
        central: self::central(picker, &running.central, central),
        agent: self::agent(picker, &running.agent, &agent),
        plugins: self::plugins(picker, &running.plugins, plugins),
        ipmi: self::ipmi(picker, &running.ipmi, ipmi),
        collector: self::collector(picker, &running.collector, collector),
        database: self::database(picker, &running.database, database),
        telemetry_secret: picker.pick(&of_secret, &running.telemetry_secret, telemetry_secret),
        allow_weak_secret: picker.one(
            "publisher",
            "allow_weak_secret",
            &running.allow_weak_secret,
            allow_weak_secret,
        ),
        host_key_file: picker.one(
            "publisher",
            "host_key_file",
            &running.host_key_file,
            host_key_file,
        ),
        broker: self::broker(picker, &running.broker, broker),
        topic: picker.one(
            "publisher_notifier",
            "metering_topic",
            &running.topic,
            topic,
        ),
        spool_bytes: picker.one(
            "publisher_notifier",
            "spool_max_mb",
            &running.spool_bytes,
            spool_bytes,
        ),
    }
}

fn broker(picker: &mut Picker, running: &BrokerSettings, loaded: BrokerSettings) -> BrokerSettings {
    let BrokerSettings {
        // Says where the members are from, and changes nothing by itself.
        is_chosen,
        members,
        virtual_host,
        tls,
        heartbeat,
        declared,
    } = loaded;
    let group = "oslo_messaging_rabbit";
    let of_members = [
        (DEFAULT, "transport_url"),
        (DEFAULT, "transport_url_file"),
        (group, "rabbit_virtual_host"),
        (group, "rabbit_hosts"),
        (group, "rabbit_host"),
        (group, "rabbit_port"),
        (group, "rabbit_userid"),
        (group, "rabbit_password"),
    ];
    let of_tls = [
        (group, "ssl"),
        (group, "ssl_ca_file"),
        (group, "ssl_cert_file"),
        (group, "ssl_key_file"),
    ];
    let place = (running.members.clone(), running.virtual_host.clone());
    let (members, virtual_host) = picker.pick(&of_members, &place, (members, virtual_host));
    BrokerSettings {
        is_chosen,
        members,
        virtual_host,
        tls: picker.pick(&of_tls, &running.tls, tls),
        heartbeat: picker.one(
            group,
            "heartbeat_timeout_threshold",
            &running.heartbeat,
            heartbeat,
        ),
        declared: self::declared(picker, &running.declared, declared),
    }
}

fn declared(picker: &mut Picker, running: &Declared, loaded: Declared) -> Declared {
    let Declared {
        exchange,
        durable,
        auto_delete,
        mirrored,
        quorum,
    } = loaded;
    let group = "oslo_messaging_rabbit";
    let of_queues = [
        (group, "amqp_durable_queues"),
        (group, "rabbit_quorum_queue"),
    ];
    let kind = (running.durable, running.quorum);
    let (durable, quorum) = picker.pick(&of_queues, &kind, (durable, quorum));
    Declared {
        exchange: picker.one(DEFAULT, "control_exchange", &running.exchange, exchange),
        durable,
        auto_delete: picker.one(group, "amqp_auto_delete", &running.auto_delete, auto_delete),
        mirrored: picker.one(group, "rabbit_ha_queues", &running.mirrored, mirrored),
        quorum,
    }
}

fn log(picker: &mut Picker, running: &LogSettings, loaded: LogSettings) -> LogSettings {
    let LogSettings {
        debug,
        verbose,
        use_stderr,
        file,
        syslog_facility,
        use_journal,
        use_json,
    } = loaded;
    let of_file = [(DEFAULT, "log_file"), (DEFAULT, "log_dir")];
    let of_syslog = [(DEFAULT, "use_syslog"), (DEFAULT, "syslog_log_facility")];
    LogSettings {
        debug: picker.one(DEFAULT, "debug", &running.debug, debug),
        verbose: picker.one(DEFAULT, "verbose", &running.verbose, verbose),
        use_stderr: picker.one(DEFAULT, "use_stderr", &running.use_stderr, use_stderr),
        file: picker.pick(&of_file, &running.file, file),
        syslog_facility: picker.pick(&of_syslog, &running.syslog_facility, syslog_facility),
        use_journal: picker.one(DEFAULT, "use_journal", &running.use_journal, use_journal),
        use_json: picker.one(DEFAULT, "use_json", &running.use_json, use_json),
    }
}

fn process(
    picker: &mut Picker,
    running: &ProcessSettings,
    loaded: &ProcessSettings,
) -> ProcessSettings {
    let ProcessSettings {
        lock_memory,
        core_dumps,
    } = *loaded;
    ProcessSettings {
        lock_memory: picker.one(DEFAULT, "lock_memory", &running.lock_memory, lock_memory),
        core_dumps: picker.one(DEFAULT, "core_dumps", &running.core_dumps, core_dumps),
    }
}

fn reserved(picker: &mut Picker, running: &Reserved, loaded: Reserved) -> Reserved {
    let Reserved {
        namespaces,
        keys,
        length,
    } = loaded;
    let name = "reserved_metadata_namespace";
    Reserved {
        namespaces: picker.one(DEFAULT, name, &running.namespaces, namespaces),
        keys: picker.one(DEFAULT, "reserved_metadata_keys", &running.keys, keys),
        length: picker.one(DEFAULT, "reserved_metadata_length", &running.length, length),
    }
}

fn compute(
    picker: &mut Picker,
    running: &ComputeSettings,
    loaded: ComputeSettings,
) -> ComputeSettings {
    let ComputeSettings {
        gateways,
        ping_count,
        accepted_loss,
        ping_interval,
        ping_timeout,
        quorum,
        storage_interface,
        storage_source_addresses,
        cluster,
        host_tags,
    } = loaded;
    let group = "compute";
    let of_loss = [(group, "ping_loss_ratio"), (group, "ping_ratio_meaning")];
    ComputeSettings {
        gateways: picker.one(group, "storage_server_address", &running.gateways, gateways),
        ping_count: picker.one(group, "ping_count", &running.ping_count, ping_count),
        accepted_loss: picker.pick(&of_loss, &running.accepted_loss, accepted_loss),
        ping_interval: picker.one(
            group,
            "ping_interval",
            &running.ping_interval,
            ping_interval,
        ),
        ping_timeout: picker.one(group, "ping_timeout", &running.ping_timeout, ping_timeout),
        quorum: picker.one(group, "storage_quorum", &running.quorum, quorum),
        storage_interface: picker.one(
            group,
            "storage_interface",
            &running.storage_interface,
            storage_interface,
        ),
        storage_source_addresses: picker.one(
            group,
            "storage_source_address",
            &running.storage_source_addresses,
            storage_source_addresses,
        ),
        cluster: picker.one(group, "cluster", &running.cluster, cluster),
        host_tags: picker.one(group, "host_tags", &running.host_tags, host_tags),
    }
}

fn libvirt(
    picker: &mut Picker,
    running: &LibvirtSettings,
    loaded: LibvirtSettings,
) -> LibvirtSettings {
    let LibvirtSettings {
        uri,
        // Says where the URI is from, and changes nothing by itself.
        is_chosen,
        timeout,
    } = loaded;
    let of_uri = [("compute", "libvirt_uri"), ("compute", "libvirt_type")];
    LibvirtSettings {
        uri: picker.pick(&of_uri, &running.uri, uri),
        is_chosen,
        timeout: picker.one("compute", "libvirt_timeout", &running.timeout, timeout),
    }
}

fn central(
    picker: &mut Picker,
    running: &CentralSettings,
    loaded: CentralSettings,
) -> CentralSettings {
    let CentralSettings { hosts_file } = loaded;
    CentralSettings {
        hosts_file: picker.one("central", "hosts_file", &running.hosts_file, hosts_file),
    }
}

fn agent(picker: &mut Picker, running: &AgentSettings, loaded: &AgentSettings) -> AgentSettings {
    let AgentSettings { http_listen } = *loaded;
    AgentSettings {
        http_listen: picker.one("agent", "http_listen", &running.http_listen, http_listen),
    }
}

fn plugins(
    picker: &mut Picker,
    running: &PluginSettings,
    loaded: PluginSettings,
) -> PluginSettings {
    let PluginSettings {
        pollsters,
        timeout,
        memory_bytes,
        output_bytes,
        user,
    } = loaded;
    let group = "plugins";
    PluginSettings {
        pollsters: picker.one(group, "pollster", &running.pollsters, pollsters),
        timeout: picker.one(group, "timeout", &running.timeout, timeout),
        memory_bytes: picker.one(group, "memory_max", &running.memory_bytes, memory_bytes),
        output_bytes: picker.one(group, "output_max", &running.output_bytes, output_bytes),
        user: picker.one(group, "user", &running.user, user),
    }
}

fn ipmi(picker: &mut Picker, running: &IpmiSettings, loaded: IpmiSettings) -> IpmiSettings {
    let IpmiSettings { command, timeout } = loaded;
    IpmiSettings {
        command: picker.one("ipmi", "command", &running.command, command),
        timeout: picker.one("ipmi", "timeout", &running.timeout, timeout),
    }
}

fn collector(
    picker: &mut Picker,
    running: &CollectorSettings,
    loaded: CollectorSettings,
) -> CollectorSettings {
    let CollectorSettings {
        udp_address,
        udp_port,
        batch_size,
        batch_timeout,
        topics,
        prefetch,
        trust,
        http_listen,
    } = loaded;
    let group = "collector";
    let of_topics = [(group, "topics"), (group, "notifier")];
    CollectorSettings {
        udp_address: picker.one(group, "udp_address", &running.udp_address, udp_address),
        udp_port: picker.one(group, "udp_port", &running.udp_port, udp_port),
        batch_size: picker.one(group, "batch_size", &running.batch_size, batch_size),
        batch_timeout: picker.one(
            group,
            "batch_timeout",
            &running.batch_timeout,
            batch_timeout,
        ),
        topics: picker.pick(&of_topics, &running.topics, topics),
        prefetch: picker.one(group, "prefetch", &running.prefetch, prefetch),
        trust: self::trust(picker, &running.trust, trust),
        http_listen: picker.one(group, "http_listen", &running.http_listen, http_listen),
    }
}

fn trust(picker: &mut Picker, running: &TrustSettings, loaded: TrustSettings) -> TrustSettings {
    let TrustSettings {
        host_keys_file,
        require_proof,
        observers,
        accept_paths,
        clock_tolerance,
    } = loaded;
    let group = "collector";
    TrustSettings {
        host_keys_file: picker.one(
            group,
            "host_keys_file",
            &running.host_keys_file,
            host_keys_file,
        ),
        require_proof: picker.one(
            group,
            "require_proof",
            &running.require_proof,
            require_proof,
        ),
        observers: picker.one(group, "observers", &running.observers, observers),
        accept_paths: picker.one(group, "accept_paths", &running.accept_paths, accept_paths),
        clock_tolerance: picker.one(
            group,
            "clock_tolerance",
            &running.clock_tolerance,
            clock_tolerance,
        ),
    }
}

fn database(
    picker: &mut Picker,
    running: &DatabaseSettings,
    loaded: DatabaseSettings,
) -> DatabaseSettings {
    let DatabaseSettings {
        connection,
        retention,
    } = loaded;
    let group = "database";
    let of_connection = [(group, "connection"), (group, "connection_file")];
    DatabaseSettings {
        connection: picker.pick(&of_connection, &running.connection, connection),
        retention: picker.one(
            group,
            "metering_time_to_live",
            &running.retention,
            retention,
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::options::{Effect, OPTIONS};
    use super::super::{ConfigText, load};
    use super::*;

    fn loaded(text: &str) -> Settings {
        let file = ConfigText {
            path: "/etc/ha.conf".into(),
            text: text.to_owned(),
        };
        load(Purpose::Everything, &[file], &[], "n", true)
            .unwrap()
            .settings
    }

    #[test]
    fn every_option_that_is_read_belongs_to_one_setting() {
        let mut picker = Picker::new(Purpose::Everything);
        let same = loaded("");
        settings(&mut picker, &same, same.clone());
        let asked: BTreeSet<_> = picker.asked.iter().copied().collect();
        assert_eq!(asked.len(), picker.asked.len(), "one is asked for twice");
        let read = OPTIONS.iter().filter(|spec| spec.effect == Effect::Read);
        // There is one dispatcher, so no setting holds it.
        let read: BTreeSet<_> = read
            .map(|spec| (spec.group, spec.name))
            .filter(|(_, name)| *name != "meter_dispatchers")
            .collect();
        assert_eq!(asked, read);
    }

    #[test]
    fn nothing_differs_from_itself() {
        let same = loaded("[compute]\nstorage_server_address = 10.0.0.1\n");
        let Change {
            settings,
            live,
            pending,
        } = change(Purpose::Everything, &same, same.clone());
        assert_eq!(settings, same);
        assert_eq!((live.len(), pending.len()), (0, 0));
    }

    #[test]
    fn what_needs_a_start_keeps_its_value_and_is_named() {
        let running = loaded("");
        let text = "[DEFAULT]\nhost = other\ndebug = true\nlog_dir = /x\nlog_file = y\n[compute]\n\
                    ping_count = 7\nping_ratio_meaning = success\nping_loss_ratio = 0.8\n\
                    [database]\nconnection = sqlite:////tmp/x\n\
                    [publisher]\ntelemetry_secret = 0123456789abcdef\n";
        let Change {
            settings,
            live,
            pending,
        } = change(Purpose::Everything, &running, loaded(text));
        assert_eq!(
            live,
            [
                "[DEFAULT] debug",
                "[compute] ping_count",
                "[compute] ping_loss_ratio or [compute] ping_ratio_meaning",
                "[publisher] telemetry_secret or [publisher] telemetry_secret_file",
            ]
        );
        assert_eq!(
            pending,
            [
                "[DEFAULT] host",
                "[DEFAULT] log_file or [DEFAULT] log_dir",
                "[database] connection or [database] connection_file",
            ]
        );
        assert_eq!(settings.host, running.host);
        assert_eq!(settings.log.file, None);
        assert_eq!(settings.database, running.database);
        assert!(settings.log.debug);
        assert_eq!(settings.compute.ping_count, 7);
        let agent = change(Purpose::Agent, &running, loaded(text));
        assert!(
            agent
                .pending
                .iter()
                .all(|title| !title.contains("database"))
        );
        assert!(
            change(Purpose::Everything, &running, settings.clone())
                .pending
                .is_empty()
        );
        assert!(
            change(Purpose::Everything, &settings, running.clone())
                .pending
                .is_empty()
        );
    }
}
