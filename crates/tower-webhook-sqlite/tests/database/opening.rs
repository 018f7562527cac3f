//! What cannot be opened, and says why.

use crate::support::{Home, LEASE, child, childs_file, key};
use rusqlite::Connection;
use std::{
    error::Error,
    fs,
    io::{Seek, SeekFrom, Write},
    time::{Duration, Instant},
};
use tower_webhook::idempotency::{Begin, Store};
use tower_webhook_sqlite::{
    Database, SqliteStore,
    database::{OpenError, Statement},
};

fn refusal(path: impl AsRef<std::path::Path>) -> OpenError {
    let path = path.as_ref();
    let builder = Database::builder().busy_timeout(Duration::from_millis(100));
    let error = builder.open(path).unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains(path.to_str().unwrap()),
        "the path is not named: {told}"
    );
    error
}

#[test]
fn a_folder_is_not_a_database() {
    let home = Home::new();
    let error = refusal(home.folder());
    assert!(matches!(error, OpenError::CannotOpen { .. }), "{error}");
}

#[test]
fn a_folder_that_is_missing_is_named_and_not_made() {
    let home = Home::new();
    let path = home.folder().join("missing").join("test.db");
    let error = refusal(&path);
    assert!(
        error.to_string().contains(&format!(
            "its folder does not exist: make {} first",
            path.parent().unwrap().display()
        )),
        "{error}"
    );
    assert!(!path.parent().unwrap().exists());
}

#[test]
fn a_file_of_another_kind_is_not_touched() {
    let home = Home::new();
    let garbage = b"The quick brown fox jumps over the lazy dog. ".repeat(200);
    for content in [&garbage[..], &garbage[..20], &garbage[..600]] {
        fs::write(home.file(), content).unwrap();
        let error = refusal(home.file());
        assert!(matches!(error, OpenError::NotADatabase { .. }), "{error}");
        assert_eq!(fs::read(home.file()).unwrap(), content);
    }
}

#[test]
fn the_database_of_another_application_is_not_touched() {
    let home = Home::new();
    for (id, sql) in [
        (7, "PRAGMA application_id = 7"),
        (0, "CREATE TABLE theirs (a); PRAGMA application_id = 0"),
    ] {
        let theirs = Connection::open(home.file()).unwrap();
        theirs.execute_batch(sql).unwrap();
        drop(theirs);
        let before = fs::read(home.file()).unwrap();
        let error = refusal(home.file());
        assert!(
            matches!(error, OpenError::Foreign { application_id, .. } if application_id == id),
            "{error}"
        );
        assert_eq!(fs::read(home.file()).unwrap(), before);
    }
}

#[tokio::test]
async fn tables_of_a_newer_release_are_refused_with_both_versions() {
    let home = Home::new();
    let store = home.store();
    store.database().close().await;
    let raw = home.raw();
    raw.execute("UPDATE tower_webhook_schema SET version = 9", [])
        .unwrap();
    drop(raw);
    let error = SqliteStore::open(home.file()).unwrap_err();
    let told = error.to_string();
    assert!(
        matches!(
            error,
            OpenError::NewerSchema {
                found: 9,
                known: 1,
                ..
            }
        ),
        "{told}"
    );
    assert!(told.contains("update this program"), "{told}");
}

/// A store with some content, closed.
async fn filled(home: &Home) {
    let store = home.store();
    for id in 0..200 {
        let key = key(&id.to_string());
        let Begin::Acquired(token) = store.begin(&key, None, LEASE).await.unwrap() else {
            panic!("the key is new");
        };
        let _ = store
            .complete(&key, token, vec![7; 500].into(), LEASE)
            .await
            .unwrap();
    }
    store.database().close().await;
}

#[tokio::test]
async fn a_damaged_page_is_found() {
    let home = Home::new();
    filled(&home).await;
    let pages = fs::metadata(home.file()).unwrap().len() / 4096;
    assert!(pages > 20);
    let mut found = 0;
    for page in [1, pages / 2, pages - 1] {
        let whole = fs::read(home.file()).unwrap();
        let mut file = fs::OpenOptions::new()
            .write(true)
            .open(home.file())
            .unwrap();
        file.seek(SeekFrom::Start(page * 4096)).unwrap();
        file.write_all(&[0xA5; 4096]).unwrap();
        drop(file);
        let error = refusal(home.file());
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("backup"), "{error}");
        found += 1;
        fs::write(home.file(), whole).unwrap();
    }
    assert_eq!(found, 3);
    Database::open(home.file()).unwrap();
}

