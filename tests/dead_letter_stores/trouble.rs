//! What goes wrong with a file of entries: cut, foreign and damaged lines, a full disk, a file that
//! is taken away, a process that is killed.

use crate::{
    jsonl::small,
    support::{
        Home, LEASE, Told, child, childs_file, entry, id, ids, killed_after, large, say,
        unreadable, write,
    },
};
use std::{collections::HashMap, fs, io::Write, time::Duration};
use tower_webhook::StoreErrorKind;
use tower_webhook::dead_letter::{
    Discarded, EntryClaim, EntryId, JsonlDeadLetters, LetterStore, json,
};

#[tokio::test]
async fn a_line_that_was_cut_is_put_aside_and_the_next_entry_is_whole() {
    let home = Home::new();
    let entries = home.entries();
    for number in 1..=3 {
        write(&entries, &entry(number)).await.unwrap();
    }
    entries.close().await;
    let whole = home.text();
    let last = whole.trim_end().rfind('\n').unwrap() + 1;
    // At every place of the last line.
    for cut in last..whole.len() {
        fs::write(home.file(), &whole[..cut]).unwrap();
        let _ = fs::remove_file(home.beside(".damaged"));
        let entries = home.entries();
        let kept: &[u64] = if cut == whole.len() - 1 {
            // But for its line break it is there.
            &[3, 2, 1]
        } else {
            &[2, 1]
        };
        let kept: Vec<_> = kept.iter().map(|number| id(*number)).collect();
        assert_eq!(ids(&entries).await, kept, "cut at {cut}");
        let torn = cut > last && cut < whole.len() - 1;
        assert_eq!(entries.torn(), u64::from(torn), "cut at {cut}");
        if torn {
            let aside = fs::read_to_string(home.beside(".damaged")).unwrap();
            assert_eq!(aside.trim_end(), &whole[last..cut]);
        } else {
            assert!(!home.beside(".damaged").exists());
        }
        write(&entries, &entry(4)).await.unwrap();
        entries.close().await;
        let text = home.text();
        let last = text.lines().next_back().unwrap();
        assert_eq!(json::from_json(last.as_bytes()).unwrap(), entry(4));
    }
}

#[tokio::test]
async fn observers_are_told_of_what_cannot_be_read() {
    let home = Home::new();
    let entries = home.entries();
    write(&entries, &entry(1)).await.unwrap();
    entries.close().await;
    fs::write(home.file(), format!("{}half {{\n{{\"cut", home.text())).unwrap();

    let told = Told::default();
    let builder = JsonlDeadLetters::builder().observe(told.clone());
    let entries = builder.clone().open(home.file()).unwrap();
    let damaged = home.beside(".damaged").display().to_string();
    let opened = [
        (
            "a file ended in the middle of a line, which is now in this one",
            damaged,
        ),
        ("lines cannot be read, and stay as they are", "1".to_owned()),
    ];
    assert_eq!(told.lines(), opened);
    entries.close().await;
}

#[tokio::test]
async fn foreign_and_damaged_lines_stay_as_they_are() {
    let home = Home::new();
    let newer = r#"{"schemaVersion":2,"id":"new"}"#;
    let foreign = json::to_json(&entry(3));
    let good = json::to_json(&entry(1));
    let zeros = "\0".repeat(500);
    let removed = r#"{"schemaVersion":1,"removed":"../../etc/passwd"}"#;
    let lines = format!("{newer}\n{good}\nhalf {{\n\n{zeros}\n{foreign}\r\n{removed}\n");
    fs::write(home.file(), &lines).unwrap();
    let entries = home.entries();
    assert_eq!(unreadable(&entries).await, 4);
    assert_eq!(ids(&entries).await, [id(3), id(1)]);
    assert_eq!(entries.get(id(3)).await.unwrap(), Some(entry(3)));
    assert_eq!(entries.discard(id(3)).await.unwrap(), Discarded::Done);
    write(&entries, &entry(2)).await.unwrap();
    entries.close().await;
    assert!(home.text().starts_with(&lines));
    assert_eq!(ids(&home.entries()).await, [id(2), id(1)]);
}

