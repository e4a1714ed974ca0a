use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{HasSqlType, Untyped};
use diesel::{QueryResult, RunQueryDsl};
use std::marker::PhantomData;

/// SQL whose text never changes: sent and parsed once per connection. (`sql_query` has the server do that every time.)
/// Planned for every execution, since the tables grow under it: see [`connect`](crate::connect).
pub(crate) fn statement(text: &'static str) -> Statement {
    Statement { text }
}

pub(crate) struct Statement {
    text: &'static str,
}

/// A statement, or one with binds already, and one more value.
pub(crate) struct Bound<S, Value, SqlType> {
    statement: S,
    value: Value,
    sql_type: PhantomData<SqlType>,
}

impl Statement {
    pub(crate) fn bind<SqlType, Value>(self, value: Value) -> Bound<Self, Value, SqlType> {
        Bound { statement: self, value, sql_type: PhantomData }
    }
}

impl<S, Value, SqlType> Bound<S, Value, SqlType> {
    pub(crate) fn bind<Next, NextValue>(self, value: NextValue) -> Bound<Self, NextValue, Next> {
        Bound { statement: self, value, sql_type: PhantomData }
    }
}

impl QueryFragment<Pg> for Statement {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(self.text);
        // diesel writes the placeholder of every value where the value is bound. The text has them already: these
        // end up in a comment behind it.
        out.push_sql(" --");
        Ok(())
    }
}

impl<S, Value, SqlType> QueryFragment<Pg> for Bound<S, Value, SqlType>
where
    S: QueryFragment<Pg>,
    Pg: HasSqlType<SqlType>,
    Value: diesel::serialize::ToSql<SqlType, Pg>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.statement.walk_ast(out.reborrow())?;
        out.push_bind_param(&self.value)
    }
}

/// Known to the connection's cache by its text and the types of its values.
impl QueryId for Statement {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<S, Value, SqlType> QueryId for Bound<S, Value, SqlType> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Statement {
    type SqlType = Untyped;
}

impl<S, Value, SqlType> Query for Bound<S, Value, SqlType> {
    type SqlType = Untyped;
}

impl<Connection> RunQueryDsl<Connection> for Statement {}

impl<S, Value, SqlType, Connection> RunQueryDsl<Connection> for Bound<S, Value, SqlType> {}