#[tokio::test]
async fn a_file_that_is_cut_off_is_found() {
    let home = Home::new();
    filled(&home).await;
    let length = fs::metadata(home.file()).unwrap().len();
    for left in [length / 2, 4096, 200] {
        let file = fs::OpenOptions::new()
            .write(true)
            .open(home.file())
            .unwrap();
        file.set_len(left).unwrap();
        let error = refusal(home.file());
        assert!(
            matches!(
                error,
                OpenError::Corrupt { .. } | OpenError::NotADatabase { .. }
            ),
            "{left} bytes: {error}"
        );
    }
}

#[test]
fn a_database_that_another_holds_is_waited_for_and_then_refused() {
    let home = Home::new();
    drop(home.database());
    for sql in ["BEGIN EXCLUSIVE", "BEGIN IMMEDIATE"] {
        let holder = home.raw();
        holder.execute_batch(sql).unwrap();
        let start = Instant::now();
        let error = refusal(home.file());
        assert!(matches!(error, OpenError::Locked { .. }), "{sql}: {error}");
        assert!(start.elapsed() >= Duration::from_millis(100), "{sql}");
        assert!(error.to_string().contains("another process"), "{error}");
        holder.execute_batch("COMMIT").unwrap();
        drop(holder);
        Database::open(home.file()).unwrap();
    }
}

#[test]
fn many_may_open_a_new_file_at_once() {
    let home = Home::new();
    let file = home.file();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| SqliteStore::open(&file).unwrap());
        }
    });
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let home = Home::new();
    let bad = [
        (
            "busy_timeout",
            Database::builder().busy_timeout(Duration::MAX),
        ),
        ("max_per_commit", Database::builder().max_per_commit(0)),
        ("max_rows", Database::builder().max_rows(0)),
        ("max_size", Database::builder().max_size(1)),
        ("max_waiting", Database::builder().max_waiting(0)),
        ("max_waiting", Database::builder().max_waiting(usize::MAX)),
    ];
    for (setting, builder) in bad {
        match builder.open(home.file()).unwrap_err() {
            OpenError::Config(invalid) => assert_eq!(invalid.setting(), setting),
            other => panic!("{other}"),
        }
    }
    assert!(!home.file().exists());
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_file_is_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let database = home.database();
    database
        .migrate("test", &["CREATE TABLE t (a INTEGER) STRICT"])
        .unwrap();
    database
        .execute(Statement::new("INSERT INTO t VALUES (1)"))
        .await
        .unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(home.folder()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        seen += 1;
    }
    assert_eq!(seen, 3, "the file, its log and the log's index");
}

/// Permission bits do not stop root, so this is tried by a child that is nobody.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_cannot_be_written_is_refused_as_read_only() {
    use crate::child::working_on;
    use std::os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    };
    let home = Home::new();
    filled(&home).await;
    let set = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    // A copy of this program where everybody may reach it.
    let public = tempfile::Builder::new()
        .prefix("program")
        .tempdir()
        .unwrap();
    set(public.path(), 0o755);
    let program = public.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    set(&program, 0o755);

    // A file; a folder that takes no new database; one that takes no log; and one that cannot be entered.
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    for (file, folder_mode, file_mode) in [
        (home.file(), 0o777, 0o444),
        (home.folder().join("new.db"), 0o555, 0o444),
        (home.file(), 0o555, 0o666),
        (home.file(), 0o000, 0o666),
    ] {
        set(home.folder(), folder_mode);
        set(&home.file(), file_mode);
        let mut command = std::process::Command::new(&program);
        command.args(["--exact", "opening::child_that_opens", "--nocapture"]);
        let mut command = working_on(&file, command);
        if is_root {
            command.uid(65534).gid(65534);
        }
        let told = command.output().unwrap().stdout;
        let told = String::from_utf8_lossy(&told);
        assert!(
            told.contains("ReadOnly"),
            "{folder_mode:o}, {file_mode:o}: {told}"
        );
        assert!(told.contains("cannot be written"), "{told}");
        let folder = format!("its folder {}", home.folder().display());
        assert!(told.contains(&folder), "{told}");
    }
    // A file of another user, as the database makes it.
    set(home.folder(), 0o777);
    set(&home.file(), 0o600);
    if is_root {
        let mut command = std::process::Command::new(&program);
        command.args(["--exact", "opening::child_that_opens", "--nocapture"]);
        let mut command = working_on(&home.file(), command);
        let told = command.uid(65534).gid(65534).output().unwrap().stdout;
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains("right to read and write the file"), "{told}");
    }
    set(home.folder(), 0o755);
}

#[test]
fn child_that_opens() {
    if let Some(file) = childs_file() {
        match Database::open(file) {
            Ok(_) => println!("opened"),
            Err(error) => println!(
                "{error:?}\n{error}\n{:?}",
                error.source().map(ToString::to_string)
            ),
        }
    }
}

#[test]
fn a_child_can_be_made() {
    let home = Home::new();
    let output = child("opening::child_that_opens", &home.file())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("opened"));
}
