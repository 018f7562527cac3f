//! Code of a user's that must not break the call on whose way it runs: hooks, listeners, recorders.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `work` returns; `None` where it panics.
pub(crate) fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    // Unwind safe: nothing of ours is inside, and what it leaves half done is its own.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Some(done),
        Err(payload) => {
            // What was thrown may throw once more when it is dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::panic_any;

    struct ThrowsAgain;

    impl Drop for ThrowsAgain {
        fn drop(&mut self) {
            panic!("on purpose, again");
        }
    }

    #[test]
    fn neither_a_panic_nor_what_it_throws_comes_through() {
        assert_eq!(catch_panic(|| 7), Some(7));
        assert_eq!(catch_panic(|| -> u8 { panic!("on purpose") }), None);
        assert_eq!(catch_panic(|| -> u8 { panic_any(ThrowsAgain) }), None);
    }
}
