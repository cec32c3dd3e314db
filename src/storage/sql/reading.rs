//! Questions about history, in words that every engine understands. Conditions of an operator's are put
//! between their parts.

use crate::query::Group;

macro_rules! joined {
    () => {
        " FROM sample JOIN meter ON meter.id = sample.meter_id \
         JOIN resource ON resource.internal_id = sample.resource_id WHERE 1 = 1"
    };
}

/// Samples with all that is known of them; conditions follow.
pub(crate) const SAMPLES: &str = concat!(
    "SELECT sample.id, sample.volume, sample.timestamp, sample.recorded_at, sample.message_id, \
     meter.name, meter.type, meter.unit, resource.resource_id, resource.user_id, \
     resource.project_id, resource.source_id, resource.resource_metadata",
    joined!()
);

/// Only dated ones.
pub(crate) const DATED: &str = " AND sample.timestamp IS NOT NULL";

/// Only dated ones behind one of them: its moment, twice, and its id.
pub(crate) const DATED_BEHIND: &str =
    " AND sample.timestamp <= ? AND (sample.timestamp < ? OR sample.id < ?)";

/// Only those without a date, behind an id.
pub(crate) const UNDATED_BEHIND: &str = " AND sample.timestamp IS NULL AND sample.id < ?";

/// None at all.
pub(crate) const NOTHING: &str = " AND 1 = 0";

/// The order of samples: how many.
pub(crate) const SAMPLES_ORDER: &str = " ORDER BY sample.timestamp DESC, sample.id DESC LIMIT ?";

/// The last of the next ids of resources: the id that they come behind, how many.
pub(crate) const RESOURCES_BEHIND: &str = "SELECT max(resource_id) FROM \
     (SELECT DISTINCT resource_id FROM resource WHERE resource_id > ? \
     ORDER BY resource_id LIMIT ?) AS span";

/// The meters of resources, each as its newest sample has it: the id that they come behind, the last
/// one; conditions on that sample follow. The newest sample of each row of `resource` is one look into
/// an index.
pub(crate) const METERS: &str = "SELECT meter.name, meter.type, meter.unit, resource.resource_id, \
     resource.user_id, resource.project_id, resource.source_id FROM (\
     SELECT newest, row_number() OVER (PARTITION BY meter_id, resource_id ORDER BY newest DESC) AS nth \
     FROM (SELECT meter.id AS meter_id, resource.resource_id AS resource_id, \
     (SELECT max(sample.id) FROM sample WHERE sample.meter_id = meter.id \
     AND sample.resource_id = resource.internal_id) AS newest \
     FROM resource CROSS JOIN meter WHERE resource.resource_id > ? AND resource.resource_id <= ?\
     ) AS pairs WHERE newest IS NOT NULL) AS ranked \
     JOIN sample ON sample.id = ranked.newest JOIN meter ON meter.id = sample.meter_id \
     JOIN resource ON resource.internal_id = sample.resource_id WHERE ranked.nth = 1";

/// The order of meters.
pub(crate) const METERS_ORDER: &str = " ORDER BY resource.resource_id, meter.name, meter.id";

/// Resources with their first and last samples; conditions follow.
pub(crate) const RESOURCES: &str = concat!(
    "SELECT resource.resource_id, min(sample.timestamp), max(sample.timestamp)",
    joined!()
);

/// Only these resources, and one row for each: the id that they come behind, the last one.
pub(crate) const RESOURCES_SPAN: &str = " AND resource.resource_id > ? AND resource.resource_id <= ? \
     GROUP BY resource.resource_id ORDER BY resource.resource_id";

/// What the newest sample of a resource says of it: the resource, the moment of that sample.
pub(crate) const NEWEST_OF: &str = "SELECT resource.source_id, resource.user_id, \
     resource.project_id, resource.resource_metadata FROM sample \
     JOIN resource ON resource.internal_id = sample.resource_id \
     WHERE resource.resource_id = ? AND sample.timestamp = ? ORDER BY sample.id DESC LIMIT 1";

/// The same of a resource whose samples have no date.
pub(crate) const UNDATED_OF: &str = "SELECT resource.source_id, resource.user_id, \
     resource.project_id, resource.resource_metadata FROM sample \
     JOIN resource ON resource.internal_id = sample.resource_id \
     WHERE resource.resource_id = ? ORDER BY sample.id DESC LIMIT 1";

/// When the first sample was taken; conditions follow.
pub(crate) const FIRST: &str = concat!("SELECT min(sample.timestamp)", joined!());

/// Statistics, behind what they are grouped by; conditions follow.
pub(crate) const SUMS: &str = concat!(
    "max(sample.volume), min(sample.volume), avg(sample.volume), sum(sample.volume), \
     count(sample.volume), min(sample.timestamp), max(sample.timestamp)",
    joined!()
);

/// How statistics are grouped and ordered. Without a volume there is nothing to say.
pub(crate) const SUMS_GROUPS: &str = " GROUP BY nth, unit, by_resource, by_user, by_project, by_source \
     HAVING count(sample.volume) > 0 \
     ORDER BY nth, by_resource, by_user, by_project, by_source, unit";

/// The column of a group.
pub(crate) fn column(group: Group) -> &'static str {
    match group {
        Group::Resource => "resource.resource_id",
        Group::User => "resource.user_id",
        Group::Project => "resource.project_id",
        Group::Source => "resource.source_id",
    }
}
