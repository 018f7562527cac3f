//! What became of the events, and whether it keeps the contract.

use crate::{
    downstream::{Answer, Arrival, Downstream, Poison, poison},
    eventually, foreign,
    load::{Line, Seen, id},
    nanos,
    place::{Entry, Place},
    process::Server,
    tell,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    time::{Duration, Instant},
};

/// A time in which the gateway was killed, stopped or kept from writing.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    pub from: u64,
    pub to: u64,
    /// An answer that came so shortly before may not have been recorded.
    pub grace: Duration,
}

impl Trouble {
    /// Killed: what was answered in the last moments may not have been recorded.
    pub const KILL: Duration = Duration::from_secs(1);

    /// Whether it may be the reason that an event which was taken at `taken` came again at `again`.
    fn explains(&self, taken: u64, again: u64) -> bool {
        // Answers that cross the end of the gateway reach nobody.
        const CROSSING: u64 = 200_000_000;
        let since = self.from.saturating_sub(nanos(self.grace));
        (since..=self.to + CROSSING).contains(&taken) && again >= self.from
    }
}

/// The counts of a run.
#[derive(Debug, Default)]
pub struct Counts {
    pub accepted: usize,
    pub delivered: usize,
    pub dead_lettered: usize,
    pub both: usize,
    pub repeated: usize,
    /// How long before the gateway's end the earliest of them was taken that was repeated after it.
    pub unrecorded: Duration,
    pub lost: usize,
    pub refused: usize,
    pub busy: usize,
    pub broken: usize,
    pub resent: usize,
    pub reasons: BTreeMap<String, usize>,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            accepted,
            delivered,
            dead_lettered,
            both,
            repeated,
            unrecorded,
            lost,
            refused,
            busy,
            broken,
            resent,
            reasons,
        } = self;
        write!(
            f,
            "accepted {accepted}, delivered {delivered}, dead-lettered {dead_lettered} {reasons:?}, \
             both {both}, repeated {repeated} (taken at most {unrecorded:.0?} before), \
             lost {lost}; requests refused {refused}, \
             told that they run already {busy}, cut off {broken}, sent again after 200 {resent}"
        )
    }
}

/// The events that the sender was told are accepted.
pub fn accepted(lines: &[Line]) -> HashSet<u64> {
    let told = lines
        .iter()
        .filter(|line| matches!(line.what, Seen::Accepted { .. }));
    told.map(|line| line.event).collect()
}

