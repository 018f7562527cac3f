//! SQLite for [`tower_webhook`]: the idempotency store, the queue, the dead letters and the accepted
//! events in one file.
#![forbid(unsafe_code)]
