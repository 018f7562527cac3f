//! Letters in a file: the contract, what is there after it was opened again, rotation and bounds.

use crate::support::{Home, LEASE, id, ids, large, letter, unreadable, write};
use bytes::Bytes;
use std::{fs, sync::Arc, time::Duration};
use tower_webhook::{
    dead_letter::{
        Cause, Discarded, JsonlLetters, LetterBody, LetterClaim, LetterStore, Reason, Redaction,
        Sink, SinkErrorKind, contract, json, sink::jsonl::OpenLettersError,
    },
    fence::Settled,
};

/// Each store in a folder of its own.
struct Subject(std::cell::RefCell<Vec<Home>>);

impl contract::Subject for Subject {
    type Store = JsonlLetters;

    async fn store(&self) -> JsonlLetters {
        let home = Home::new();
        let letters = home.letters();
        self.0.borrow_mut().push(home);
        letters
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_contract() {
    contract::check(&Subject(Vec::new().into())).await;
}

async fn claim(letters: &JsonlLetters, number: u64) -> LetterClaim {
    letters.claim(id(number), LEASE, 5).await.unwrap()
}

#[tokio::test]
async fn what_was_written_claimed_and_removed_is_so_after_it_is_opened_again() {
    let home = Home::new();
    let letters = home.letters();
    for number in 1..=6 {
        write(&letters, &letter(number)).await.unwrap();
    }
    let LetterClaim::Claimed { token, .. } = claim(&letters, 1).await else {
        panic!("free")
    };
    assert_eq!(letters.remove(id(1), token).await.unwrap(), Settled::Done);
    assert_eq!(letters.discard(id(3)).await.unwrap(), Discarded::Done);
    let LetterClaim::Claimed {
        token,
        letter: mut released,
    } = claim(&letters, 2).await
    else {
        panic!("free")
    };
    released.cause = Cause::new(Reason::Rejected);
    let released = Arc::new(*released);
    assert_eq!(
        letters.release(token, &released).await.unwrap(),
        Settled::Done
    );
    // This claim dies with its process, and counts.
    assert!(matches!(
        claim(&letters, 4).await,
        LetterClaim::Claimed { .. }
    ));
    letters.close().await;
    assert_eq!(
        write(&letters, &letter(9)).await,
        Err(SinkErrorKind::Closed)
    );

    for _ in 0..2 {
        let letters = home.letters();
        assert_eq!(ids(&letters).await, [6, 5, 4, 2].map(id));
        assert_eq!(letters.get(id(2)).await.unwrap().as_ref(), Some(&*released));
        let four = letters.get(id(4)).await.unwrap().unwrap();
        assert_eq!(four.replays, 1);
        assert_eq!(letters.get(id(5)).await.unwrap(), Some(letter(5)));
        letters.close().await;
    }
    let letters = home.letters();
    let LetterClaim::Claimed { token: later, .. } = claim(&letters, 4).await else {
        panic!("the claim died with its process")
    };
    assert!(later > token, "tokens grow over restarts");
}

#[tokio::test]
async fn each_line_is_a_letter_in_its_json_form() {
    let home = Home::new();
    let letters = home.letters();
    let writes = (1..=100).map(|number| letters.write(&Arc::new(letter(number))));
    // All at once: they share their syncs.
    let writes: Vec<_> = writes.map(tokio::spawn).collect();
    for written in writes {
        written.await.unwrap().unwrap();
    }
    letters.close().await;
    let text = home.text();
    let read: Vec<_> = text
        .lines()
        .map(|line| json::from_json(line.as_bytes()).unwrap())
        .collect();
    assert_eq!(read, (1..=100).map(letter).collect::<Vec<_>>());
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let builder = JsonlLetters::builder().max_file_bytes(1);
    let letters = builder.open(home.file()).unwrap();
    for number in 1..=3 {
        write(&letters, &letter(number)).await.unwrap();
    }
    let mut files = 0;
    for entry in fs::read_dir(home.folder()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        files += 1;
    }
    assert_eq!(files, 4, "three of letters and the lock");
}

#[tokio::test]
async fn a_second_handle_is_refused_until_the_first_is_closed() {
    let home = Home::new();
    let letters = home.letters();
    let refused = JsonlLetters::open(home.file()).unwrap_err();
    assert!(
        matches!(refused, OpenLettersError::Locked { .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("another process"), "{refused}");
    letters.close().await;
    let second = home.letters();
    write(&second, &letter(1)).await.unwrap();
}

#[test]
fn what_cannot_be_opened_says_why() {
    let home = Home::new();
    let open = |path| JsonlLetters::open(path).unwrap_err().to_string();
    assert!(open(home.folder().join("missing/letters")).contains("missing"));
    assert!(open(home.folder().to_owned()).contains("cannot open"));
    let setting =
        |builder: tower_webhook::dead_letter::sink::jsonl::JsonlLettersBuilder| match builder
            .open(home.file())
            .unwrap_err()
        {
            OpenLettersError::InvalidConfig(error) => error.setting(),
            other => panic!("{other}"),
        };
    let new = JsonlLetters::builder;
    assert_eq!(setting(new().max_file_bytes(0)), "max_file_bytes");
    assert_eq!(setting(new().max_letter_bytes(0)), "max_letter_bytes");
    assert_eq!(
        setting(new().max_letter_bytes(usize::MAX)),
        "max_letter_bytes"
    );
    assert_eq!(setting(new().max_waiting(0)), "max_waiting");
    assert_eq!(setting(new().max_bytes(1)), "max_bytes");
    assert!(!home.file().exists());
}

fn rotated(home: &Home) -> usize {
    let names = fs::read_dir(home.folder()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.ends_with(|end: char| end.is_ascii_digit()))
        .count()
}

#[tokio::test]
async fn no_letter_goes_by_rotation_and_beyond_the_bound_new_ones_are_refused() {
    let home = Home::new();
    let builder = JsonlLetters::builder()
        .max_file_bytes(10_000)
        .max_letter_bytes(50_000)
        .max_bytes(100_000);
    let letters = builder.open(home.file()).unwrap();
    let refused = write(&letters, &large(0, 60_000)).await;
    assert_eq!(refused, Err(SinkErrorKind::TooLarge));
    let mut kept = Vec::new();
    let refused = loop {
        let number = kept.len() as u64 + 1;
        match write(&letters, &large(number, 3_000)).await {
            Ok(()) => kept.insert(0, id(number)),
            Err(kind) => break kind,
        }
    };
    assert_eq!(refused, SinkErrorKind::Full);
    assert!((20..33).contains(&kept.len()), "{}", kept.len());
    assert!(rotated(&home) >= 8, "{}", rotated(&home));
    assert_eq!(ids(&letters).await, kept);
    // Claims and releases work while it is full, and a letter that is gone makes room.
    let LetterClaim::Claimed { token, letter } = claim(&letters, 1).await else {
        panic!("free")
    };
    let settled = letters.release(token, &Arc::new(*letter)).await.unwrap();
    assert_eq!(settled, Settled::Done);
    assert_eq!(letters.discard(id(2)).await.unwrap(), Discarded::Done);
    write(&letters, &large(1_000, 2_900)).await.unwrap();
    letters.close().await;

    let letters = builder.open(home.file()).unwrap();
    kept.retain(|kept| *kept != id(2));
    kept.insert(0, id(1_000));
    assert_eq!(ids(&letters).await, kept);
}

#[tokio::test]
async fn the_largest_letter_of_the_defaults_is_taken() {
    let home = Home::new();
    let letters = home.letters();
    let worst = ["\u{1}", "\"", "\u{1}\u{1}aaaaaaa"];
    for (number, body) in (1..).zip(worst) {
        let mut largest = letter(number);
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
        largest.body = LetterBody::new(&body.into(), 1 << 20);
        Redaction::new().apply(&mut largest);
        write(&letters, &largest).await.unwrap();
        assert_eq!(letters.get(id(number)).await.unwrap(), Some(largest));
    }
    let longest = home.text().lines().map(str::len).max().unwrap();
    assert!(longest < 3 << 20, "{longest}");
}

#[tokio::test]
async fn what_was_settled_gives_its_room_back() {
    let home = Home::new();
    let builder = JsonlLetters::builder()
        .max_file_bytes(8_000)
        .max_letter_bytes(8_000)
        .max_bytes(40_000);
    let letters = builder.open(home.file()).unwrap();
    // Two stay from the beginning, in the oldest file; the last four are always there.
    let mut newest = Vec::new();
    for number in 1..=400 {
        write(&letters, &large(number, 1_000)).await.unwrap();
        if number > 2 {
            newest.insert(0, id(number));
        }
        if newest.len() > 4 {
            let gone = newest.pop().unwrap();
            assert_eq!(letters.discard(gone).await.unwrap(), Discarded::Done);
        }
        let files = fs::read_dir(home.folder()).unwrap();
        // One may go while they are counted.
        let sizes = files.filter_map(|file| file.ok()?.metadata().ok());
        let size: u64 = sizes.map(|file| file.len()).sum();
        assert!(size < 40_000, "{size} bytes of files for six letters");
    }
    newest.extend([id(2), id(1)]);
    assert_eq!(
        ids(&letters).await,
        newest,
        "in order, though they were moved"
    );
    letters.close().await;
    let letters = builder.open(home.file()).unwrap();
    assert_eq!(ids(&letters).await, newest);
    for number in [1, 2, 397, 398, 399, 400] {
        let found = letters.get(id(number)).await.unwrap();
        assert_eq!(found, Some(large(number, 1_000)));
    }
    assert_eq!(unreadable(&letters).await, 0);
}

#[tokio::test]
async fn counts_of_claims_and_foreign_lines_move_with_the_letters() {
    let home = Home::new();
    let newer = r#"{"schemaVersion":9,"something":"else"}"#;
    fs::write(home.file(), format!("{newer}\nnot json\n")).unwrap();
    let builder = JsonlLetters::builder()
        .max_file_bytes(4_000)
        .max_letter_bytes(4_000)
        .max_bytes(20_000);
    let letters = builder.open(home.file()).unwrap();
    write(&letters, &letter(1)).await.unwrap();
    for _ in 0..3 {
        let LetterClaim::Claimed { token, letter } = claim(&letters, 1).await else {
            panic!("free")
        };
        let settled = letters.release(token, &Arc::new(*letter)).await.unwrap();
        assert_eq!(settled, Settled::Done);
    }
    claim(&letters, 1).await;
    for number in 2..200 {
        write(&letters, &large(number, 1_000)).await.unwrap();
        letters.discard(id(number)).await.unwrap();
    }
    letters.close().await;
    let oldest = home.beside(".0000000001");
    assert!(!oldest.exists(), "the file that they came in is gone");
    let letters = builder.open(home.file()).unwrap();
    assert_eq!(ids(&letters).await, [id(1)]);
    assert_eq!(letters.get(id(1)).await.unwrap().unwrap().replays, 4);
    assert_eq!(unreadable(&letters).await, 2);
    letters.close().await;
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
    let letters = home.letters();
    for number in 1..=50 {
        drop(letters.write(&Arc::new(letter(number))));
        drop(letters.claim(id(number), LEASE, 5));
    }
    assert_eq!(ids(&letters).await.len(), 50);
    for number in 1..=50 {
        let free = claim(&letters, number).await;
        let LetterClaim::Claimed { letter, .. } = free else {
            panic!("{free:?}")
        };
        assert_eq!(letter.replays, 1, "what was dropped does not count");
    }
    letters.close().await;
    assert_eq!(ids(&home.letters()).await.len(), 50);
}

#[test]
fn a_database_is_not_taken_for_a_file_of_letters() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.db");
    let database = b"SQLite format 3\0 and its pages";
    std::fs::write(&path, database).unwrap();
    let error = JsonlLetters::open(&path).unwrap_err();
    assert!(
        matches!(error, OpenLettersError::CannotOpen { .. }),
        "{error:?}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), database, "it is as it was");
    assert_eq!(folder.path().read_dir().unwrap().count(), 1, "and alone");
}
