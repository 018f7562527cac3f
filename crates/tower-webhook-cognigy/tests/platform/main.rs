//! The official platform: its messages, the payloads around it, their signatures, and the clients.
//!
//! The documented examples are literals. Those marked O are from the official documentation or its packages.

mod messages;
mod payloads;
mod signature;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Reads `json` and asserts that it is written back as equal JSON.
#[track_caller]
fn unchanged<T: Serialize + DeserializeOwned>(json: &str) -> T {
    let before: Value = serde_json::from_str(json).expect("the test's JSON");
    let typed: T = serde_json::from_str(json).expect("it fits the type");
    let after = serde_json::to_value(&typed).expect("it can be written");
    assert_eq!(after, before);
    // Through text as well, because numbers could change there.
    let text = serde_json::to_string(&typed).expect("it can be written");
    let again: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(again, before);
    typed
}
