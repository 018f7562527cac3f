//! Killed while an operator has dead letters sent again: an entry is there until it is delivered.

use crate::{
    downstream::{Downstream, Mood},
    judge::{accepted, judge, settle},
    kill::{STALL, WELL, killed},
    load::{Load, Settings},
    place::{Place, TOKEN, operate},
    process::Server,
    random, rounds,
};
use serde_json::json;
use std::{
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const ENTRIES: u64 = 120;

/// Slow enough that a kill meets entries on their way.
const SLOW: Mood = Mood {
    slow: Duration::from_millis(30),
    poisoned: false,
    ..WELL
};

const REFUSING: Mood = Mood {
    rejected: 1.0,
    poisoned: false,
    ..WELL
};

/// An operator who does not wait for the answer: the gateway may be killed before it.
fn press(server: &Server) -> Child {
    Command::new("curl")
        .args(["-sS", "--max-time", "10", "-X", "POST", "-d", "{}"])
        .args(["-H", &format!("authorization: Bearer {TOKEN}")])
        .args(["-H", "content-type: application/json"])
        .arg(server.url("/dead-letters/redrive"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("curl is installed by ./tests/run")
}

#[test]
fn killed_while_entries_are_sent_again_none_is_lost_and_two_operators_send_each_once() {
    let mut random = random("re-drives");
    let downstream = Downstream::start(random.u64(..), REFUSING, true);
    let place = Place::new(&downstream.url());
    let mut server = place.start();
    let settings = Settings {
        most: ENTRIES,
        ..place.settings()
    };
    let load = Load::start(settings, &place.ledger());
    crate::eventually("all are accepted", STALL, || {
        let all = accepted(&load.so_far()).len();
        (all == usize::try_from(ENTRIES).unwrap()).then_some(())
    });
    let lines = load.finish();
    let all = accepted(&lines);
    let whole = || Place::entries(&server).len() == all.len();
    crate::eventually("all are dead letters", STALL, || whole().then_some(()));

    downstream.mood(SLOW);
    let mut kills = Vec::new();
    for _ in 0..rounds(3, 8) {
        let mut operators = [press(&server), press(&server)];
        thread::sleep(Duration::from_millis(random.u64(0..1200)));
        kills.push(killed(|| server.kill()));
        for operator in &mut operators {
            operator.wait().expect("it ends");
        }
        server = place.start();
        let entries = Place::entries(&server);
        for event in &all {
            assert!(
                entries.contains_key(event) || downstream.taken(*event) > 0,
                "{event} is lost"
            );
        }
    }
    // What the killed runs had claimed is free after a while.
    let until = Instant::now() + STALL;
    loop {
        let pressed = operate(&server, "POST", "/dead-letters/redrive", Some(&json!({})));
        assert_eq!(pressed.status, 202, "{pressed:?}");
        thread::sleep(Duration::from_secs(3));
        let left = Place::entries(&server).len();
        if left == 0 {
            break;
        }
        assert!(Instant::now() < until, "{left} entries are left");
    }
    let entries = settle(&server, &downstream, &lines, STALL);
    let what = format!("{} kills during re-drives", kills.len());
    let arrivals = downstream.arrivals();
    let counts = judge(&what, &lines, &arrivals, &entries, &kills, false);
    assert_eq!(counts.delivered, all.len());
}
