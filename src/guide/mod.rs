//! A guide in five chapters, from the first webhook to its operation.
//!
//! 1. [Receive](receive) from one sender: verify, handle once, test the handler, find out why a request is refused.
//! 2. [Tenants](tenants): receive for many, each with a secret of its own.
//! 3. [Send](send): which client, what is repeated, time limits, targets that others choose.
//! 4. [Queue](queue): accept now and process later; jobs, dead letters, and their way back.
//! 5. [Operate](operate): what is logged and measured, breakers, rotation, shutdown.
//!
//! Each chapter is for somebody who has not read the others. The programs of the README are whole; the code here is
//! part of one. All of it is compiled and run by the tests.
//!
//! On the way in:
//!
//! <div>
#![doc = include_str!("receive.svg")]
//! </div>
//!
//! and on the way out:
//!
//! <div>
#![doc = include_str!("send.svg")]
//! </div>

pub mod operate;
pub mod queue;
pub mod receive;
pub mod send;
pub mod tenants;
