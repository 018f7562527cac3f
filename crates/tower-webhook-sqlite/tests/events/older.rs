//! Files that the gateway wrote before its events were kept by this crate.

use super::*;
use tower_webhook_sqlite::database::OpenError;

/// Its tables at that time.
const TABLES: &str = "CREATE TABLE gateway_accepted (
        row INTEGER PRIMARY KEY,
        scope TEXT NOT NULL,
        id TEXT NOT NULL,
        body BLOB NOT NULL,
        accepted_ms INTEGER NOT NULL,
        finished INTEGER NOT NULL,
        UNIQUE (id, scope)
    ) STRICT;
    CREATE INDEX gateway_accepted_unfinished ON gateway_accepted (row) WHERE finished = 0;
    CREATE TABLE gateway_probe (at_ms INTEGER NOT NULL) STRICT;
    INSERT INTO gateway_probe VALUES (0);
    CREATE TABLE gateway_audit (
        row INTEGER PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        action TEXT NOT NULL,
        subject TEXT NOT NULL
    ) STRICT;";

#[tokio::test]
async fn events_of_an_earlier_gateway_are_kept_and_taken_up() {
    let home = Home::new();
    let database = home.database();
    database.migrate("gateway/accepted", &[TABLES]).unwrap();
    let now = std::time::SystemTime::now();
    let now = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis();
    home.raw()
        .execute_batch(&format!(
            "INSERT INTO gateway_accepted (scope, id, body, accepted_ms, finished) VALUES
                ('/webhooks', 'done', CAST('a' AS BLOB), {now}, 1),
                ('/webhooks', 'open', CAST('b' AS BLOB), {now}, 0);
             INSERT INTO gateway_audit (at_ms, action, subject) VALUES ({now}, 'replay', 'done');"
        ))
        .unwrap();
    database.close().await;

    let (events, queue) = home.apart();
    assert_eq!(
        &events.find(&key("done")).await.unwrap().unwrap().body[..],
        b"a"
    );
    assert!(accept(&events, "done").await.repeated);
    assert_eq!(home.count("tower_webhook_audit"), 1);
    assert_eq!(events.take_up(|event| event.job("event")).await, 1);
    let job = take(&**queue.engine()).await;
    assert_eq!(&job.payload[..], b"b");
    finish(&**queue.engine(), &job).await;
    events.finished(&job.dedup_key.unwrap());
    events.probe().await.unwrap();
    assert_eq!(home.count("tower_webhook_accepted WHERE finished = 0"), 0);
    // Once more, and beside the jobs: it is as new.
    let (events, _queue) = home.beside();
    assert!(!accept(&events, "new").await.repeated);
    assert_eq!(home.count("sqlite_schema WHERE name LIKE 'gateway%'"), 0);

    // That gateway would not find its events any more, and is told so.
    let refused = home.database().migrate("gateway/accepted", &[TABLES]);
    assert!(
        matches!(refused, Err(OpenError::NewerSchema { .. })),
        "{refused:?}"
    );
}
