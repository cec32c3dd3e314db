//! Making the tables: in a fresh database, or beside those of a Ceilometer that is taken over.

use sqlx::SqlStr;

use super::engine::{Access, Session, Target};
use super::error::{StoreError, during};
use super::link::{ask, run};
use super::schema::{self, MIGRATE_VERSION, MIGRATIONS, NEEDED_COLUMNS};
use super::sql;

/// Brings a database to this build's schema, all of it or nothing where the engine can undo making
/// tables; says what was done.
pub(crate) async fn dbsync(target: &Target) -> Result<Vec<String>, StoreError> {
    let mut done = Vec::new();
    let mut session = target.connect(Access::Migrate, &mut done).await?;
    done.extend(migrate(&mut *session).await?);
    session.close().await;
    Ok(done)
}

async fn migrate(session: &mut dyn Session) -> Result<Vec<String>, StoreError> {
    session
        .begin_write()
        .await
        .map_err(during("beginning dbsync"))?;
    let mut done = Vec::new();
    let version = schema::version(session).await?;
    let known = schema::latest();
    if let Some(found) = version
        && found > known
    {
        return Err(StoreError::NewerSchema { found, known });
    }
    done.extend(ceilometer_tables(session, version).await?);
    for ((to, what), text) in MIGRATIONS.iter().zip(session.dialect().migrations) {
        if version.is_none_or(|version| *to > version) {
            apply(session, *to, what, text).await?;
            done.push(format!("brought ha tables to version {to}: {what}"));
        }
    }
    session
        .commit()
        .await
        .map_err(during("committing dbsync"))?;
    if done.is_empty() {
        done.push(format!(
            "nothing to do: ha tables are at version {known}, Ceilometer's at {MIGRATE_VERSION}"
        ));
    }
    done.extend(sample_ids(session).await?.warning());
    Ok(done)
}

/// Gives the numbers of samples 64 bits where they have fewer; tells what it does while it does it.
pub(crate) async fn widen(
    target: &Target,
    tell: &(dyn Fn(String) + Send + Sync),
) -> Result<(), StoreError> {
    let mut session = target.connect(Access::Migrate, &mut Vec::new()).await?;
    schema::check(&mut *session, target).await?;
    let ids = sample_ids(&mut *session).await?;
    match session.dialect().widen {
        Some(text) if !ids.is_wide() => {
            session
                .begin_write()
                .await
                .map_err(during("beginning to widen sample.id"))?;
            tell(format!(
                "widening sample.id to BIGINT: the table is copied, {} rows at most; \
                 collectors keep what they receive and store it afterwards",
                ids.greatest
            ));
            session
                .execute_all(SqlStr::from_static(text))
                .await
                .map_err(during("widening sample.id"))?;
            session
                .commit()
                .await
                .map_err(during("ending to widen sample.id"))?;
            tell("sample.id is BIGINT now".to_owned());
        }
        _ => tell("nothing to do: sample.id has 64 bits".to_owned()),
    }
    session.close().await;
    Ok(())
}

/// How far the numbers of samples have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SampleIds {
    greatest: i64,
    most: i64,
}

impl SampleIds {
    /// The share of all numbers that is still free.
    #[allow(clippy::cast_precision_loss)] // a share needs no more than three digits
    pub(crate) fn headroom(self) -> f64 {
        (self.most - self.greatest) as f64 / self.most as f64
    }

    fn is_wide(self) -> bool {
        self.most == i64::MAX
    }

    fn warning(self) -> Option<String> {
        (!self.is_wide()).then(|| {
            format!(
                "warning: sample.id is INT and has {:.1} % of its numbers left: \
                 ceilometer-collector-ha dbsync --widen makes it BIGINT",
                100.0 * self.headroom()
            )
        })
    }
}

/// Asks how far they have come.
pub(crate) async fn sample_ids(session: &mut dyn Session) -> Result<SampleIds, StoreError> {
    let text = session.dialect().sample_ids;
    let operation = "reading how far the numbers of samples have come";
    let found: Vec<(Option<i64>, i64)> = ask(session, text, vec![], operation).await?;
    match found.first() {
        Some((greatest, most)) => Ok(SampleIds {
            greatest: greatest.unwrap_or(0),
            most: *most,
        }),
        None => Err(during(operation)(sqlx::Error::RowNotFound)),
    }
}

