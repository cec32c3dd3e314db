//! Making the tables: in a fresh file, or beside those of a Ceilometer that is taken over.

use std::path::Path;

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, raw_sql};

use super::connect;
use super::error::{StoreError, during};
use super::schema::{self, MIGRATE_VERSION, MIGRATIONS, Migration, NEEDED_COLUMNS};

/// Who may read a database file that we create: its owner and group, as far as the umask lets them.
const FILE_MODE: u32 = 0o640;

/// Brings a database to this build's schema, all of it or nothing; says what was done.
pub(crate) async fn dbsync(path: &Path) -> Result<Vec<String>, StoreError> {
    let mut done = Vec::new();
    if !connect::exists(path).await? {
        create_file(path).await?;
        done.push(format!(
            "created database file {} (mode {FILE_MODE:04o})",
            path.display()
        ));
    }
    let mut conn = connect::connect(path).await?;
    done.extend(migrate(&mut conn).await?);
    conn.close()
        .await
        .map_err(during("closing the database after dbsync"))?;
    Ok(done)
}

async fn create_file(path: &Path) -> Result<(), StoreError> {
    tokio::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        .await
        .map(|_| ())
        .map_err(|source| StoreError::File {
            operation: "creating the database file",
            path: path.to_owned(),
            source,
        })
}

async fn migrate(conn: &mut SqliteConnection) -> Result<Vec<String>, StoreError> {
    let mut tx = conn
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(during("beginning dbsync"))?;
    let mut done = Vec::new();
    let version = connect::version(&mut tx).await?;
    let known = schema::latest();
    if let Some(found) = version
        && found > known
    {
        return Err(StoreError::NewerSchema { found, known });
    }
    done.extend(ceilometer_tables(&mut tx).await?);
    let pending = MIGRATIONS
        .iter()
        .filter(|migration| version.is_none_or(|version| migration.version > version));
    for migration in pending {
        apply(&mut tx, migration).await?;
        let Migration { version, what, .. } = migration;
        done.push(format!("brought ha tables to version {version}: {what}"));
    }
    tx.commit().await.map_err(during("committing dbsync"))?;
    if done.is_empty() {
        done.push(format!(
            "nothing to do: ha tables are at version {known}, Ceilometer's at {MIGRATE_VERSION}"
        ));
    }
    Ok(done)
}

/// Makes Ceilometer's tables, or makes sure that those that are there are what we know.
async fn ceilometer_tables(conn: &mut SqliteConnection) -> Result<Option<String>, StoreError> {
    if !has_any_needed_table(conn).await? {
        raw_sql(schema::CEILOMETER)
            .execute(&mut *conn)
            .await
            .map_err(during("creating Ceilometer's tables"))?;
        sqlx::query(schema::PUT_MIGRATE_VERSION)
            .bind(MIGRATE_VERSION)
            .execute(conn)
            .await
            .map_err(during("writing migrate_version"))?;
        return Ok(Some(format!(
            "created Ceilometer's tables (migrate_version {MIGRATE_VERSION})"
        )));
    }
    check_migrate_version(conn).await?;
    for (table, columns) in NEEDED_COLUMNS {
        check_columns(conn, table, columns).await?;
    }
    let taken_over = connect::version(conn).await?.is_none();
    Ok(taken_over.then(|| {
        format!("took over Ceilometer's tables (migrate_version {MIGRATE_VERSION}) with their data")
    }))
}

async fn has_any_needed_table(conn: &mut SqliteConnection) -> Result<bool, StoreError> {
    if connect::has_table(conn, "migrate_version").await? {
        return Ok(true);
    }
    for (table, _) in NEEDED_COLUMNS {
        if connect::has_table(conn, table).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn check_migrate_version(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    if !connect::has_table(conn, "migrate_version").await? {
        return Err(StoreError::Foreign(
            "it has tables but no migrate_version".to_owned(),
        ));
    }
    let found: Option<i64> = sqlx::query_scalar(schema::GET_MIGRATE_VERSION)
        .fetch_optional(conn)
        .await
        .map_err(during("reading migrate_version"))?;
    match found {
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
    conn: &mut SqliteConnection,
    table: &str,
    columns: &[&str],
) -> Result<(), StoreError> {
    let found: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info(?)")
        .bind(table)
        .fetch_all(conn)
        .await
        .map_err(during("reading the columns of Ceilometer's tables"))?;
    match columns
        .iter()
        .find(|column| !found.iter().any(|name| name == *column))
    {
        None => Ok(()),
        Some(missing) => Err(StoreError::Foreign(format!(
            "its table {table} has no column {missing}"
        ))),
    }
}

async fn apply(conn: &mut SqliteConnection, migration: &Migration) -> Result<(), StoreError> {
    raw_sql(schema::VERSIONS)
        .execute(&mut *conn)
        .await
        .map_err(during("creating ha_schema"))?;
    raw_sql(migration.sql)
        .execute(&mut *conn)
        .await
        .map_err(during("applying a migration of the ha tables"))?;
    sqlx::query(schema::PUT_VERSION)
        .bind(migration.version)
        .bind(migration.what)
        .execute(conn)
        .await
        .map_err(during("writing ha_schema"))?;
    Ok(())
}
