//! Storing new rows as history: Ceilometer's `sample`, and the `meter`, `resource` and `metadata_*`
//! rows that it needs and that aren't there yet.

use std::collections::HashMap;

use super::error::{StoreError, during};
use super::rows::{self, MetadataValue, ResourceKey, Row};
use super::sql;
use super::statements::{Binds, Filled, nth, numbered, statements};
use super::writer::Pass;
use crate::model::{ReceivedMeter, UtcTime};

impl Pass<'_> {
    /// Stores new rows in Ceilometer's tables.
    pub(crate) async fn put_samples(&mut self, new: &[Row<'_>]) -> Result<(), StoreError> {
        self.learn_meters(new).await?;
        self.learn_resources(new).await?;
        let ids: Vec<(i64, i64)> = new
            .iter()
            .map(|row| Ok((self.meter_id(row)?, self.resource_id(row)?)))
            .collect::<Result<_, StoreError>>()?;
        let lines: Vec<_> = new.iter().zip(ids).collect();
        let recorded_at = UtcTime::from_unix_micros(self.now).to_sql_text();
        let samples = statements(&sql::PUT_SAMPLES, &lines, |binds, (row, ids)| {
            let (meter_id, resource_id) = ids;
            let received = row.received;
            binds
                .put(meter_id)
                .put(resource_id)
                .put(received.volume)
                .put(received.timestamp.map(UtcTime::to_sql_text))
                .put(&recorded_at)
                .put(&received.signature)
                .put(&received.message_id);
        });
        self.write(samples, "storing samples").await?;
        Ok(())
    }

    async fn learn_meters(&mut self, new: &[Row<'_>]) -> Result<(), StoreError> {
        for row in new {
            let meter = &row.received.meter;
            if self.known_meter(meter).is_none() {
                let id = self.find_or_put_meter(meter).await?;
                self.learned.meters.insert(meter.clone(), id);
            }
        }
        Ok(())
    }

    async fn find_or_put_meter(&mut self, meter: &ReceivedMeter) -> Result<i64, StoreError> {
        let ReceivedMeter { name, kind, unit } = meter;
        let found: Option<i64> = sqlx::query_scalar(sql::METER_ID)
            .bind(name)
            .bind(kind)
            .bind(unit)
            .fetch_one(&mut *self.conn)
            .await
            .map_err(during("looking for a meter"))?;
        if let Some(id) = found {
            return Ok(id);
        }
        let put = sqlx::query(sql::PUT_METER)
            .bind(name)
            .bind(kind)
            .bind(unit)
            .execute(&mut *self.conn)
            .await
            .map_err(during("storing a meter"))?;
        Ok(put.last_insert_rowid())
    }

    async fn learn_resources(&mut self, new: &[Row<'_>]) -> Result<(), StoreError> {
        let mut unknown: HashMap<&ResourceKey, &Row<'_>> = HashMap::new();
        for row in new {
            if self.known_resource(&row.resource).is_none() {
                unknown.entry(&row.resource).or_insert(row);
            }
        }
        let mut unknown: Vec<&Row<'_>> = unknown.into_values().collect();
        unknown.sort_unstable_by_key(|row| row.index);
        let found: Vec<(i64, i64)> = self
            .read(
                statements(
                    &sql::RESOURCE_IDS,
                    &numbered(&unknown),
                    |binds, (n, row)| {
                        put_resource_key(binds.put(n), &row.resource);
                    },
                ),
                "looking for resources",
            )
            .await?;
        for (n, id) in found {
            if let Some(row) = nth(&unknown, n) {
                self.learned.resources.insert(row.resource.clone(), id);
            }
        }
        let missing: Vec<&Row<'_>> = unknown
            .into_iter()
            .filter(|row| !self.learned.resources.contains_key(&row.resource))
            .collect();
        self.put_resources(&missing).await
    }

    async fn put_resources(&mut self, missing: &[&Row<'_>]) -> Result<(), StoreError> {
        let mut metadata = MetadataLines::default();
        for row in missing {
            let ResourceKey {
                resource_id,
                user_id,
                project_id,
                source,
                metadata_md5: _,
            } = &row.resource;
            let put = sqlx::query(sql::PUT_RESOURCE)
                .bind(resource_id)
                .bind(user_id)
                .bind(project_id)
                .bind(source)
                .bind(&row.metadata_json)
                .bind(row.resource.metadata_hash())
                .execute(&mut *self.conn)
                .await
                .map_err(during("storing a resource"))?;
            let id = put.last_insert_rowid();
            self.learned.resources.insert(row.resource.clone(), id);
            metadata.add(id, row);
        }
        for lines in metadata.into_statements() {
            self.write(lines, "storing metadata").await?;
        }
        Ok(())
    }

    fn known_meter(&self, meter: &ReceivedMeter) -> Option<i64> {
        let known = self.memory.meters.get(meter);
        known.or_else(|| self.learned.meters.get(meter)).copied()
    }

    fn known_resource(&self, resource: &ResourceKey) -> Option<i64> {
        let known = self.memory.resources.get(resource);
        known
            .or_else(|| self.learned.resources.get(resource))
            .copied()
    }

    fn meter_id(&self, row: &Row<'_>) -> Result<i64, StoreError> {
        self.known_meter(&row.received.meter)
            .ok_or_else(|| StoreError::Damaged {
                table: "meter",
                subject: row.received.meter.name.clone(),
            })
    }

    fn resource_id(&self, row: &Row<'_>) -> Result<i64, StoreError> {
        self.known_resource(&row.resource)
            .ok_or_else(|| StoreError::Damaged {
                table: "resource",
                subject: row.received.resource_id.clone(),
            })
    }
}

/// Metadata of new resources, by table.
#[derive(Debug, Default)]
struct MetadataLines {
    texts: Vec<(i64, String, Option<String>)>,
    ints: Vec<(i64, String, i64)>,
    floats: Vec<(i64, String, f64)>,
    bools: Vec<(i64, String, bool)>,
}

impl MetadataLines {
    fn add(&mut self, id: i64, row: &Row<'_>) {
        for rows::MetadataRow { key, value } in rows::flatten(&row.received.metadata) {
            match value {
                MetadataValue::Text(text) => self.texts.push((id, key, text)),
                MetadataValue::Int(number) => self.ints.push((id, key, number)),
                MetadataValue::Float(number) => self.floats.push((id, key, number)),
                MetadataValue::Bool(truth) => self.bools.push((id, key, truth)),
            }
        }
    }

    fn into_statements(self) -> [Vec<Filled>; 4] {
        let MetadataLines {
            texts,
            ints,
            floats,
            bools,
        } = self;
        [
            statements(&sql::PUT_TEXTS, &texts, |binds, (id, key, value)| {
                binds.put(id).put(key).put(value);
            }),
            statements(&sql::PUT_INTS, &ints, |binds, (id, key, value)| {
                binds.put(id).put(key).put(value);
            }),
            statements(&sql::PUT_FLOATS, &floats, |binds, (id, key, value)| {
                binds.put(id).put(key).put(value);
            }),
            statements(&sql::PUT_BOOLS, &bools, |binds, (id, key, value)| {
                binds.put(id).put(key).put(value);
            }),
        ]
    }
}

fn put_resource_key(binds: &mut Binds, key: &ResourceKey) {
    let ResourceKey {
        resource_id,
        user_id,
        project_id,
        source,
        metadata_md5: _,
    } = key;
    binds
        .put(resource_id)
        .put(user_id)
        .put(project_id)
        .put(source)
        .put(key.metadata_hash());
}
