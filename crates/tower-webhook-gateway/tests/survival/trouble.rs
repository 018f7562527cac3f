//! The disk: full, read-only, held by another program, slow. What was accepted stays accepted and is
//! delivered, what cannot be accepted is told so, and it passes without a restart.
//!
//! Each kind of trouble has a way that needs no privilege and always runs.

use crate::{
    downstream::{Downstream, Mood},
    foreign::{self, curl},
    holder::Holder,
    judge::{Trouble, judge, settle, wait_for},
    kill::{STALL, WELL, killed},
    load::{Line, Load, Seen},
    nanos, now,
    place::Place,
    process::Server,
    random, tell,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// Some deliveries fail, so that ends of more than one kind have to be recorded.
const FAIR: Mood = Mood {
    unavailable: 0.1,
    ..WELL
};

/// How long it may take until a trouble is noticed, and until it is over.
const NOTICED: Duration = Duration::from_secs(40);
const RECOVERED: Duration = Duration::from_secs(40);

fn accepted(line: &Line) -> bool {
    matches!(line.what, Seen::Accepted { known: false, .. })
}

fn refused(line: &Line) -> bool {
    matches!(line.what, Seen::Refused { status: 503, .. })
}

/// Load, then trouble until senders are refused, then none: the same process goes on.
fn passes<T>(
    what: &str,
    place: &Place,
    downstream: &Downstream,
    begin: impl FnOnce(&Server) -> T,
    end: impl FnOnce(&Server, T),
) {
    let mut server = place.start();
    let load = Load::start(place.settings(), &place.ledger());
    wait_for(&load, "events are accepted", NOTICED, 300, accepted);
    let from = now();
    let trouble = begin(&server);
    let met = |line: &Line| line.at > from && refused(line);
    wait_for(&load, "senders are told", NOTICED, 30, met);
    // It answers all the while.
    let health = curl(&server.url("/health"), &[], None, &["--max-time", "10"]);
    assert!(matches!(health.status, 200 | 503), "{health:?}");
    end(&server, trouble);
    let over = now();
    let again = |line: &Line| line.at > over && accepted(line);
    wait_for(&load, "events are accepted again", RECOVERED, 300, again);
    let to = now();

    let lines = load.finish();
    let entries = settle(&server, downstream, &lines, STALL);
    // What was taken in the meantime may have to be delivered again, when that could not be
    // recorded in the time of a lease.
    let grace = Duration::from_millis(500);
    let troubles = [Trouble { from, to, grace }];
    let arrivals = downstream.arrivals();
    let counts = judge(what, &lines, &arrivals, &entries, &troubles, true);
    assert!(counts.refused >= 30, "{counts}");
    assert_eq!(server.terminate(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn a_limit_on_the_size_of_files_is_told_to_senders_and_passes() {
    let downstream = Downstream::start(random("limit").u64(..), FAIR, true);
    let place = Place::new(&downstream.url());
    let limit = |server: &Server, limit: &str| {
        let process = server.id().to_string();
        foreign::run("prlimit", &[limit, "--pid", &process], b"");
    };
    passes(
        "a limit on files",
        &place,
        &downstream,
        |server| limit(server, "--fsize=4096:"),
        |server, ()| limit(server, "--fsize=unlimited:"),
    );
}

#[test]
fn a_full_disk_is_told_to_senders_and_passes_once_there_is_room() {
    if !may_mount() {
        // The limit on files, above, is the same to the gateway: writes that fail. But tests/run says of this
        // line that this test has not passed.
        tell("NOT CHECKED: test of a full disk: no mounts in namespaces here");
        return;
    }
    let downstream = Downstream::start(random("disk").u64(..), FAIR, true);
    // A small disk of its own, which nobody else sees, and which ends with it.
    let small = r#"mount -t tmpfs -o size=24m tmpfs "$TEST_DISK" && exec "$0" "$@""#;
    let place = Place::new(&downstream.url()).started_by(&["unshare", "-rm", "sh", "-c", small]);
    let folder = place.folder().to_owned();
    let place = place.with("TEST_DISK", &folder);
    let filler = |server: &Server| inside(server, &folder).join("filler");
    passes(
        "a full disk",
        &place,
        &downstream,
        |server| {
            let path = filler(server);
            // To the last byte, while the gateway writes too.
            let full = Command::new("sh")
                .args(["-c", r#"exec cat /dev/zero > "$0""#])
                .arg(&path)
                .stderr(Stdio::null())
                .status();
            assert!(!full.expect("sh runs").success(), "the disk has no end");
        },
        |server, ()| fs::remove_file(filler(server)).expect("the filler goes"),
    );
}

/// A folder as a process sees it.
fn inside(server: &Server, folder: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", server.id()));
    root.join(folder.strip_prefix("/").expect("absolute"))
}

/// Whether this user may have mounts of its own.
fn may_mount() -> bool {
    let script = "mount -t tmpfs -o size=1m tmpfs /mnt";
    let tried = Command::new("unshare")
        .args(["-rm", "sh", "-c", script])
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

/// The shim between the gateway and its disk, compiled into `folder`.
fn shim(folder: &Path) -> PathBuf {
    let shim = folder.join("shim.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/survival/shim.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&shim, &source])
        .arg("-ldl")
        .status();
    assert!(
        compiled
            .as_ref()
            .is_ok_and(std::process::ExitStatus::success),
        "a C compiler is needed, as for SQLite itself (apt-get install gcc libc6-dev): {compiled:?}"
    );
    shim
}

/// A place whose gateway has the shim, and the folder that it looks into.
pub fn shimmed(downstream: &Downstream) -> (Place, PathBuf) {
    let place = Place::new(&downstream.url());
    let troubles = place.folder().join("troubles");
    fs::create_dir(&troubles).expect("a folder");
    let shim = shim(place.folder());
    let place = place.with("LD_PRELOAD", shim).with("TROUBLE", &troubles);
    (place, troubles)
}

#[test]
fn a_file_system_that_turns_read_only_is_told_to_senders_and_passes() {
    let downstream = Downstream::start(random("read-only").u64(..), FAIR, true);
    let (place, troubles) = shimmed(&downstream);
    let switch = troubles.join("readonly");
    passes(
        "read-only",
        &place,
        &downstream,
        |_| fs::write(&switch, "").expect("a file"),
        |_, ()| fs::remove_file(&switch).expect("it is there"),
    );
}

#[test]
fn a_database_that_another_program_holds_is_told_to_senders_and_passes() {
    let downstream = Downstream::start(random("held").u64(..), FAIR, true);
    let place = Place::new(&downstream.url());
    passes(
        "held by another program",
        &place,
        &downstream,
        |_| Holder::start(&place.database()),
        |_, mut holder| holder.release(),
    );
}

#[test]
fn with_a_slow_disk_every_answer_waits_for_it_and_a_kill_still_loses_nothing() {
    const FLUSH: Duration = Duration::from_millis(200);
    let downstream = Downstream::start(random("slow").u64(..), FAIR, true);
    let (place, troubles) = shimmed(&downstream);
    let mut server = place.start();
    let load = Load::start(place.settings(), &place.ledger());
    wait_for(&load, "events are accepted", NOTICED, 100, accepted);
    fs::write(troubles.join("slow"), "").expect("a file");
    let from = now();
    let slowly = |line: &Line| line.at > from && accepted(line);
    wait_for(&load, "events are accepted", NOTICED, 100, slowly);
    thread::sleep(Duration::from_millis(fastrand::u64(0..400)));
    let kill = killed(|| server.kill());
    fs::remove_file(troubles.join("slow")).expect("it is there");

    let server = place.start();
    let lines = load.finish();
    let mut waits: Vec<Duration> = Vec::new();
    for line in &lines {
        // Sent after the disk had become slow, answered while it was.
        if let Seen::Accepted { known: false, took } = line.what
            && line.at - nanos(took) > from
            && line.at < kill.from
        {
            waits.push(took);
        }
    }
    waits.sort_unstable();
    let (least, middle) = (waits[0], waits[waits.len() / 2]);
    tell(&format!(
        "a slow disk: {} accepted meanwhile, least wait {least:.0?}, median {middle:.0?}",
        waits.len()
    ));
    assert!(
        least >= FLUSH,
        "{least:?}: answered before it was on the disk"
    );
    let entries = settle(&server, &downstream, &lines, STALL);
    let arrivals = downstream.arrivals();
    // A record takes as long as the disk: the grace of the kill is ten flushes.
    judge("a slow disk", &lines, &arrivals, &entries, &[kill], true);
}
