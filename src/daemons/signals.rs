//! Waits for the signals that end a daemon.

use tokio::signal::unix::{SignalKind, signal};

use super::DaemonError;

/// Returns when SIGTERM or SIGINT comes.
pub(super) async fn wait_for_end() -> Result<(), DaemonError> {
    let listen =
        |kind| signal(kind).map_err(|error| DaemonError::failed("listening for signals", error));
    let mut term = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
    }
    Ok(())
}

/// The runtime of a daemon. Whatever is still running when it is over is left behind.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, DaemonError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| DaemonError::failed("starting the runtime", error))
}
