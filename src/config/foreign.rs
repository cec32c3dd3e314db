//! Pure. The sections and options of other services that stand in a copied `ceilometer.conf`. They
//! are ignored, and known by their full names, so that a misspelt one of ours is never taken for one of
//! theirs. They are those of Ceilometer from Mitaka on, and of the oslo libraries that it reads the
//! same file with.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::options::{DEFAULT, group_key};

/// Sections that belong to somebody else as a whole.
const SECTIONS: &str = "
    alarm alarms api audit_middleware_notifications cache coordination cors cors.subdomain
    dispatcher_file dispatcher_gnocchi dispatcher_http event exchange_control hardware healthcheck
    keystone_authtoken magnetodb matchmaker_redis matchmaker_ring meter notification
    oslo_concurrency oslo_limit oslo_messaging_amqp oslo_messaging_kafka oslo_messaging_metrics
    oslo_messaging_notifications oslo_messaging_pika oslo_messaging_qpid oslo_messaging_zmq
    oslo_middleware oslo_middleware_tracing oslo_policy oslo_reports oslo_versionedobjects polling
    privsep profiler profiler_jaeger profiler_otlp rgw_admin_credentials rgw_client
    sample_remote_file_source service_credentials service_types ssl storage vmware xenapi zaqar";

/// Options that stand in sections of ours.
const OPTIONS: &[(&str, &str)] = &[
    (
        DEFAULT,
        "ack_on_event_error allowed_rpc_exception_modules         amqp_rpc_single_reply_queue api_paste_config auth_strategy backdoor_port backdoor_socket
        batch_polled_samples batch_size ceilometer_control_exchange cfg_file cinder_control_exchange
        client_socket_timeout collector_workers config_dir config_file config_source
        conn_pool_min_size conn_pool_ttl default_log_levels
        default_notification_level default_publisher_id definitions_cfg_file
        disable_non_metric_meters disable_process_locking dns_control_exchange enable_notifications
        enable_prometheus_exporter event_dispatchers event_pipeline_cfg_file
        executor_thread_pool_size fake_rabbit fatal_deprecations fatal_exception_format_errors
        glance_control_exchange glance_page_size graceful_shutdown_timeout heartbeat_rate
        heartbeat_socket_dir heat_control_exchange http_control_exchanges http_timeout
        hypervisor_inspector identity_name_discovery ignore_disabled_projects insecure
        instance_format instance_uuid_format ironic_exchange keystone_control_exchange
        kombu_reconnect_delay         kombu_ssl_version kwapi_control_exchange lock_path log_color log_config log_config_append
        log_date_format log_format log_options log_rotate_interval log_rotate_interval_type
        log_rotation_type logging_context_format_string logging_debug_format_suffix
        logging_default_format_string logging_exception_prefix logging_user_identity_format
        magnetodb_control_exchange magnum_control_exchange matchmaker_heartbeat_freq
        matchmaker_heartbeat_ttl max_header_line max_logfile_count max_logfile_size_mb
        max_parallel_requests my_ip neutron_control_exchange notification_driver
        notification_topics notification_transport_url notification_workers nova_control_exchange
        nova_http_log_debug os_auth_url os_cacert os_endpoint_type os_password os_region_name
        os_tenant_id os_tenant_name os_username partitioning_group_prefix pollster_list
        pollsters_definitions_dirs prometheus_listen_addresses prometheus_tls_certfile
        prometheus_tls_enable prometheus_tls_keyfile publish_errors qpid_heartbeat qpid_hostname
        qpid_hosts qpid_password qpid_port qpid_protocol qpid_receiver_capacity
        qpid_sasl_mechanisms qpid_tcp_nodelay qpid_topology_version qpid_username
        rabbit_interval_max rabbit_login_method rabbit_max_retries rabbit_qos_prefetch_count
        rabbit_retry_backoff rabbit_retry_interval rabbit_transient_queues_ttl rate_limit_burst
        rate_limit_except_level rate_limit_interval refresh_event_pipeline_cfg reseller_prefix
        rootwrap_config rpc_cast_timeout rpc_conn_pool_size rpc_ping_enabled rpc_poll_timeout
        rpc_response_timeout rpc_thread_pool_size rpc_workers rpc_zmq_bind_address
        rpc_zmq_bind_port_retries rpc_zmq_concurrency rpc_zmq_contexts rpc_zmq_host rpc_zmq_ipc_dir
        rpc_zmq_matchmaker rpc_zmq_max_port rpc_zmq_min_port rpc_zmq_port rpc_zmq_serialization
        rpc_zmq_topic_backlog run_external_periodic_tasks sahara_control_exchange
        shuffle_time_before_polling_task sqlite_db sqlite_synchronous store_events
        swift_control_exchange tcp_keepidle tempdir tenant_name_discovery
        threads_to_process_pollsters time_to_live trove_control_exchange use_eventlog use_pub_sub
        use_router_proxy use_syslog_rfc_format watch_log_file wsgi_default_pool_size
        wsgi_keep_alive wsgi_log_format wsgi_server_debug xenapi_connection_password
        xenapi_connection_url xenapi_connection_username zaqar_control_exchange zmq_target_expire",
    ),
    ("central", "partitioning_group_prefix"),
    (
        "compute",
        "fetch_extra_metadata report_stopped_instance_metrics resource_cache_expiry workers",
    ),
    (
        "collector",
        "enable_rpc requeue_event_on_dispatcher_error requeue_sample_on_dispatcher_error
        udp_workers workers",
    ),
    (
        "database",
        "alarm_connection alarm_history_time_to_live backend connection_debug
        connection_parameters connection_recycle_time connection_trace db2nosql_resource_id_maxlen
        db_backend db_inc_retry_interval db_max_retries db_max_retry_interval db_retry_interval
        event_connection event_time_to_live idle_timeout max_overflow max_pool_size max_retries
        metering_connection min_pool_size mongodb_replica_set mysql_enable_ndb mysql_sql_mode
        mysql_wsrep_sync_wait pool_timeout reconnect_interval retry_interval slave_connection
        sql_connection_debug sql_connection_trace sql_idle_timeout sql_max_overflow
        sql_max_pool_size sql_max_retries sql_min_pool_size sql_retry_interval
        sqlalchemy_pool_timeout sqlite_db sqlite_synchronous synchronous_reader use_db_reconnect
        use_tpool",
    ),
    ("ipmi", "node_manager_init_retry polling_retry"),
    (
        "oslo_messaging_rabbit",
        "channel_max conn_pool_min_size conn_pool_ttl connection_factory
        default_notification_exchange default_notification_retry_attempts default_rpc_exchange
        default_rpc_retry_attempts default_serializer_type direct_mandatory_flag
        enable_cancel_on_failover fake_rabbit frame_max heartbeat_interval heartbeat_rate
        host_connection_reconnect_delay hostname kombu_compression kombu_failover_strategy
        kombu_missing_consumer_retry_timeout kombu_reconnect_delay kombu_reconnect_splay
        kombu_reconnect_timeout         kombu_ssl_version notification_listener_prefetch_count notification_persistence
        notification_retry_delay pool_max_overflow pool_max_size pool_recycle pool_stale
        pool_timeout processname rabbit_interval_max rabbit_login_method rabbit_max_retries
        rabbit_qos_prefetch_count rabbit_quorum_delivery_limit rabbit_quorum_max_memory_bytes
        rabbit_quorum_max_memory_length rabbit_retry_backoff
        rabbit_retry_interval rabbit_stream_fanout rabbit_transient_queues_ttl
        rabbit_transient_quorum_queue retry_delay rpc_conn_pool_size rpc_listener_prefetch_count
        rpc_queue_expiration rpc_reply_exchange rpc_reply_listener_prefetch_count
        rpc_reply_retry_attempts rpc_reply_retry_delay rpc_retry_delay socket_timeout
        ssl_enforce_fips_mode ssl_enforce_hostname_verification
        ssl_options ssl_version tcp_user_timeout use_queue_manager",
    ),
    (
        "publisher_notifier",
        "event_topic metering_driver telemetry_driver",
    ),
    ("publisher_rpc", "target"),
    (
        "sql",
        "connection_debug connection_trace idle_timeout max_overflow max_pool_size max_retries
        min_pool_size retry_interval",
    ),
];

