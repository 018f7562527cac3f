use axum::{Router, routing::post};
use tower::ServiceBuilder;
use tower_webhook::{
    BoxError, BufferBodyLayer, IdempotencyLayer, idempotency::{KeySource, MemoryStore},
};

fn main() -> Result<(), BoxError> {
    let once = IdempotencyLayer::webhook(MemoryStore::default(), KeySource::json_pointer("/id")?);
    let layers = ServiceBuilder::new()
        .layer(once)
        .layer(BufferBodyLayer::new(1 << 20));
    let _app: Router = Router::new()
        .route("/hooks", post(async || "handled"))
        .layer(layers);
    Ok(())
}
