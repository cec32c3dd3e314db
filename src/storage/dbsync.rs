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
    done.extend(ceilometer_tables(session).await?);
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
    Ok(done)
}

/// Makes Ceilometer's tables, or makes sure that those that are there are what we know.
async fn ceilometer_tables(session: &mut dyn Session) -> Result<Option<String>, StoreError> {
    if !has_any_needed_table(session).await? {
        session
            .execute_all(SqlStr::from_static(session.dialect().ceilometer))
            .await
            .map_err(during("creating Ceilometer's tables"))?;
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
    let taken_over = schema::version(session).await?.is_none();
    Ok(taken_over.then(|| {
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

async fn check_migrate_version(session: &mut dyn Session) -> Result<(), StoreError> {
    if !schema::has_table(session, "migrate_version").await? {
        return Err(StoreError::Foreign(
            "it has tables but no migrate_version".to_owned(),
        ));
    }
    let found: Vec<(i64,)> = ask(
        session,
        sql::GET_MIGRATE_VERSION,
        vec![],
        "reading migrate_version",
    )
    .await?;
    match found.first() {
        Some((MIGRATE_VERSION,)) => Ok(()),
        Some((found,)) => Err(StoreError::Foreign(format!(
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
    session
        .execute_all(SqlStr::from_static(session.dialect().versions))
        .await
        .map_err(during("creating ha_schema"))?;
    session
        .execute_all(SqlStr::from_static(text))
        .await
        .map_err(during("applying a migration of the ha tables"))?;
    let text = session.dialect().put_version;
    let binds = vec![version.into(), what.into()];
    run(session, text, binds, "writing ha_schema").await?;
    Ok(())
}
