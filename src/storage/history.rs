//! Storing new rows as history: Ceilometer's `sample`, and the `meter`, `resource` and `metadata_*`
//! rows that it needs and that aren't there yet.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::StoreError;
use super::link::{ask, read, run, write};
use super::rows::{self, MetadataValue, ResourceKey, Row};
use super::sql::{self, Dialect};
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
        let (moment, text) = (self.dialect.moment, self.dialect.text);
        let recorded_at: Arc<str> = moment(UtcTime::from_unix_micros(self.now)).into();
        let samples = statements(&sql::PUT_SAMPLES, &lines, |binds, (row, ids)| {
            let (meter_id, resource_id) = *ids;
            let received = row.received;
            binds
                .put(meter_id)
                .put(resource_id)
                .put(received.volume)
                .put(received.timestamp.map(moment))
                .put(&recorded_at)
                .put(text(&received.signature))
                .put(text(&received.message_id));
        });
        write(self.session, samples, "storing samples").await?;
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
        let text = self.dialect.text;
        let binds = || {
            let [kind, unit] = [kind, unit].map(|word| word.as_deref().map(text));
            vec![text(name).into(), kind.into(), unit.into()]
        };
        let found: Vec<(Option<i64>,)> = ask(
            self.session,
            self.dialect.meter_id,
            binds(),
            "looking for a meter",
        )
        .await?;
        if let Some((Some(id),)) = found.first() {
            return Ok(*id);
        }
        let put = run(self.session, sql::PUT_METER, binds(), "storing a meter").await?;
        Ok(put.last_id)
    }

    async fn learn_resources(&mut self, new: &[Row<'_>]) -> Result<(), StoreError> {
        let mut unknown: HashMap<&ResourceKey, &Row<'_>> = HashMap::new();
        for row in new {
            if self.known_resource(&row.resource).is_none() {
                unknown.entry(&*row.resource).or_insert(row);
            }
        }
        let mut unknown: Vec<&Row<'_>> = unknown.into_values().collect();
        unknown.sort_unstable_by_key(|row| row.index);
        let dialect = self.dialect;
        let questions = numbered(&unknown);
        let asked = statements(&dialect.resource_ids, &questions, |binds, (n, row)| {
            put_resource_key(binds.put(*n), &row.resource, dialect);
        });
        let found: Vec<(i64, i64)> = read(self.session, asked, "looking for resources").await?;
        for (n, id) in found {
            if let Some(row) = nth(&unknown, n) {
                self.learned.resources.insert(Arc::clone(&row.resource), id);
            }
        }
        let missing: Vec<&Row<'_>> = unknown
            .into_iter()
            .filter(|row| !self.learned.resources.contains_key(&*row.resource))
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
            } = &*row.resource;
            let text = self.dialect.text;
            let binds = vec![
                text(resource_id).into(),
                user_id.as_deref().map(text).into(),
                project_id.as_deref().map(text).into(),
                text(source).into(),
                row.metadata_json.as_deref().into(),
                row.resource.metadata_hash().into(),
            ];
            let put = run(self.session, sql::PUT_RESOURCE, binds, "storing a resource").await?;
            let id = put.last_id;
            self.learned.resources.insert(Arc::clone(&row.resource), id);
            metadata.add(id, row);
        }
        for lines in metadata.statements(self.dialect) {
            write(self.session, lines, "storing metadata").await?;
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

    fn statements(&self, dialect: &'static Dialect) -> [Vec<Filled<'_>>; 4] {
        let text = dialect.text;
        [
            statements(
                &dialect.put_texts,
                &self.texts,
                |binds, (id, key, value)| {
                    let value = value.as_deref().map(text);
                    binds.put(*id).put(text(key)).put(value);
                },
            ),
            statements(&dialect.put_ints, &self.ints, |binds, (id, key, value)| {
                binds.put(*id).put(text(key)).put(*value);
            }),
            statements(
                &dialect.put_floats,
                &self.floats,
                |binds, (id, key, value)| {
                    binds.put(*id).put(text(key)).put(*value);
                },
            ),
            statements(
                &dialect.put_bools,
                &self.bools,
                |binds, (id, key, value)| {
                    binds.put(*id).put(text(key)).put(*value);
                },
            ),
        ]
    }
}

fn put_resource_key<'v>(binds: &mut Binds<'v>, key: &'v ResourceKey, dialect: &'static Dialect) {
    let ResourceKey {
        resource_id,
        user_id,
        project_id,
        source,
        metadata_md5: _,
    } = key;
    let text = dialect.text;
    binds
        .put(text(resource_id))
        .put(user_id.as_deref().map(text))
        .put(project_id.as_deref().map(text))
        .put(text(source))
        .put(key.metadata_hash())
        .put(text(resource_id));
}
