//! What the tests share.

pub(crate) use crate::{
    child::{Ends, child, childs_file, killed_after, say, told_by},
    home::{Home, ManualClock, until},
};

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use tower_webhook::{
    dead_letter::{Cause, Entry, EntryBody, EntryClaim, EntryId, LetterStore, Reason, Sink},
    lease::FencingToken,
};
use tower_webhook_sqlite::SqliteDeadLetters;

pub(crate) const LEASE: Duration = Duration::from_secs(60);

impl Home {
    pub(crate) fn store(&self) -> SqliteDeadLetters {
        SqliteDeadLetters::open(self.file()).unwrap()
    }
}

pub(crate) fn id(number: u64) -> EntryId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    EntryId::from_bytes(bytes)
}

pub(crate) fn entry(number: u64) -> Entry {
    let written_at = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number);
    let cause = Cause::new(Reason::RetriesExhausted);
    let mut entry = Entry::new(id(number), "http", "peer.test", cause, written_at);
    entry.method = Some("POST".to_owned());
    entry.uri = Some("https://peer.test/hooks".to_owned());
    let body = format!(r#"{{"number":{number}}}"#);
    entry.body = EntryBody::new(&body.into(), 1024);
    entry
}

pub(crate) async fn write(store: &SqliteDeadLetters, number: u64) {
    store.write(&Arc::new(entry(number))).await.unwrap();
}

pub(crate) async fn claim(store: &SqliteDeadLetters, number: u64) -> FencingToken {
    match store.claim(id(number), LEASE, 1_000).await.unwrap() {
        EntryClaim::Claimed { token, .. } => token,
        other => panic!("{number} is not free: {other:?}"),
    }
}