/// Makes Ceilometer's tables, or makes sure that those that are there are what we know.
async fn ceilometer_tables(
    session: &mut dyn Session,
    version: Option<i64>,
) -> Result<Option<String>, StoreError> {
    if !has_any_needed_table(session).await? || was_interrupted(session, version).await? {
        let dialect = session.dialect();
        // First, so that a run that is ended midway is known by it.
        make(session, dialect.versions, "creating ha_schema").await?;
        make(session, dialect.ceilometer, "creating Ceilometer's tables").await?;
        let version = vec![MIGRATE_VERSION.into()];
        run(
            session,
            sql::PUT_MIGRATE_VERSION,
            version,
            "writing migrate_version",
        )
        .await?;
        return Ok(Some(format!(
            "created Ceilometer's tables (migrate_version {MIGRATE_VERSION})"
        )));
    }
    check_migrate_version(session).await?;
    for (table, columns) in NEEDED_COLUMNS {
        check_columns(session, table, columns).await?;
    }
    Ok(version.is_none().then(|| {
        format!("took over Ceilometer's tables (migrate_version {MIGRATE_VERSION}) with their data")
    }))
}

async fn has_any_needed_table(session: &mut dyn Session) -> Result<bool, StoreError> {
    let mut needed = NEEDED_COLUMNS
        .iter()
        .map(|(table, _)| *table)
        .collect::<Vec<_>>();
    needed.push("migrate_version");
    for table in needed {
        if schema::has_table(session, table).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an earlier run was ended while it made Ceilometer's tables, which some engines can't undo:
/// its first act was done, its last one wasn't.
async fn was_interrupted(
    session: &mut dyn Session,
    version: Option<i64>,
) -> Result<bool, StoreError> {
    let has_begun = version.is_none() && schema::has_table(session, "ha_schema").await?;
    Ok(has_begun && migrate_version(session).await?.is_none())
}

async fn make(
    session: &mut dyn Session,
    text: &'static str,
    operation: &'static str,
) -> Result<(), StoreError> {
    session
        .execute_all(SqlStr::from_static(text))
        .await
        .map_err(during(operation))
}

/// Ceilometer's version, if there is one.
async fn migrate_version(session: &mut dyn Session) -> Result<Option<i64>, StoreError> {
    if !schema::has_table(session, "migrate_version").await? {
        return Ok(None);
    }
    let found: Vec<(i64,)> = ask(
        session,
        sql::GET_MIGRATE_VERSION,
        vec![],
        "reading migrate_version",
    )
    .await?;
    Ok(found.first().map(|(version,)| *version))
}

async fn check_migrate_version(session: &mut dyn Session) -> Result<(), StoreError> {
    if !schema::has_table(session, "migrate_version").await? {
        return Err(StoreError::Foreign(
            "it has tables but no migrate_version".to_owned(),
        ));
    }
    match migrate_version(session).await? {
        Some(MIGRATE_VERSION) => Ok(()),
        Some(found) => Err(StoreError::Foreign(format!(
            "its migrate_version is {found}, ours is {MIGRATE_VERSION}"
        ))),
        None => Err(StoreError::Foreign(
            "its migrate_version has no row for the repository ceilometer".to_owned(),
        )),
    }
}

async fn check_columns(
    session: &mut dyn Session,
    table: &str,
    columns: &[&str],
) -> Result<(), StoreError> {
    let text = session.dialect().columns;
    let found: Vec<(String,)> = ask(
        session,
        text,
        vec![table.into()],
        "reading the columns of Ceilometer's tables",
    )
    .await?;
    match columns
        .iter()
        .find(|column| !found.iter().any(|(name,)| name == *column))
    {
        None => Ok(()),
        Some(missing) => Err(StoreError::Foreign(format!(
            "its table {table} has no column {missing}"
        ))),
    }
}

async fn apply(
    session: &mut dyn Session,
    version: i64,
    what: &'static str,
    text: &'static str,
) -> Result<(), StoreError> {
    let dialect = session.dialect();
    make(session, dialect.versions, "creating ha_schema").await?;
    make(session, text, "applying a migration of the ha tables").await?;
    let text = dialect.put_version;
    let binds = vec![version.into(), what.into()];
    run(session, text, binds, "writing ha_schema").await?;
    Ok(())
}
