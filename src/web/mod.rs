//! The small HTTP face of a daemon: `/healthz`, `/readyz` and `/metrics`, on loopback unless told otherwise.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

/// What a daemon can tell about itself.
pub trait Health: Send + Sync + 'static {
    /// What is stuck, in words; nothing if the process works. A restart may help.
    fn stuck(&self) -> Vec<String>;

    /// What keeps it from doing its job or from doing it as configured, and why, beside what is
    /// stuck. A restart would hardly help.
    fn not_ready(&self) -> Vec<String>;

    /// Its metrics in Prometheus' text format, and among them whether it is ready.
    fn metrics(&self, is_ready: bool) -> String;
}

/// The routes of a daemon: 200 `ok` or 503 and the troubles, one a line, under `/healthz` (what is
/// stuck) and `/readyz` (that, and what isn't ready).
pub fn router(health: Arc<dyn Health>) -> Router {
    let (for_ready, for_metrics) = (Arc::clone(&health), Arc::clone(&health));
    Router::new()
        .route(
            "/healthz",
            get(move || async move { answer(&health.stuck()) }),
        )
        .route(
            "/readyz",
            get(move || async move { answer(&unready(for_ready.as_ref())) }),
        )
        .route(
            "/metrics",
            get(move || async move { metrics(for_metrics.as_ref()) }),
        )
}

/// Everything that keeps a daemon from being ready.
fn unready(health: &dyn Health) -> Vec<String> {
    let mut troubles = health.stuck();
    troubles.extend(health.not_ready());
    troubles
}

/// One connection is for one answer: whoever asks every fifteen seconds needs none in between.
const CLOSE: (header::HeaderName, &str) = (header::CONNECTION, "close");

fn answer(troubles: &[String]) -> impl IntoResponse + use<> {
    let (status, text) = if troubles.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, troubles.join("\n") + "\n")
    };
    (status, [CLOSE], text)
}

fn metrics(health: &dyn Health) -> impl IntoResponse + use<> {
    let kind = (
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    );
    let is_ready = unready(health).is_empty();
    ([CLOSE, kind], health.metrics(is_ready))
}
