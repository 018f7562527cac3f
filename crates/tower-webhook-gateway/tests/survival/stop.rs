//! SIGTERM under load: the orderly end is in time, and releases the jobs that run.

use crate::{
    downstream::{Downstream, Mood},
    judge::{Trouble, ends_agree, judge, settle},
    kill::{STALL, WELL},
    load::{Load, Settings},
    now,
    place::Place,
    random, rounds,
};
use std::{
    thread,
    time::{Duration, Instant},
};

const SLOW: Mood = Mood {
    unavailable: 0.1,
    hung: 0.02,
    slow: Duration::from_millis(300),
    ..WELL
};

/// A released job is delivered after the next start without waiting for a lease.
const PROMPT: Duration = Duration::from_secs(20);

#[test]
fn asked_to_stop_under_load_it_ends_in_time_and_the_next_start_delivers_what_ran() {
    let mut random = random("stops");
    let downstream = Downstream::start(random.u64(..), SLOW, true);
    let place = Place::new(&downstream.url());
    let settings = Settings {
        senders: 4,
        pause: Duration::from_millis(25),
        ..place.settings()
    };
    let load = Load::start(settings, &place.ledger());
    let mut stops = Vec::new();
    let rounds = rounds(3, 20);
    for _ in 0..rounds {
        let mut server = place.start();
        thread::sleep(Duration::from_millis(random.u64(500..2500)));
        let from = now();
        let status = server.terminate(Duration::from_secs(10));
        assert_eq!(status.code(), Some(0));
        // An answer that was on its way when it was asked to stop.
        let grace = Duration::from_millis(100);
        let to = now();
        stops.push(Trouble { from, to, grace });
    }
    downstream.mood(WELL);
    let server = place.start();
    let started = Instant::now();
    let lines = load.finish();
    let entries = settle(&server, &downstream, &lines, STALL);
    let took = started.elapsed();
    let arrivals = downstream.arrivals();
    let what = format!("{rounds} stops, all delivered {took:.1?} after the last start");
    let counts = judge(&what, &lines, &arrivals, &entries, &stops, true);
    ends_agree(&place, &lines, &entries);
    assert!(counts.accepted > 100, "too few to prove anything");
    assert!(took < PROMPT, "{took:?} for released jobs");
}
