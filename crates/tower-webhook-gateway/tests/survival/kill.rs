//! `kill -9`, at moments that nobody chose.

use crate::{
    downstream::{Downstream, Mood},
    eventually, foreign,
    judge::{Trouble, accepted, ends_agree, judge, settle, wait_for},
    load::{Line, Load, Seen, Settings},
    now,
    place::Place,
    random, rounds, tell,
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Some of everything, and poison.
pub const BAD: Mood = Mood {
    unavailable: 0.2,
    rejected: 0.01,
    hung: 0.005,
    reset: 0.02,
    slow: Duration::ZERO,
    poisoned: true,
};

/// Takes everything but the poison.
pub const WELL: Mood = Mood {
    unavailable: 0.0,
    rejected: 0.0,
    hung: 0.0,
    reset: 0.0,
    slow: Duration::ZERO,
    poisoned: true,
};

/// Longer than the longest lease: what a killed gateway had claimed is free after it.
pub const STALL: Duration = Duration::from_secs(120);

/// Lines of the sender that are worth a judgement.
const ENOUGH: usize = 2000;

#[test]
fn killed_at_random_moments_under_load_it_loses_nothing_and_repeats_nothing_that_it_recorded() {
    let mut random = random("kills");
    let downstream = Downstream::start(random.u64(..), BAD, true);
    let place = Place::new(&downstream.url());
    let load = Load::start(place.settings(), &place.ledger());
    let mut kills = Vec::new();
    // Every fifth has two.
    let rounds = rounds(10, 834);
    // More where the machine is busy with something else.
    let few = || load.so_far().len() < ENOUGH;
    for round in (0..).take_while(|round| *round < rounds || (*round < 4 * rounds && few())) {
        if round % 5 == 4 {
            // Before it listens, too.
            let mut early = place.command();
            early.stdout(std::process::Stdio::null());
            early.stderr(std::process::Stdio::null());
            let mut early = early.spawn().expect("it starts");
            thread::sleep(Duration::from_millis(random.u64(0..150)));
            kills.push(killed(|| early.kill().expect("it runs")));
            early.wait().expect("it ends");
        }
        let mut server = place.start();
        let alive = match round % 5 {
            // Just after a start it takes up what the last one left.
            0 | 3 => random.u64(0..60),
            // Long enough that most of what was delivered must have been recorded by then.
            2 => random.u64(2000..3500),
            _ => random.u64(0..1200),
        };
        thread::sleep(Duration::from_millis(alive));
        kills.push(killed(|| server.kill()));
    }
    downstream.mood(WELL);
    let server = place.start();
    let lines = load.finish();
    let entries = settle(&server, &downstream, &lines, STALL);
    let arrivals = downstream.arrivals();
    let what = format!("{} kills", kills.len());
    let counts = judge(&what, &lines, &arrivals, &entries, &kills, true);
    ends_agree(&place, &lines, &entries);
    assert!(counts.accepted > ENOUGH / 4, "too few to prove anything");
    assert!(counts.broken > 0, "no kill met a request");
}

/// A process that is known to be gone is not waited for, and what it left is no retry against the downstream.
#[test]
fn what_a_kill_left_is_delivered_at_once_by_the_next_start() {
    let hangs = Mood {
        hung: 1.0,
        ..Mood::default()
    };
    let downstream = Downstream::start(0, hangs, true);
    let place = Place::new(&downstream.url());
    let mut server = place.start();
    let settings = Settings {
        pause: Duration::ZERO,
        most: 500,
        ..place.settings()
    };
    let load = Load::start(settings, &place.ledger());
    let is_accepted = |line: &Line| matches!(line.what, Seen::Accepted { .. });
    wait_for(&load, "all are accepted", STALL, 500, is_accepted);
    server.kill();
    let accepted = accepted(&load.so_far());
    drop(load);
    // A lease that does not end in this test.
    let path = place.database();
    let longer = "UPDATE tower_webhook_jobs SET at = at + 600000 WHERE state = 2; SELECT changes()";
    let held = foreign::run("sqlite3", &[path.to_str().expect("text"), longer], b"");
    let held: usize = held.trim().parse().expect("a number");
    assert!(held > 0, "it was killed too late");
    downstream.mood(Mood::default());
    let began = Instant::now();
    let _server = place.start();
    let within = Duration::from_secs(20);
    eventually("all are delivered", within, || {
        let open = |event: &u64| downstream.taken(*event) == 0;
        (!accepted.iter().any(open)).then_some(())
    });
    tell(&format!(
        "{} left by a kill, {held} of them claimed: delivered after {:?}",
        accepted.len(),
        began.elapsed()
    ));
}

/// A kill, and when it was.
pub fn killed(kill: impl FnOnce()) -> Trouble {
    let from = now();
    kill();
    Trouble {
        from,
        to: now(),
        grace: Trouble::KILL,
    }
}
