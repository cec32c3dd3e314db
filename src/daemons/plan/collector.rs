//! The collector's part.

use std::net::SocketAddr;

use crate::config::CollectorSettings;
use crate::daemons::{DaemonError, output};

/// What a collector would receive and serve.
pub(super) fn print(settings: &CollectorSettings) -> Result<(), DaemonError> {
    let CollectorSettings {
        udp_address,
        udp_port,
        batch_size,
        batch_timeout,
        topics,
        prefetch,
        http_listen,
    } = settings;
    match udp_address {
        Some(ip) => output::line(format_args!(
            "receives on udp {}",
            SocketAddr::new(*ip, *udp_port)
        ))?,
        None if topics.is_empty() => output::line(format_args!(
            "receives nothing: [collector] udp_address is empty, and no topic is consumed"
        ))?,
        None => output::line(format_args!("receives nothing by UDP"))?,
    }
    if !topics.is_empty() {
        output::line(format_args!(
            "consumes {} from the message broker, {prefetch} deliveries at a time",
            topics.join(", ")
        ))?;
    }
    output::line(format_args!(
        "stores up to {batch_size} messages at once, after {batch_timeout:?} at the latest"
    ))?;
    if let Some(address) = http_listen {
        output::line(format_args!(
            "serves /healthz, /readyz and /metrics on {address}"
        ))?;
    }
    Ok(())
}
