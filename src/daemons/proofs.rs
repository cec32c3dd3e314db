//! Which hosts have to prove what they say: those of which the database knows that they once did, also
//! to another collector. Looked at when a collector starts, and from time to time.

use std::sync::Arc;
use std::time::Duration;

use crate::storage::Database;
use crate::wire::Proven;

/// How often it is looked at: as often as the use of a key is written.
const EVERY: Duration = Duration::from_secs(60);

/// Looks once, and then from time to time as long as the process runs.
pub(super) async fn remember(database: Arc<Database>, proven: Proven) {
    look(&database, &proven).await;
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(EVERY).await;
            look(&database, &proven).await;
        }
    });
}

/// A failure tells nothing here: whoever stores meets it as well, and says so.
async fn look(database: &Database, proven: &Proven) {
    if let Ok(uses) = database.host_key_uses().await {
        proven.add(uses.iter().map(|one| one.host.as_str()));
    }
}
