//! One job of 1 KiB put into a queue in memory, given to a worker and done.

use crate::{
    bare::now,
    measure::{Row, calls},
};
use bytes::Bytes;
use std::{collections::VecDeque, sync::Mutex, time::Duration};
use tower_webhook::{
    lease::Settled,
    queue::{Ask, End, Engine, MemoryQueue, NewJob},
};

const LEASE: Duration = Duration::from_secs(60);
/// Finished tasks leave with the next operation.
const AT_ONCE: Duration = Duration::from_nanos(1);

fn job() -> NewJob {
    static PAYLOAD: [u8; 1024] = [7; 1024];
    NewJob::new("bench", Bytes::from_static(&PAYLOAD)).target("target")
}

pub fn memory(row: &mut Row) {
    row.bare("the job made and dropped", calls(job, |job| job));
    let queue = MemoryQueue::builder().retention(AT_ONCE).build().unwrap();
    row.ours(calls(job, move |job| {
        assert!(now(queue.enqueue(vec![job])).unwrap()[0].is_ok());
        let claims = now(queue.claim(Ask::new(1, LEASE))).unwrap();
        let [job] = &claims.jobs[..] else {
            panic!("one job is given");
        };
        let done = (job.claim(), End::Done { result: None });
        assert_eq!(now(queue.settle(vec![done])).unwrap(), [Settled::Done]);
    }));
    // Less work: no id, no lease, no retry; a job is forgotten when it is given.
    let deque = Mutex::new(VecDeque::new());
    let call = move |job| {
        deque.lock().unwrap().push_back(job);
        deque.lock().unwrap().pop_front().unwrap()
    };
    row.peer("a deque behind a lock", calls(job, call));
}
