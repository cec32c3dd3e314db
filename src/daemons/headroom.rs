//! How many numbers are left for samples: looked at now and then, because a database that was taken over
//! may run out of them.

use std::sync::Arc;
use std::time::Duration;

use crate::events::CollectorEvents;
use crate::storage::Database;

/// How often it is looked at. At ten thousand samples a second a tenth of a percent of an INT's numbers
/// goes by in that time.
const EVERY: Duration = Duration::from_secs(300);

/// Looks once, and then from time to time as long as the process runs.
pub(super) async fn watch(database: Arc<Database>, events: Arc<CollectorEvents>) {
    look(&database, &events).await;
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(EVERY).await;
            look(&database, &events).await;
        }
    });
}

/// A failure tells nothing here: whoever stores meets it as well, and says so.
async fn look(database: &Database, events: &CollectorEvents) {
    if let Ok(headroom) = database.sample_id_headroom().await {
        events.sample_ids(headroom);
    }
}
