use std::sync::Arc;
use tower_webhook::{
    BoxError, IdempotencyLayer, idempotency::{KeySource, MemoryStore},
};

fn main() -> Result<(), BoxError> {
    let store = Arc::new(MemoryStore::default());
    let _once = IdempotencyLayer::webhook(store, KeySource::verified_id());
    Ok(())
}
