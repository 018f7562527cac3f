//! The power is lost: of what was not flushed, any part may be gone. What was answered is not.
//!
//! The gateway is killed, and what its file system had not been told to flush is undone: all of it, or of each sector
//! of 512 bytes a version by chance, as a disk that writes in any order leaves it. The bytes to undo are kept by
//! `shim.c`. New and removed files are not undone.

use crate::{
    downstream::{Downstream, Mood},
    foreign,
    judge::{ends_agree, judge, settle, wait_for},
    kill::{BAD, STALL, WELL, killed},
    load::{Line, Load, Seen},
    place::Place,
    random, rounds, tell,
    trouble::shimmed,
};
use std::{
    collections::HashMap,
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

const SECTOR: u64 = 512;

/// What one write replaced.
struct Kept {
    path: PathBuf,
    at: u64,
    span: u64,
    /// The size of the file.
    size: u64,
    /// Shorter than the span where the file ended.
    bytes: Vec<u8>,
}

impl Kept {
    /// What a file has kept since it was flushed, in the order of the writes.
    fn read(mut records: &[u8]) -> Vec<Self> {
        let mut all = Vec::new();
        // A kill may have cut the last one, whose write was not begun then.
        while let Some((head, rest)) = records.split_at_checked(32) {
            let long = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().expect("eight"));
            let short = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four"));
            let (span, bytes, path) = (short(16), short(20), short(24));
            let Some((path, rest)) = rest.split_at_checked(path as usize) else {
                break;
            };
            let Some((bytes, rest)) = rest.split_at_checked(bytes as usize) else {
                break;
            };
            all.push(Self {
                path: PathBuf::from(std::str::from_utf8(path).expect("a path of ours")),
                at: long(0),
                span: span.into(),
                size: long(8),
                bytes: bytes.to_vec(),
            });
            records = rest;
        }
        all
    }

    const fn sectors(&self) -> std::ops::Range<u64> {
        self.at / SECTOR..(self.at + self.span).div_ceil(SECTOR)
    }

    /// Undoes the write in one sector.
    fn undo(&self, file: &File, sector: u64) {
        let from = self.at.max(sector * SECTOR);
        let to = (self.at + self.span).min((sector + 1) * SECTOR);
        let mut bytes = vec![0; usize::try_from(to - from).expect("a sector")];
        let skip = usize::try_from(from - self.at).expect("a write");
        let old = self.bytes.get(skip..).unwrap_or_default();
        let old = &old[..old.len().min(bytes.len())];
        bytes[..old.len()].copy_from_slice(old);
        file.write_all_at(&bytes, from).expect("it is ours");
    }
}

/// Undoes what was not flushed: all of it, or without `all` of each sector any number of its last writes. The number of
/// writes that were not flushed.
fn lose(unsynced: &Path, all: bool, random: &mut fastrand::Rng) -> usize {
    let mut lost = 0;
    for kept in fs::read_dir(unsynced).expect("a folder") {
        let kept = kept.expect("a file");
        let mut records = Kept::read(&fs::read(kept.path()).expect("it is ours"));
        fs::remove_file(kept.path()).expect("it is ours");
        let Some(path) = records.last().map(|record| record.path.clone()) else {
            continue;
        };
        // The number may have been that of a file which was removed.
        records.retain(|record| record.path == path);
        let file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        let meta = file.metadata().expect("it is open");
        if kept.file_name().to_str() != Some(&meta.ino().to_string()) {
            continue;
        }
        lost += records.len();
        let mut of_sector: HashMap<u64, usize> = HashMap::new();
        for sector in records.iter().flat_map(Kept::sectors) {
            *of_sector.entry(sector).or_default() += 1;
        }
        let mut undone: HashMap<u64, usize> = of_sector
            .into_iter()
            .map(|(sector, writes)| {
                (
                    sector,
                    if all {
                        writes
                    } else {
                        random.usize(0..=writes)
                    },
                )
            })
            .collect();
        for record in records.iter().rev() {
            for sector in record.sectors() {
                let left = undone.get_mut(&sector).expect("counted");
                if *left > 0 {
                    *left -= 1;
                    record.undo(&file, sector);
                }
            }
        }
        let mut sizes: Vec<u64> = records.iter().map(|record| record.size).collect();
        sizes.push(meta.len());
        let size = if all { 0 } else { random.usize(0..sizes.len()) };
        let size = sizes[size];
        file.set_len(size).expect("it is ours");
    }
    lost
}

