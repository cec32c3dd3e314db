//! A connection that is kept: opened when it is needed, checked, given up after a failure and opened
//! anew.

use sqlx::SqlStr;

use super::engine::{Access, Bind, Done, FromFound, Session, Target};
use super::error::{StoreError, StoreErrorKind, during};
use super::schema;
use super::statements::Filled;

/// A database and, most of the time, an open session to it.
pub(crate) struct Link {
    target: Target,
    access: Access,
    session: Option<Box<dyn Session>>,
}

impl Link {
    /// Connects, and refuses a database whose tables aren't exactly those of this build.
    pub(crate) async fn open(target: Target, access: Access) -> Result<Self, StoreError> {
        let mut link = Link::away(target, access);
        let (session, _) = link.take().await?;
        link.session = Some(session);
        Ok(link)
    }

    /// Leaves connecting to whoever uses it first.
    pub(crate) fn away(target: Target, access: Access) -> Self {
        Link {
            target,
            access,
            session: None,
        }
    }

    /// The database's name for people.
    pub(crate) fn shown(&self) -> String {
        self.target.shown()
    }

    /// Takes the session out, and tells whether it is the one of last time. Whoever doesn't put it
    /// back, because of an error or because nobody waits any more, leaves the next one to connect anew.
    pub(crate) async fn take(&mut self) -> Result<(Box<dyn Session>, bool), StoreError> {
        if let Some(session) = self.session.take() {
            return Ok((session, true));
        }
        let mut session = self.target.connect(self.access, &mut Vec::new()).await?;
        schema::check(&mut *session, &self.target).await?;
        if self.access == Access::Write {
            session
                .settle()
                .await
                .map_err(during("preparing the database for storing"))?;
        }
        Ok((session, false))
    }

    /// Puts the session back after a use that came to this. After an error that passes by itself its
    /// transaction is given up; after another one, or if even that fails, the session is: SQLite, for
    /// one, never writes again on a connection that was made while its file was read-only.
    pub(crate) async fn put_back<T>(
        &mut self,
        mut session: Box<dyn Session>,
        result: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let is_good = match &result {
            Ok(_) => true,
            Err(error) => {
                error.kind() == StoreErrorKind::Passing && session.rollback().await.is_ok()
            }
        };
        if is_good {
            self.session = Some(session);
        }
        result
    }

    /// Closes the session.
    pub(crate) async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }
}

/// Runs one statement that asks; returns its answers.
pub(crate) async fn ask<T: FromFound>(
    session: &mut dyn Session,
    text: &'static str,
    binds: Vec<Bind<'_>>,
    operation: &'static str,
) -> Result<Vec<T>, StoreError> {
    let mut all = Vec::new();
    session
        .fetch(SqlStr::from_static(text), binds, &mut |found| {
            all.push(T::from_found(found)?);
            Ok(())
        })
        .await
        .map_err(during(operation))?;
    Ok(all)
}

/// Runs one statement.
pub(crate) async fn run(
    session: &mut dyn Session,
    text: &'static str,
    binds: Vec<Bind<'_>>,
    operation: &'static str,
) -> Result<Done, StoreError> {
    session
        .execute(SqlStr::from_static(text), binds)
        .await
        .map_err(during(operation))
}

/// The database's clock.
pub(crate) async fn now(session: &mut dyn Session) -> Result<i64, StoreError> {
    let text = session.dialect().now;
    let found: Vec<(i64,)> = ask(session, text, vec![], "reading the database's clock").await?;
    found
        .first()
        .map(|(now,)| *now)
        .ok_or_else(|| during("reading the database's clock")(sqlx::Error::RowNotFound))
}

/// Runs statements that ask; returns all their answers.
pub(crate) async fn read<T: FromFound>(
    session: &mut dyn Session,
    statements: Vec<Filled<'_>>,
    operation: &'static str,
) -> Result<Vec<T>, StoreError> {
    let mut all = Vec::new();
    for Filled { text, binds } in statements {
        session
            .fetch(text, binds, &mut |found| {
                all.push(T::from_found(found)?);
                Ok(())
            })
            .await
            .map_err(during(operation))?;
    }
    Ok(all)
}

/// Runs statements; returns how many rows they changed.
pub(crate) async fn write(
    session: &mut dyn Session,
    statements: Vec<Filled<'_>>,
    operation: &'static str,
) -> Result<u64, StoreError> {
    let mut changed = 0;
    for Filled { text, binds } in statements {
        let done = session
            .execute(text, binds)
            .await
            .map_err(during(operation))?;
        changed += done.changed;
    }
    Ok(changed)
}
