//! What the tests share.

pub(crate) use crate::child::{child, childs_file, killed_after, say};

use bytes::Bytes;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tower_webhook::dead_letter::{
    Cause, Entry, EntryBody, EntryId, Filter, JsonlDeadLetters, LetterStore, OpenDeadLettersError,
    Page, Reason, Sink,
};
use tower_webhook::{
    StoreErrorKind,
    observe::{Event, Observer},
};

pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// A folder of its own for a test, and a file in it.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("entries.jsonl")
    }

    pub(crate) fn beside(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("entries.jsonl{suffix}"))
    }

    pub(crate) fn entries(&self) -> JsonlDeadLetters {
        // A process that another test starts has a copy of the lock, from its fork until it runs its program.
        let end = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            match JsonlDeadLetters::open(self.file()) {
                Err(OpenDeadLettersError::Locked { .. }) if std::time::Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                opened => return opened.unwrap(),
            }
        }
    }

    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }
}

/// What an observer was told: what happened, and its details.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Vec<(&'static str, String)>>>);

impl Told {
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        self.0.lock().unwrap().clone()
    }
}

impl Observer for Told {
    fn on(&self, event: &Event<'_>) {
        let Event::Trouble { part, what, detail } = event else {
            panic!("unexpected: {event:?}");
        };
        assert_eq!(*part, "dead_letter");
        let detail = detail.map(|detail| detail.to_string());
        self.0
            .lock()
            .unwrap()
            .push((what, detail.unwrap_or_default()));
    }
}

pub(crate) fn id(number: u64) -> EntryId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    EntryId::from_bytes(bytes)
}

pub(crate) fn entry(number: u64) -> Entry {
    let cause = Cause::new(Reason::RetriesExhausted).with_code(Some(503));
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + number);
    let mut entry = Entry::new(id(number), "http", "peer.test", cause, at);
    entry.event_id = Some(format!("evt_{number}"));
    entry.body = body(format!("{{\"number\":{number}}}"));
    entry
}

/// An entry whose line has about so many bytes.
pub(crate) fn large(number: u64, bytes: usize) -> Entry {
    let mut entry = entry(number);
    entry.body = body(format!("{number:08}").repeat(bytes / 8));
    entry
}

pub(crate) fn body(bytes: impl Into<Bytes>) -> EntryBody {
    EntryBody::new(&bytes.into(), usize::MAX)
}

pub(crate) async fn write(sink: &impl Sink, entry: &Entry) -> Result<(), StoreErrorKind> {
    let written = sink.write(&Arc::new(entry.clone())).await;
    written.map_err(|error| error.kind())
}

pub(crate) async fn ids(store: &impl LetterStore) -> Vec<EntryId> {
    let (mut page, mut found) = (Page::first(7), Vec::new());
    loop {
        let listing = store.list(&Filter::all(), &page).await.unwrap();
        found.extend(listing.entries.iter().map(|summary| summary.id));
        match listing.next {
            Some(next) => page = Page::first(7).after(next),
            None => return found,
        }
    }
}

pub(crate) async fn unreadable(store: &impl LetterStore) -> u64 {
    let listing = store.list(&Filter::all(), &Page::first(1)).await.unwrap();
    listing.unreadable
}
