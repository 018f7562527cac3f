//! The SQLite database and the idempotency store in it: the store contract, several handles and
//! processes on one file, what cannot be opened, what goes wrong while it is open, and what is
//! left after a kill, and handlers that outlive their lease.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// Children of the tests speak through their stdout.
#![allow(clippy::print_stdout)]

#[path = "../../../../tests/support/child.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod child;
#[path = "../support/home.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod home;

mod contract;
mod crash;
mod database;
mod late;
mod opening;
mod processes;
mod support;
mod time;
mod trouble;