static KNOWN_SECTIONS: LazyLock<HashSet<&str>> =
    LazyLock::new(|| SECTIONS.split_whitespace().collect());

static KNOWN_OPTIONS: LazyLock<HashSet<(&str, &str)>> = LazyLock::new(|| {
    OPTIONS
        .iter()
        .flat_map(|(group, names)| names.split_whitespace().map(move |name| (*group, name)))
        .collect()
});

/// Whether a whole section is somebody else's.
pub fn is_section(name: &str) -> bool {
    KNOWN_SECTIONS.contains(group_key(name).as_ref())
}

/// Whether an option is somebody else's.
pub fn is_option(group: &str, name: &str) -> bool {
    let group = group_key(group);
    KNOWN_SECTIONS.contains(group.as_ref()) || KNOWN_OPTIONS.contains(&(group.as_ref(), name))
}

/// The names of such sections.
pub(super) fn sections() -> impl Iterator<Item = &'static str> {
    SECTIONS.split_whitespace()
}

/// The names of such options in a section of ours.
pub(super) fn options_in(group: &str) -> impl Iterator<Item = &'static str> {
    let group = group_key(group);
    let of_group = OPTIONS.iter().find(|(known, _)| *known == group.as_ref());
    of_group
        .into_iter()
        .flat_map(|(_, names)| names.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options;

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
            ("Collector", "requeue_sample_on_dispatcher_error"),
            ("DATABASE", "max_retries"),
        ] {
            assert!(is_option(group, name), "[{group}] {name}");
        }
    }

    #[test]
    fn nothing_is_ours_and_somebody_elses() {
        for (group, name) in KNOWN_OPTIONS.iter() {
            assert!(options::find(group, name).is_none(), "[{group}] {name}");
            let old = options::find_deprecated(group, name);
            assert!(old.is_none(), "[{group}] {name}");
        }
        for spec in options::OPTIONS {
            assert!(!is_section(spec.group), "[{}]", spec.group);
        }
    }
}
