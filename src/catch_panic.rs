//! Runs code that users supply (observers, closures, services) and catches its panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`. Returns `None` if it panics.
pub(crate) fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    // Unwind safe: `work` shares no state with this crate that it could leave half changed.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Some(done),
        Err(payload) => {
            // Dropping the payload may panic too.
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