/// Waits until every accepted event is delivered or dead-lettered; what then is neither is lost.
/// It waits as long as things move, and for `stall` without a move.
pub fn settle(
    server: &Server,
    downstream: &Downstream,
    lines: &[Line],
    stall: Duration,
) -> HashMap<u64, Entry> {
    let accepted = accepted(lines);
    let open = |entries: &HashMap<u64, Entry>| {
        let open = accepted
            .iter()
            .filter(|event| downstream.taken(**event) == 0 && !entries.contains_key(event));
        open.count()
    };
    let mut moved = Instant::now();
    let mut last = usize::MAX;
    loop {
        let entries = Place::entries(server);
        let left = open(&entries);
        if left == 0 || moved.elapsed() > stall {
            // One more look: what is delivered again now, against the contract, is late but counts.
            std::thread::sleep(Duration::from_secs(1));
            return Place::entries(server);
        }
        if left < last {
            (last, moved) = (left, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Holds what was seen against the contract. Tells the counts first, so that they are there when it
/// fails.
pub fn judge(
    what: &str,
    lines: &[Line],
    arrivals: &[Arrival],
    entries: &HashMap<u64, Entry>,
    troubles: &[Trouble],
    poisoned: bool,
) -> Counts {
    let (counts, mut wrong) = weigh(lines, arrivals, entries, troubles, poisoned);
    tell(&format!("{what}: {counts}"));
    wrong.truncate(30);
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
    counts
}

/// The counts, and what is against the contract.
fn weigh(
    lines: &[Line],
    arrivals: &[Arrival],
    entries: &HashMap<u64, Entry>,
    troubles: &[Trouble],
    poisoned: bool,
) -> (Counts, Vec<String>) {
    let accepted = accepted(lines);
    let taken: HashSet<u64> = arrivals
        .iter()
        .filter(|arrival| arrival.answer == Answer::Taken)
        .map(|arrival| arrival.event)
        .collect();
    let mut wrong = senders(lines);
    wrong.extend(repeats(arrivals, troubles));
    wrong.extend(after_recorded(lines, arrivals));

    let neither = |event: &&u64| !taken.contains(event) && !entries.contains_key(event);
    let mut lost: Vec<_> = accepted.iter().filter(neither).copied().collect();
    lost.sort_unstable();
    for event in lost.iter().take(20) {
        let came = arrivals.iter().filter(|arrival| arrival.event == *event);
        let came: Vec<_> = came.map(|arrival| arrival.answer).collect();
        wrong.push(format!("{} is lost; it came {came:?}", id(*event)));
    }
    wrong.extend(dead(entries, arrivals, &accepted, poisoned));
    wrong.extend(both(entries, arrivals, troubles));

    let mut times: HashMap<u64, usize> = HashMap::new();
    for arrival in arrivals.iter().filter(|it| it.answer == Answer::Taken) {
        *times.entry(arrival.event).or_default() += 1;
    }
    let count = |is: fn(&Seen) -> bool| lines.iter().filter(|line| is(&line.what)).count();
    let mut counts = Counts {
        accepted: accepted.len(),
        delivered: accepted.intersection(&taken).count(),
        dead_lettered: entries.len(),
        both: entries.keys().filter(|event| taken.contains(event)).count(),
        repeated: times.values().filter(|times| **times > 1).count(),
        unrecorded: unrecorded(arrivals, troubles),
        lost: lost.len(),
        refused: count(|seen| matches!(seen, Seen::Refused { status: 503, .. })),
        busy: count(|seen| matches!(seen, Seen::Refused { status: 409, .. })),
        broken: count(|seen| matches!(seen, Seen::Broken)),
        resent: count(|seen| matches!(seen, Seen::Repeated { .. })),
        reasons: BTreeMap::new(),
    };
    for entry in entries.values() {
        *counts.reasons.entry(entry.reason.clone()).or_default() += 1;
    }
    (counts, wrong)
}

/// What senders were told must hold together.
fn senders(lines: &[Line]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut uncertain = HashSet::new();
    for line in lines {
        let event = id(line.event);
        match line.what {
            Seen::Broken => {
                uncertain.insert(line.event);
            }
            Seen::Refused { status, hint } => {
                uncertain.insert(line.event);
                if !matches!(status, 409 | 503) || !hint {
                    wrong.push(format!("{event} was refused: {status}, Retry-After {hint}"));
                }
            }
            Seen::Accepted { known: true, .. } if !uncertain.contains(&line.event) => {
                wrong.push(format!("{event} was called a duplicate when it was new"));
            }
            Seen::Repeated { known: false } => {
                wrong.push(format!("{event} had been accepted and was accepted anew"));
            }
            Seen::Unknown => wrong.push(format!("the task of {event} is unknown")),
            _ => {}
        }
    }
    wrong
}

/// After an answer that took it, an event comes again only where that answer may not have been
/// recorded.
fn repeats(arrivals: &[Arrival], troubles: &[Trouble]) -> Vec<String> {
    let mut taken: HashMap<u64, u64> = HashMap::new();
    let mut wrong = Vec::new();
    for arrival in arrivals {
        if let Some(at) = taken.get(&arrival.event) {
            let explained = troubles
                .iter()
                .any(|trouble| trouble.explains(*at, arrival.at));
            if !explained {
                let later = Duration::from_nanos(arrival.at.saturating_sub(*at));
                let event = id(arrival.event);
                wrong.push(format!("{event} came again {later:?} after it was taken"));
            }
        }
        if arrival.answer == Answer::Taken {
            // The latest one is what a later kill may have kept from being recorded.
            taken.insert(arrival.event, arrival.answered);
        }
    }
    wrong
}

/// How long before a trouble the earliest event was taken that came again after it.
fn unrecorded(arrivals: &[Arrival], troubles: &[Trouble]) -> Duration {
    let mut taken: HashMap<u64, u64> = HashMap::new();
    let mut longest = 0;
    for arrival in arrivals {
        if let Some(at) = taken.get(&arrival.event) {
            // The first trouble after it was taken.
            let ends = troubles.iter().map(|trouble| trouble.from);
            let end = ends.filter(|from| from >= at && *from <= arrival.at).min();
            longest = longest.max(end.map_or(0, |end| end - at));
        }
        if arrival.answer == Answer::Taken {
            taken.insert(arrival.event, arrival.answered);
        }
    }
    Duration::from_nanos(longest)
}

/// Once its status says that it is delivered, an event never comes again, whatever happens.
fn after_recorded(lines: &[Line], arrivals: &[Arrival]) -> Vec<String> {
    let recorded = lines.iter().filter(|line| line.what == Seen::Delivered);
    let recorded: HashMap<u64, u64> = recorded.map(|line| (line.event, line.at)).collect();
    let again = arrivals.iter().filter(|arrival| {
        let since = recorded.get(&arrival.event);
        since.is_some_and(|since| arrival.at > *since)
    });
    again
        .map(|arrival| {
            format!(
                "{} came again after its status said delivered",
                id(arrival.event)
            )
        })
        .collect()
}

/// What our own side held back is no failure of the event.
const HELD_BACK: [&str; 4] = ["budget", "circuit_open", "not_ready", "refused"];

/// An entry is of an event that the downstream did not take, and poison is always an entry.
fn dead(
    entries: &HashMap<u64, Entry>,
    arrivals: &[Arrival],
    accepted: &HashSet<u64>,
    poisoned: bool,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let failed: HashSet<u64> = arrivals
        .iter()
        .filter(|arrival| arrival.answer != Answer::Taken)
        .map(|arrival| arrival.event)
        .collect();
    for (event, entry) in entries {
        if HELD_BACK.contains(&entry.reason.as_str()) {
            wrong.push(format!("{} is dead for {}", id(*event), entry.reason));
        }
        if !failed.contains(event) && entry.reason != "worker_lost" {
            wrong.push(format!("{} is dead and never failed", id(*event)));
        }
    }
    for event in accepted.iter().filter(|_| poisoned) {
        let reasons: &[&str] = match poison(*event) {
            None => continue,
            // Whoever handled it may also have died with it as often as is allowed.
            Some(Poison::Rejected) => &["rejected", "worker_lost"],
            Some(Poison::Failing) => &["retries_exhausted", "worker_lost"],
        };
        match entries.get(event) {
            Some(entry) if reasons.contains(&entry.reason.as_str()) => {}
            other => wrong.push(format!("{} is poison, and is {other:?}", id(*event))),
        }
    }
    wrong
}

/// An event that was taken is dead only where the answer that took it may not have been recorded.
fn both(entries: &HashMap<u64, Entry>, arrivals: &[Arrival], troubles: &[Trouble]) -> Vec<String> {
    let taken = arrivals
        .iter()
        .filter(|arrival| arrival.answer == Answer::Taken && entries.contains_key(&arrival.event));
    let unexplained = taken.filter(|arrival| {
        let explains = |trouble: &Trouble| trouble.explains(arrival.answered, u64::MAX);
        !troubles.iter().any(explains)
    });
    unexplained
        .map(|arrival| format!("{} is delivered and dead", id(arrival.event)))
        .collect()
}

/// Each accepted event has one end in the queue, and as many have failed as there are dead letters: none is counted
/// twice, and none is left that may be delivered later.
pub fn ends_agree(place: &Place, lines: &[Line], entries: &HashMap<u64, Entry>) {
    let database = place.database();
    let database = database.to_str().expect("text");
    let count = "SELECT sum(state < 5), sum(state = 5), sum(state = 6) FROM tower_webhook_jobs";
    let failed = entries.len();
    let ended = accepted(lines).len();
    let wanted = format!("0|{}|{failed}", ended - failed);
    let mut found = String::new();
    let agree = || {
        found = foreign::run("sqlite3", &["-readonly", database, count], b"");
        (found.trim() == wanted).then_some(())
    };
    let what = format!("unfinished|succeeded|failed in the queue: {wanted}");
    eventually(&what, Duration::from_secs(20), agree);
}

/// Waits until the sender has written enough lines of a kind.
pub fn wait_for(
    load: &crate::load::Load,
    what: &str,
    within: Duration,
    count: usize,
    is: impl Fn(&Line) -> bool,
) {
    eventually(what, within, || {
        let lines = load.so_far();
        (lines.iter().filter(|line| is(line)).count() >= count).then_some(())
    });
}

/// That it can fail.
mod itself {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn arrival(event: u64, at: u64, answer: Answer) -> Arrival {
        Arrival {
            event,
            at: at * SECOND,
            answered: at * SECOND + 1,
            answer,
        }
    }

    fn line(event: u64, at: u64, what: Seen) -> Line {
        let at = at * SECOND;
        Line { at, event, what }
    }

    const fn accepted(known: bool) -> Seen {
        let took = Duration::ZERO;
        Seen::Accepted { known, took }
    }

    fn verdict(lines: &[Line], arrivals: &[Arrival], entries: &[u64]) -> Vec<String> {
        let kill = Trouble {
            from: 10 * SECOND,
            to: 10 * SECOND,
            grace: Trouble::KILL,
        };
        let reason = String::from("rejected");
        let entry = Entry { reason };
        let entries = entries.iter().map(|event| (*event, entry.clone()));
        weigh(lines, arrivals, &entries.collect(), &[kill], true).1
    }

    #[test]
    fn the_judge_finds_what_is_lost_and_what_comes_again() {
        use Answer::{None, Status, Taken};
        const FINE: [String; 0] = [];
        let one = [line(1, 1, accepted(false))];
        let fails = |lines: &[Line], arrivals: &[Arrival], entries: &[u64], why: &str| {
            let said = verdict(lines, arrivals, entries);
            assert!(
                said.iter().any(|said| said.contains(why)),
                "{why}: {said:?}"
            );
        };
        let came = |times: &[(u64, Answer)]| -> Vec<Arrival> {
            let times = times.iter();
            times.map(|(at, answer)| arrival(1, *at, *answer)).collect()
        };
        assert_eq!(verdict(&one, &came(&[(2, Taken)]), &[]), FINE);
        assert_eq!(verdict(&one, &came(&[(2, None)]), &[1]), FINE);
        fails(&one, &came(&[(2, Status(503))]), &[], "is lost");
        fails(&one, &[], &[1], "never failed");
        // An answer that was not recorded may be followed by those that end the event.
        assert_eq!(verdict(&one, &came(&[(8, None), (9, Taken)]), &[1]), FINE);
        let both = came(&[(2, None), (3, Taken)]);
        fails(&one, &both, &[1], "is delivered and dead");
        // A kill explains what came shortly before it, and comes after it.
        assert_eq!(verdict(&one, &came(&[(9, Taken), (11, Taken)]), &[]), FINE);
        fails(&one, &came(&[(7, Taken), (11, Taken)]), &[], "came again");
        fails(&one, &came(&[(2, Taken), (3, None)]), &[], "came again");
        fails(&one, &came(&[(11, Taken), (12, Taken)]), &[], "came again");
        let recorded = [one[0].clone(), line(1, 10, Seen::Delivered)];
        let twice = came(&[(9, Taken), (11, Taken)]);
        fails(&recorded, &twice, &[], "after its status said delivered");

        let lines = |what| [one[0].clone(), line(1, 3, what)];
        let fine = came(&[(2, Taken)]);
        assert_eq!(
            verdict(&lines(Seen::Repeated { known: true }), &fine, &[]),
            FINE
        );
        fails(
            &lines(Seen::Repeated { known: false }),
            &fine,
            &[],
            "accepted anew",
        );
        fails(&lines(Seen::Unknown), &fine, &[], "unknown");
        let (status, hint) = (503, false);
        fails(
            &lines(Seen::Refused { status, hint }),
            &fine,
            &[],
            "was refused",
        );
        fails(&[line(1, 1, accepted(true))], &fine, &[], "when it was new");

        let poison = [line(13, 1, accepted(false))];
        let rejected = [arrival(13, 2, Status(400))];
        assert_eq!(verdict(&poison, &rejected, &[13]), FINE);
        fails(&poison, &[arrival(13, 2, Taken)], &[], "is poison");
    }
}
