//! One job of 1 KiB put into a queue in memory, given to a worker and done.

use crate::{
    bare::now,
    measure::{Row, calls},
};
use bytes::Bytes;
use std::{collections::VecDeque, sync::Mutex, time::Duration};
use tower_webhook::{
    lease::Settled,
    queue::{Engine, MemoryQueue, NewJob, Terms, Verdict},
};

const LEASE: Duration = Duration::from_secs(60);

fn job() -> NewJob {
    static PAYLOAD: [u8; 1024] = [7; 1024];
    NewJob::new("bench", Bytes::from_static(&PAYLOAD)).target("target")
}

pub fn memory(row: &mut Row) {
    row.bare("the job made and dropped", calls(job, |job| job));
    let queue = MemoryQueue::builder().build().unwrap();
    row.ours(calls(job, move |job| {
        now(queue.enqueue(job)).unwrap();
        let claims = now(queue.claim(Terms::new(1, LEASE))).unwrap();
        let [job] = &claims.jobs[..] else {
            panic!("one job is given");
        };
        let done = Verdict::Done {
            result: None,
            retention: Duration::ZERO,
        };
        let settled = now(queue.settle(job.id, job.token, done));
        assert_eq!(settled.unwrap(), Settled::Done);
    }));
    // Less work: no id, no lease, no retry; a job is forgotten when it is given.
    let deque = Mutex::new(VecDeque::new());
    let call = move |job| {
        deque.lock().unwrap().push_back(job);
        deque.lock().unwrap().pop_front().unwrap()
    };
    row.peer("a deque behind a lock", calls(job, call));
}
