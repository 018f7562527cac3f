//! The examples, as a user runs them.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "../../../tests/support/process.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod process;

use process::command;

#[test]
fn a_handler_that_breaks_off_has_its_write_undone_and_done_once() {
    let output = command("transactional_handler")
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let paid: Vec<_> = text.lines().filter(|line| line.contains("paid")).collect();
    let once = |order| format!("{order} was paid 1 time(s)");
    assert_eq!(paid, ["order-1", "order-2", "order-3"].map(once));
    let events = |name| text.lines().filter(|line| *line == name).count();
    assert_eq!((events("claimed"), events("retrying")), (4, 1), "{text}");
    assert_eq!((events("succeeded"), events("lost")), (3, 0), "{text}");
}

#[test]
fn what_a_killed_worker_had_claimed_is_done_by_the_other() {
    let output = command("worker_process").output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("one of the two workers was killed"), "{text}");
    assert!(text.contains("all 40 are done"), "{text}");
    for n in 0..40 {
        assert!(
            text.contains(&format!(": job {n}, attempt ")),
            "{n}: {text}"
        );
    }
}
