//! Pure. The sections and options of other services that stand in a copied `ceilometer.conf`. They
//! are ignored, and known well enough not to be taken for misspelt ones.

use super::options::{self, DEFAULT};

/// Sections that belong to somebody else as a whole.
const SECTIONS: &[&str] = &[
    "alarm",
    "alarms",
    "api",
    "audit_middleware_notifications",
    "cache",
    "central",
    "coordination",
    "cors",
    "cors.subdomain",
    "event",
    "exchange_control",
    "hardware",
    "healthcheck",
    "ipmi",
    "keystone_authtoken",
    "meter",
    "notification",
    "polling",
    "profiler",
    "publisher_rpc",
    "service_credentials",
    "service_types",
    "sql",
    "ssl",
    "storage",
    "vmware",
    "xenapi",
    "zaqar",
];

/// Beginnings of such sections' names.
const SECTION_PREFIXES: &[&str] = &["dispatcher_", "matchmaker_", "oslo_", "rgw_"];

/// Options of Ceilometer and the oslo libraries that stand in sections of ours. A `*` stands for
/// any end or any beginning.
const OPTIONS: &[(&str, &[&str])] = &[
    (
        DEFAULT,
        &[
            "*_control_exchange",
            "allowed_rpc_exception_modules",
            "amqp_*",
            "api_paste_config",
            "auth_strategy",
            "backdoor_port",
            "backdoor_socket",
            "batch_polled_samples",
            "cfg_file",
            "cinder_*",
            "collector_workers",
            "conn_pool_*",
            "control_exchange",
            "default_log_levels",
            "definitions_cfg_file",
            "event_dispatchers",
            "event_pipeline_cfg_file",
            "executor_thread_pool_size",
            "fake_rabbit",
            "fatal_deprecations",
            "fatal_exception_format_errors",
            "graceful_shutdown_timeout",
            "heartbeat_*",
            "http_control_exchanges",
            "http_timeout",
            "hypervisor_inspector",
            "instance_format",
            "instance_uuid_format",
            "kombu_*",
            "log_config",
            "log_config_append",
            "log_date_format",
            "log_format",
            "log_options",
            "log_rotat*",
            "logging_*",
            "max_parallel_requests",
            "my_ip",
            "nova_http_log_debug",
            "notification_*",
            "partitioning_group_prefix",
            "publish_errors",
            "qpid_*",
            "rabbit_*",
            "rate_limit_*",
            "refresh_event_pipeline_cfg",
            "reseller_prefix",
            "rootwrap_config",
            "rpc_*",
            "run_external_periodic_tasks",
            "shuffle_time_before_polling_task",
            "tempdir",
            "use_eventlog",
            "use_syslog_rfc_format",
            "watch_log_file",
            "zmq_*",
        ],
    ),
    (
        "compute",
        &["resource_cache_expiry", "fetch_extra_metadata", "workers"],
    ),
    (
        "collector",
        &["enable_rpc", "requeue_*", "workers", "udp_workers"],
    ),
    (
        "database",
        &[
            "alarm_*",
            "backend",
            "connection_*",
            "db_*",
            "event_*",
            "idle_timeout",
            "max_*",
            "metering_connection",
            "min_pool_size",
            "mysql_*",
            "pool_*",
            "retry_interval",
            "slave_connection",
            "sql_*",
            "sqlite_*",
            "use_*",
        ],
    ),
    (
        "publisher_notifier",
        &["event_topic", "telemetry_driver", "metering_driver"],
    ),
];

/// Whether a whole section is somebody else's.
pub(crate) fn is_section(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECTIONS.contains(&name.as_str())
        || SECTION_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// Whether an option that isn't ours is known to be somebody else's.
pub(crate) fn is_option(group: &str, name: &str) -> bool {
    is_section(group)
        || OPTIONS
            .iter()
            .filter(|(known, _)| options::same_group(known, group))
            .any(|(_, patterns)| patterns.iter().any(|pattern| fits(pattern, name)))
}

fn fits(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (_, Some(start)) => name.starts_with(start),
        _ => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_whole_ceilometer_conf_holds_is_known() {
        for (group, name) in [
            ("keystone_authtoken", "auth_uri"),
            ("KEYSTONE_AUTHTOKEN", "auth_uri"),
            ("oslo_messaging_amqp", "anything"),
            ("dispatcher_gnocchi", "archive_policy"),
            (DEFAULT, "nova_control_exchange"),
            (DEFAULT, "rpc_response_timeout"),
            (DEFAULT, "use_syslog_rfc_format"),
            ("collector", "requeue_sample_on_dispatcher_error"),
            ("database", "max_retries"),
        ] {
            assert!(is_option(group, name), "[{group}] {name}");
        }
    }

    #[test]
    fn a_misspelt_option_of_ours_is_not_excused() {
        for (group, name) in [
            (DEFAULT, "polling_namespace"),
            (DEFAULT, "log_fil"),
            ("compute", "png_count"),
            ("compute", "storage_server_addres"),
            ("collector", "udp_adress"),
            ("collector", "batch_sizes"),
            ("database", "conection"),
            ("publisher", "telemetry_secrets"),
            ("compute_", "ping_count"),
        ] {
            assert!(!is_option(group, name), "[{group}] {name}");
        }
    }
}
