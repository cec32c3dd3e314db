//! Serves a daemon's HTTP face.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::web::{self, Health};

/// Serves until the runtime ends. A port that is taken costs the HTTP face and nothing else: a
/// node is watched whether or not anybody can look at its metrics.
pub(super) async fn serve(address: Option<SocketAddr>, health: Arc<dyn Health>) {
    let Some(address) = address else { return };
    let listener = match tokio::net::TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%address, %error, "no /healthz and /metrics: the address can't be bound");
            return;
        }
    };
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving /healthz and /metrics");
    }
    if let Err(error) = axum::serve(listener, web::router(health)).await {
        tracing::error!(%address, %error, "serving HTTP ended");
    }
}
