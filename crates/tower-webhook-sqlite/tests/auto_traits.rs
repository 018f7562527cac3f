//! Which public types may cross threads, be shared and be cloned: a change of these is a breaking
//! change that no other test would notice.

use tower_webhook_sqlite::{
    Database, SqliteDeadLetters, SqliteQueue, SqliteStore,
    database::{DatabaseBuilder, DatabaseError, OpenError, Reply, Row, Statement, Value},
    queue::SqliteQueueBuilder,
};

fn shared<T: Send + Sync + 'static>() {}
fn cloned<T: Clone + Send + Sync + 'static>() {}
fn unpinned<T: Unpin>() {}

#[test]
fn of_the_database() {
    cloned::<Database>();
    cloned::<DatabaseBuilder>();
    cloned::<DatabaseError>();
    shared::<OpenError>();
    shared::<Reply<Row>>();
    unpinned::<Reply<Row>>();
    cloned::<Row>();
    cloned::<Statement>();
    cloned::<Value>();
}

#[test]
fn of_the_stores() {
    cloned::<SqliteDeadLetters>();
    cloned::<SqliteQueue>();
    cloned::<SqliteQueueBuilder>();
    cloned::<SqliteStore>();
}