/// In its place: neither the length nor the inode tells.
fn overwrite(home: &Home, text: &str) {
    let file = fs::OpenOptions::new().write(true).open(home.file());
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn a_line_that_is_damaged_while_it_is_open_is_told_of_when_it_is_opened_again() {
    let home = Home::new();
    let entries = home.entries();
    for number in [1111, 2222] {
        write(&entries, &entry(number)).await.unwrap();
    }
    let text = home.text();
    let text = text.replace("\\\"number\\\":1111", "\\\"number\\\":9999");
    overwrite(&home, &text);
    for number in [1111, 2222] {
        let found = entries.get(id(number)).await.unwrap();
        assert_eq!(found, Some(entry(number)));
    }
    entries.close().await;
    let entries = home.entries();
    assert_eq!(ids(&entries).await, [id(2222)]);
    assert_eq!(unreadable(&entries).await, 1);
}

#[tokio::test]
async fn a_snapshot_mends_a_line_that_was_damaged_while_it_was_open() {
    let home = Home::new();
    let builder = small(20_000);
    let entries = builder.clone().open(home.file()).unwrap();
    for number in [1111, 2222] {
        write(&entries, &entry(number)).await.unwrap();
    }
    // Without its line break, too.
    overwrite(&home, &home.text().replacen("}\n", "}}", 1));
    for number in 2..100 {
        write(&entries, &large(number, 1_000)).await.unwrap();
        entries.discard(id(number)).await.unwrap();
    }
    entries.close().await;
    let entries = builder.clone().open(home.file()).unwrap();
    assert_eq!(ids(&entries).await, [id(2222), id(1111)]);
    for number in [1111, 2222] {
        let found = entries.get(id(number)).await.unwrap();
        assert_eq!(found, Some(entry(number)));
    }
    assert_eq!(unreadable(&entries).await, 0);
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_taken_away_cut_or_replaced_is_noticed() {
    let home = Home::new();
    let entries = home.entries();
    let away = home.folder().join("away");
    for number in 1..=3 {
        write(&entries, &entry(number)).await.unwrap();
    }
    let claimed = entries.claim(id(2), LEASE, 5).await.unwrap();
    assert!(matches!(claimed, EntryClaim::Claimed { .. }));

    // As logrotate does it.
    fs::rename(home.file(), &away).unwrap();
    assert_eq!(ids(&entries).await, [] as [EntryId; 0]);
    write(&entries, &entry(4)).await.unwrap();
    assert_eq!(ids(&entries).await, [id(4)]);
    assert_eq!(
        fs::read_to_string(&away).unwrap().lines().count(),
        4,
        "nothing more goes there"
    );

    // As logrotate does it with `copytruncate`.
    fs::File::create(home.file()).unwrap();
    write(&entries, &entry(5)).await.unwrap();
    assert_eq!(ids(&entries).await, [id(5)]);

    // As an operator does it who brings them back.
    fs::rename(&away, home.file()).unwrap();
    assert_eq!(ids(&entries).await, [id(3), id(2), id(1)]);
    assert_eq!(entries.get(id(2)).await.unwrap().unwrap().replays, 1);

    // The folder is gone, and comes back.
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("moved");
    fs::rename(home.folder(), &moved).unwrap();
    assert_eq!(
        write(&entries, &entry(6)).await,
        Err(StoreErrorKind::Unavailable)
    );
    fs::rename(&moved, home.folder()).unwrap();
    write(&entries, &entry(6)).await.unwrap();
    assert_eq!(ids(&entries).await, [6, 3, 2, 1].map(id));
}

#[tokio::test]
async fn a_claim_outlives_another_hand_in_the_file() {
    let home = Home::new();
    let entries = home.entries();
    write(&entries, &entry(1)).await.unwrap();
    entries.claim(id(1), LEASE, 5).await.unwrap();
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(home.file())
        .unwrap();
    writeln!(file, "{}", json::to_json(&entry(2))).unwrap();
    assert_eq!(ids(&entries).await, [id(2), id(1)]);
    let busy = entries.claim(id(1), LEASE, 5).await.unwrap();
    assert!(matches!(busy, EntryClaim::InProgress { .. }));
}

/// Under a limit on the size of files, which is lifted while the child runs.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_leaves_no_part_and_passes_without_a_restart() {
    use crate::child::{limited, meets_its_limit};
    let home = Home::new();
    let limited = limited(1000, "trouble::child_with_a_limit", &home.file());
    let mut kept: Vec<EntryId> = meets_its_limit(limited, 5, |why| {
        assert_eq!(why, "Full");
        // What was begun is gone again: every line is whole.
        assert!(home.text().ends_with('\n'));
    })
    .iter()
    .map(|number| id(number.parse().unwrap()))
    .collect();
    kept.reverse();
    let entries = home.entries();
    assert_eq!(entries.torn(), 0);
    assert_eq!(unreadable(&entries).await, 0);
    assert_eq!(ids(&entries).await, kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn child_with_a_limit() {
    let Some(file) = childs_file() else { return };
    let told = Told::default();
    let builder = JsonlDeadLetters::builder().observe(told.clone());
    let entries = builder.open(file).unwrap();
    let (mut refused, mut after) = (false, 0);
    for number in 1..2_000 {
        match write(&entries, &large(number, 100_000)).await {
            Ok(()) => {
                say(&format!("kept {number}"));
                after += i32::from(refused);
            }
            Err(kind) => {
                refused = true;
                let what = "entries were not written to their file";
                assert_eq!(told.lines().pop().unwrap().0, what);
                say(&format!("refused {kind:?}"));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        if after == 20 {
            return;
        }
    }
    panic!("neither refused nor recovered");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    let home = Home::new();
    let mut acknowledged: HashMap<EntryId, bool> = HashMap::new();
    // Several lives on one file, each cut short somewhere else.
    for (life, lines) in [1, 7, 40, 150, 600].into_iter().enumerate() {
        let mut command = child("trouble::child_that_is_killed", &home.file());
        command.env("TEST_LIFE", life.to_string());
        killed_after(lines, command, |line| {
            let (what, found) = line.split_once(' ').unwrap_or_default();
            let Ok(id) = found.parse() else { return false };
            match what {
                "there" => drop(acknowledged.insert(id, true)),
                "gone" => drop(acknowledged.insert(id, false)),
                _ => return false,
            }
            true
        });

        let entries = settings().open(home.file()).unwrap();
        assert_eq!(unreadable(&entries).await, 0);
        for (id, there) in &acknowledged {
            let found = entries.get(*id).await.unwrap();
            assert_eq!(found.is_some(), *there, "{id}");
        }
        entries.close().await;
    }
    assert!(acknowledged.len() >= 400);
}

fn settings() -> tower_webhook::dead_letter::JsonlDeadLettersBuilder {
    // So small that it is killed while it makes a snapshot, too.
    small(10_000_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn child_that_is_killed() {
    let Some(file) = childs_file() else { return };
    let life: u64 = std::env::var("TEST_LIFE").unwrap().parse().unwrap();
    let entries = settings().open(file).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16 {
        let entries = entries.clone();
        tasks.spawn(async move {
            for number in 0..1_000_000 {
                let number = (life << 40) | (task << 30) | number;
                write(&entries, &large(number, 800)).await.unwrap();
                if number.is_multiple_of(4) {
                    say(&format!("there {}", id(number)));
                } else {
                    // Nothing is said of it before it is gone: the kill may come in between.
                    assert_eq!(entries.discard(id(number)).await.unwrap(), Discarded::Done);
                    say(&format!("gone {}", id(number)));
                }
            }
        });
    }
    tasks.join_all().await;
}
