//! The collector's part.

use std::net::SocketAddr;

use crate::config::{CollectorSettings, TrustSettings};
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
        trust,
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
    print_trust(trust)?;
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

fn print_trust(settings: &TrustSettings) -> Result<(), DaemonError> {
    let TrustSettings {
        host_keys_file,
        require_proof,
        observers,
        accept_paths,
        clock_tolerance,
    } = settings;
    match host_keys_file {
        Some(file) => {
            let demand = if *require_proof { "demands" } else { "checks" };
            output::line(format_args!(
                "{demand} proofs by the keys in {}",
                file.display()
            ))?;
        }
        None => output::line(format_args!(
            "checks no proofs: whoever knows the secret may say anything about any host"
        ))?,
    }
    if !observers.is_empty() {
        output::line(format_args!(
            "lets {} speak about others",
            observers.join(", ")
        ))?;
    }
    if !accept_paths.is_empty() {
        output::line(format_args!("also takes {}", accept_paths.join(", ")))?;
    }
    if let Some(tolerance) = clock_tolerance {
        output::line(format_args!(
            "takes readings for history alone whose time is off by more than {tolerance:?}"
        ))?;
    }
    Ok(())
}
