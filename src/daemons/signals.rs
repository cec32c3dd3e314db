//! The runtime of a program, and the signals that end it or make it read its configuration again.

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::DaemonError;

/// The signals that end a program: heard from the moment this is made, so that one which comes
/// while everything starts is not lost.
pub(super) struct End {
    term: Signal,
    interrupt: Signal,
}

impl End {
    /// Listens from now on. Without it the signals end a program as they do any other.
    pub(super) fn listen(runtime: &Runtime) -> Result<Self, DaemonError> {
        let _inside = runtime.enter();
        let listen = |kind| {
            signal(kind).map_err(|error| DaemonError::failed("listening for signals", error))
        };
        Ok(End {
            term: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Returns when SIGTERM or SIGINT comes.
    pub(super) async fn wait(mut self) {
        tokio::select! {
            _ = self.term.recv() => tracing::info!("SIGTERM: draining"),
            _ = self.interrupt.recv() => tracing::info!("SIGINT: draining"),
        }
    }
}

/// SIGHUP: listened for from the very start, because it would end a program that doesn't. One that
/// comes before anybody waits for it is kept, and several are one.
#[cfg(any(feature = "agent", feature = "collector"))]
pub(super) struct Hangups(Signal);

#[cfg(any(feature = "agent", feature = "collector"))]
impl Hangups {
    /// Listens from now on.
    pub(super) fn listen(runtime: &Runtime) -> Result<Self, DaemonError> {
        let _inside = runtime.enter();
        signal(SignalKind::hangup())
            .map(Hangups)
            .map_err(|error| DaemonError::failed("listening for signals", error))
    }

    /// Returns when SIGHUP comes; false if none can come any more.
    pub(super) async fn next(&mut self) -> bool {
        self.0.recv().await.is_some()
    }
}

/// The runtime of a program. Whatever still runs on it when it is over is left behind.
pub(super) fn runtime() -> Result<Runtime, DaemonError> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| DaemonError::failed("starting the runtime", error))
}