/// A place whose gateway keeps what it has not flushed, and the folder with that.
fn unsynced(downstream: &Downstream) -> (Place, PathBuf, PathBuf) {
    let (place, troubles) = shimmed(downstream);
    let unsynced = place.folder().join("unsynced");
    fs::create_dir(&unsynced).expect("a folder");
    let place = place.with("UNSYNCED", &unsynced);
    (place, troubles, unsynced)
}

/// What is in memory alone, but shared with other programs by the name of a file.
fn forget_memory(place: &Place) {
    match fs::remove_file(place.database().with_extension("db-shm")) {
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
}

/// Loses power again and again under load, and judges. The place is changed first.
fn outlives(what: &str, with: impl FnOnce(Place) -> Place) {
    let mut random = random(what);
    let downstream = Downstream::start(random.u64(..), BAD, true);
    let (place, troubles, unsynced) = unsynced(&downstream);
    let place = with(place);
    let slow = troubles.join("slow");
    let load = Load::start(place.settings(), &place.ledger());
    let (mut kills, mut lost) = (Vec::new(), 0);
    for round in 0..rounds(6, 60) {
        let mut server = place.start();
        thread::sleep(Duration::from_millis(random.u64(100..1500)));
        // A flush that takes long leaves more that is not flushed.
        let is_slow = round % 3 == 2;
        if is_slow {
            fs::write(&slow, "").expect("a file");
            thread::sleep(Duration::from_millis(random.u64(0..500)));
        }
        let mut kill = killed(|| server.kill());
        if is_slow {
            fs::remove_file(&slow).expect("it is there");
            // A record waits for several flushes.
            kill.grace *= 3;
        }
        kills.push(kill);
        lost += lose(&unsynced, round % 2 == 0, &mut random);
        forget_memory(&place);
    }
    downstream.mood(WELL);
    let server = place.start();
    let lines = load.finish();
    let entries = settle(&server, &downstream, &lines, STALL);
    let what = format!("{what}: {} times, {lost} writes undone", kills.len());
    let arrivals = downstream.arrivals();
    let counts = judge(&what, &lines, &arrivals, &entries, &kills, true);
    ends_agree(&place, &lines, &entries);
    assert!(counts.accepted > 200, "too few to prove anything");
    assert!(lost > 0, "nothing was undone");
    let database = place.database();
    let database = database.to_str().expect("text");
    let checked = foreign::run("sqlite3", &[database, "PRAGMA integrity_check"], b"");
    assert_eq!(checked.trim(), "ok");
}

#[test]
fn what_was_answered_outlives_losses_of_power_under_load() {
    outlives("power lost", |place| place);
}

#[test]
fn a_file_of_dead_letters_outlives_losses_of_power_under_load() {
    outlives("power lost, dead letters in a file", |place| {
        let file = place.folder().join("dead-letters.jsonl");
        place.with("GATEWAY_DEAD_LETTERS", format!("jsonl:{}", file.display()))
    });
}

/// That the tests above can fail.
#[test]
fn a_disk_that_does_not_flush_loses_what_was_answered() {
    let downstream = Downstream::start(0, Mood::default(), true);
    let (place, troubles, unsynced) = unsynced(&downstream);
    fs::write(troubles.join("lies"), "").expect("a file");
    let mut server = place.start();
    let load = Load::start(place.settings(), &place.ledger());
    let accepted = |line: &Line| matches!(line.what, Seen::Accepted { .. });
    wait_for(&load, "events are accepted", STALL, 50, accepted);
    server.kill();
    drop(load);
    let kept = fs::metadata(place.database()).expect("it is there").len();
    let lost = lose(&unsynced, true, &mut fastrand::Rng::new());
    tell(&format!("a disk that lies: {lost} writes undone"));
    assert!(kept > 0);
    assert_eq!(
        fs::metadata(place.database()).expect("it is there").len(),
        0
    );
}
