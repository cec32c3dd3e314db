//! The small HTTP face of a daemon: `/healthz`, `/readyz` and `/metrics`, on loopback unless told otherwise.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

/// What a daemon can tell about itself.
pub trait Health: Send + Sync + 'static {
    /// Nothing if it works; otherwise what doesn't, in words.
    fn trouble(&self) -> Option<String>;

    /// Its metrics in Prometheus' text format.
    fn metrics(&self) -> String;
}

/// The routes of a daemon: 200 `ok` or 503 and the trouble under `/healthz` and `/readyz`. They
/// answer alike, because a daemon serves only once it has started, and has nothing to wait for
/// afterwards but the end of a trouble.
pub fn router(health: Arc<dyn Health>) -> Router {
    let (for_ready, for_metrics) = (Arc::clone(&health), Arc::clone(&health));
    Router::new()
        .route(
            "/healthz",
            get(move || async move { healthz(health.as_ref()) }),
        )
        .route(
            "/readyz",
            get(move || async move { healthz(for_ready.as_ref()) }),
        )
        .route(
            "/metrics",
            get(move || async move { metrics(for_metrics.as_ref()) }),
        )
}

fn healthz(health: &dyn Health) -> impl IntoResponse + use<> {
    match health.trouble() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(trouble) => (StatusCode::SERVICE_UNAVAILABLE, format!("{trouble}\n")),
    }
}

fn metrics(health: &dyn Health) -> impl IntoResponse + use<> {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        health.metrics(),
    )
}
