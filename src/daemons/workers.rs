//! The threads of a daemon: started with a name, and waited for no longer than agreed.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::DaemonError;
use crate::clock;

/// Threads that end when they are told to stop.
#[derive(Debug)]
pub(super) struct Workers {
    running: Vec<String>,
    ended: Receiver<String>,
    sender: Sender<String>,
}

impl Default for Workers {
    fn default() -> Self {
        let (sender, ended) = channel();
        Workers {
            running: Vec::new(),
            ended,
            sender,
        }
    }
}

impl Workers {
    /// Starts a thread.
    pub(super) fn spawn(
        &mut self,
        name: String,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), DaemonError> {
        // Threads come and go with reloads; those that have ended are forgotten.
        while let Ok(name) = self.ended.try_recv() {
            self.forget(&name);
        }
        let (sender, own_name) = (self.sender.clone(), name.clone());
        std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                work();
                // Nobody listens any more when the wait was given up.
                let _ = sender.send(own_name);
            })
            .map_err(|error| DaemonError::failed(format!("starting the thread {name}"), error))?;
        self.running.push(name);
        Ok(())
    }

    /// Waits for all of them, at most for `limit`; returns the names of those still busy.
    pub(super) fn join(mut self, limit: Duration) -> Vec<String> {
        let deadline = clock::now() + limit;
        while !self.running.is_empty() {
            match self
                .ended
                .recv_timeout(deadline.saturating_duration_since(clock::now()))
            {
                Ok(name) => self.forget(&name),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        self.running
    }

    fn forget(&mut self, name: &str) {
        if let Some(at) = self.running.iter().position(|running| running == name) {
            self.running.swap_remove(at);
        }
    }
}
