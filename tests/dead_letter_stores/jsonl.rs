//! Entries in a file: the contract, what is there after it was opened again, snapshots and bounds.

use crate::support::{Home, LEASE, entry, id, ids, large, unreadable, write};
use bytes::Bytes;
use std::{fs, io::Write, sync::Arc, time::Duration};
use tower_webhook::{
    StoreErrorKind,
    dead_letter::{
        Cause, Discarded, EntryBody, EntryClaim, JsonlDeadLetters, JsonlDeadLettersBuilder,
        LetterStore, OpenDeadLettersError, Reason, Redaction, Sink, contract, json,
    },
    lease::Settled,
};

/// Each store in a folder of its own.
struct Subject(std::cell::RefCell<Vec<Home>>);

impl contract::Subject for Subject {
    type Store = JsonlDeadLetters;

    async fn store(&self) -> JsonlDeadLetters {
        let home = Home::new();
        let entries = home.entries();
        self.0.borrow_mut().push(home);
        entries
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_contract() {
    contract::check(&Subject(Vec::new().into())).await;
}

async fn claim(entries: &JsonlDeadLetters, number: u64) -> EntryClaim {
    entries.claim(id(number), LEASE, 5).await.unwrap()
}

#[tokio::test]
async fn what_was_written_claimed_and_removed_is_so_after_it_is_opened_again() {
    let home = Home::new();
    let entries = home.entries();
    for number in 1..=6 {
        write(&entries, &entry(number)).await.unwrap();
    }
    let EntryClaim::Claimed { token, .. } = claim(&entries, 1).await else {
        panic!("free")
    };
    assert_eq!(entries.remove(id(1), token).await.unwrap(), Settled::Done);
    assert_eq!(entries.discard(id(3)).await.unwrap(), Discarded::Done);
    let EntryClaim::Claimed {
        token,
        entry: mut released,
    } = claim(&entries, 2).await
    else {
        panic!("free")
    };
    released.cause = Cause::new(Reason::Rejected);
    let released = Arc::new(*released);
    assert_eq!(
        entries.release(token, &released).await.unwrap(),
        Settled::Done
    );
    // This claim dies with its process, and counts.
    assert!(matches!(
        claim(&entries, 4).await,
        EntryClaim::Claimed { .. }
    ));
    entries.close().await;
    assert_eq!(
        write(&entries, &entry(9)).await,
        Err(StoreErrorKind::Closed)
    );

    for _ in 0..2 {
        let entries = home.entries();
        assert_eq!(ids(&entries).await, [6, 5, 4, 2].map(id));
        assert_eq!(entries.get(id(2)).await.unwrap().as_ref(), Some(&*released));
        let four = entries.get(id(4)).await.unwrap().unwrap();
        assert_eq!(four.replays, 1);
        assert_eq!(entries.get(id(5)).await.unwrap(), Some(entry(5)));
        entries.close().await;
    }
    let entries = home.entries();
    let EntryClaim::Claimed { token: later, .. } = claim(&entries, 4).await else {
        panic!("the claim died with its process")
    };
    assert!(later > token, "tokens grow over restarts");
}

#[tokio::test]
async fn each_line_is_an_entry_in_its_json_form() {
    let home = Home::new();
    let entries = home.entries();
    let writes = (1..=100).map(|number| entries.write(&Arc::new(entry(number))));
    // All at once: they share their syncs.
    let writes: Vec<_> = writes.map(tokio::spawn).collect();
    for written in writes {
        written.await.unwrap().unwrap();
    }
    entries.close().await;
    let text = home.text();
    let read: Vec<_> = text
        .lines()
        .map(|line| json::from_json(line.as_bytes()).unwrap())
        .collect();
    assert_eq!(read, (1..=100).map(entry).collect::<Vec<_>>());
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_for_the_owner_alone() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let home = Home::new();
    let entries = small(80_000).open(home.file()).unwrap();
    write(&entries, &entry(1)).await.unwrap();
    entries.close().await;
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(home.file())
        .unwrap();
    file.write_all(b"{\"cut").unwrap();
    let before = file.metadata().unwrap().ino();
    let entries = small(80_000).open(home.file()).unwrap();
    for number in 2..=100 {
        write(&entries, &large(number, 1_000)).await.unwrap();
        entries.discard(id(number)).await.unwrap();
    }
    entries.close().await;
    assert_ne!(fs::metadata(home.file()).unwrap().ino(), before, "another");
    let mut files = 0;
    for entry in fs::read_dir(home.folder()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        files += 1;
    }
    assert_eq!(files, 3, "the entries, the part of a line, and the lock");
}

#[tokio::test]
async fn a_second_handle_is_refused_until_the_first_is_closed() {
    let home = Home::new();
    let entries = home.entries();
    let refused = JsonlDeadLetters::open(home.file()).unwrap_err();
    assert!(
        matches!(refused, OpenDeadLettersError::Locked { .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("another process"), "{refused}");
    entries.close().await;
    let second = home.entries();
    write(&second, &entry(1)).await.unwrap();
}

#[test]
fn what_cannot_be_opened_says_why() {
    let home = Home::new();
    let open = |path| JsonlDeadLetters::open(path).unwrap_err().to_string();
    assert!(open(home.folder().join("missing/entries")).contains("missing"));
    assert!(open(home.folder().to_owned()).contains("cannot open"));
    let setting = |builder: JsonlDeadLettersBuilder| match builder.open(home.file()).unwrap_err() {
        OpenDeadLettersError::InvalidConfig(error) => error.setting(),
        other => panic!("{other}"),
    };
    let new = JsonlDeadLetters::builder;
    assert_eq!(setting(new().max_entry_bytes(0)), "max_entry_bytes");
    assert_eq!(
        setting(new().max_entry_bytes(usize::MAX)),
        "max_entry_bytes"
    );
    assert_eq!(setting(new().max_waiting(0)), "max_waiting");
    assert_eq!(setting(new().max_bytes(1)), "max_bytes");
    assert!(!home.file().exists());
}

/// So small that the file is often replaced by a snapshot.
pub(crate) fn small(max_bytes: u32) -> JsonlDeadLettersBuilder {
    JsonlDeadLetters::builder()
        .max_entry_bytes((max_bytes as usize / 2).min(50_000))
        .max_bytes(max_bytes.into())
}

#[tokio::test]
async fn beyond_the_bound_new_entries_are_refused_and_none_is_lost() {
    let home = Home::new();
    let builder = small(100_000);
    let entries = builder.clone().open(home.file()).unwrap();
    let refused = write(&entries, &large(0, 60_000)).await;
    assert_eq!(refused, Err(StoreErrorKind::TooLarge));
    let mut kept = Vec::new();
    let refused = loop {
        let number = kept.len() as u64 + 1;
        match write(&entries, &large(number, 3_000)).await {
            Ok(()) => kept.insert(0, id(number)),
            Err(kind) => break kind,
        }
    };
    assert_eq!(refused, StoreErrorKind::Full);
    assert!((20..33).contains(&kept.len()), "{}", kept.len());
    assert_eq!(ids(&entries).await, kept);
    // Claims and releases work while it is full, and an entry that is gone makes room.
    let EntryClaim::Claimed { token, entry } = claim(&entries, 1).await else {
        panic!("free")
    };
    let settled = entries.release(token, &Arc::new(*entry)).await.unwrap();
    assert_eq!(settled, Settled::Done);
    assert_eq!(entries.discard(id(2)).await.unwrap(), Discarded::Done);
    write(&entries, &large(1_000, 2_900)).await.unwrap();
    entries.close().await;

    let entries = builder.clone().open(home.file()).unwrap();
    kept.retain(|kept| *kept != id(2));
    kept.insert(0, id(1_000));
    assert_eq!(ids(&entries).await, kept);
}

#[tokio::test]
async fn the_largest_entry_of_the_defaults_is_taken() {
    let home = Home::new();
    let entries = home.entries();
    let worst = ["\u{1}", "\"", "\u{1}\u{1}aaaaaaa"];
    for (number, body) in (1..).zip(worst) {
        let mut largest = entry(number);
        let text = "\u{1}".repeat(1 << 20);
        largest.cause = largest.cause.with_message(&text);
        largest.kind.clone_from(&text);
        largest.target.clone_from(&text);
        largest.method = Some(text.clone());
        largest.uri = Some(text.clone());
        largest.event_id = Some(text.clone());
        largest.idempotency_key = Some(text.clone());
        largest.replay_of = Some(text.clone());
        largest.trace_id = Some(text.clone());
        let value = Bytes::from("\"".repeat(4_000));
        largest.headers = vec![("x-\u{1}".to_owned(), value); 200];
        // As a worker has them: 1 MiB of body.
        let body = body.repeat((1 << 20) / body.len());
        largest.body = EntryBody::new(&body.into(), 1 << 20);
        Redaction::new().apply(&mut largest);
        write(&entries, &largest).await.unwrap();
        assert_eq!(entries.get(id(number)).await.unwrap(), Some(largest));
    }
    let longest = home.text().lines().map(str::len).max().unwrap();
    assert!(longest < 3 << 20, "{longest}");
}

#[tokio::test]
async fn what_was_settled_gives_its_room_back() {
    let home = Home::new();
    let builder = small(40_000);
    let entries = builder.clone().open(home.file()).unwrap();
    // Two stay from the beginning; the last four are always there.
    let mut newest = Vec::new();
    for number in 1..=400 {
        write(&entries, &large(number, 1_000)).await.unwrap();
        if number > 2 {
            newest.insert(0, id(number));
        }
        if newest.len() > 4 {
            let gone = newest.pop().unwrap();
            assert_eq!(entries.discard(gone).await.unwrap(), Discarded::Done);
        }
        let files = fs::read_dir(home.folder()).unwrap();
        // One may go while they are counted.
        let sizes = files.filter_map(|file| file.ok()?.metadata().ok());
        let size: u64 = sizes.map(|file| file.len()).sum();
        assert!(size < 48_000, "{size} bytes of files for six entries");
    }
    newest.extend([id(2), id(1)]);
    assert_eq!(
        ids(&entries).await,
        newest,
        "in order, though they were written anew"
    );
    entries.close().await;
    let entries = builder.clone().open(home.file()).unwrap();
    assert_eq!(ids(&entries).await, newest);
    for number in [1, 2, 397, 398, 399, 400] {
        let found = entries.get(id(number)).await.unwrap();
        assert_eq!(found, Some(large(number, 1_000)));
    }
    assert_eq!(unreadable(&entries).await, 0);
}

#[tokio::test]
async fn counts_of_claims_and_foreign_lines_are_in_a_snapshot() {
    let home = Home::new();
    let newer = r#"{"schemaVersion":9,"something":"else"}"#;
    fs::write(home.file(), format!("{newer}\nnot json\n")).unwrap();
    let builder = small(20_000);
    let entries = builder.clone().open(home.file()).unwrap();
    write(&entries, &entry(1)).await.unwrap();
    for _ in 0..3 {
        let EntryClaim::Claimed { token, entry } = claim(&entries, 1).await else {
            panic!("free")
        };
        let settled = entries.release(token, &Arc::new(*entry)).await.unwrap();
        assert_eq!(settled, Settled::Done);
    }
    claim(&entries, 1).await;
    for number in 2..200 {
        write(&entries, &large(number, 1_000)).await.unwrap();
        entries.discard(id(number)).await.unwrap();
    }
    entries.close().await;
    assert!(!home.text().contains("claimed"), "it is a snapshot");
    let entries = builder.clone().open(home.file()).unwrap();
    assert_eq!(ids(&entries).await, [id(1)]);
    assert_eq!(entries.get(id(1)).await.unwrap().unwrap().replays, 4);
    assert_eq!(unreadable(&entries).await, 2);
    entries.close().await;
    let mut all = String::new();
    for entry in fs::read_dir(home.folder()).unwrap() {
        all += &fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    assert!(
        all.contains(&format!("{newer}\n")) && all.contains("not json\n"),
        "{all}"
    );
}

#[tokio::test]
async fn a_write_whose_future_is_dropped_is_whole_all_the_same() {
    let home = Home::new();
    let entries = home.entries();
    for number in 1..=50 {
        drop(entries.write(&Arc::new(entry(number))));
        drop(entries.claim(id(number), LEASE, 5));
    }
    assert_eq!(ids(&entries).await.len(), 50);
    for number in 1..=50 {
        let free = claim(&entries, number).await;
        let EntryClaim::Claimed { entry, .. } = free else {
            panic!("{free:?}")
        };
        assert_eq!(entry.replays, 1, "what was dropped does not count");
    }
    entries.close().await;
    assert_eq!(ids(&home.entries()).await.len(), 50);
}

#[test]
fn a_database_is_not_taken_for_a_file_of_entries() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.db");
    let database = b"SQLite format 3\0 and its pages";
    std::fs::write(&path, database).unwrap();
    let error = JsonlDeadLetters::open(&path).unwrap_err();
    assert!(
        matches!(error, OpenDeadLettersError::CannotOpen { .. }),
        "{error:?}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), database, "it is as it was");
    assert_eq!(folder.path().read_dir().unwrap().count(), 1, "and alone");
}

#[test]
fn a_folder_that_does_not_exist_is_named() {
    let folder = tempfile::tempdir().unwrap().path().join("missing");
    let path = folder.join("dead-letters.jsonl");
    let error = JsonlDeadLetters::open(&path).unwrap_err().to_string();
    let (path, folder) = (path.display(), folder.display());
    assert!(error.starts_with(&format!("cannot open the dead letters at {path}: ")));
    assert!(
        error.ends_with(&format!(": make its folder {folder} first")),
        "{error}"
    );
}
