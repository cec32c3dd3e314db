//! Pure. A value that one thread replaces while others go on reading it.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// Clones share one value. Whoever reads has the whole old value or the whole new one.
pub struct Shared<T> {
    value: Arc<RwLock<Arc<T>>>,
}

impl<T> Shared<T> {
    /// Starts with this value.
    pub fn new(value: T) -> Self {
        Shared {
            value: Arc::new(RwLock::new(Arc::new(value))),
        }
    }

    /// What it is now.
    pub fn get(&self) -> Arc<T> {
        let value = self.value.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&value)
    }

    /// What it is from now on.
    pub fn set(&self, value: T) {
        *self.value.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared {
            value: Arc::clone(&self.value),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}
