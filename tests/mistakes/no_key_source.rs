use tower_webhook::{IdempotencyLayer, idempotency::MemoryStore};

fn main() {
    let _once = IdempotencyLayer::webhook(MemoryStore::default());
}
