//! The time of the events that a test sends: one for the whole process, so that a repeat has the same bytes.

use std::{
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

/// When this process first asked, in seconds since 1970.
pub fn moment() -> u64 {
    static MOMENT: OnceLock<u64> = OnceLock::new();
    *MOMENT.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.expect("the clock is right").as_secs()
    })
}
