use axum::{Router, routing::post};
use tower_webhook::{BoxError, idempotency::MemoryStore, signature::scheme::GitHub, stack};

fn main() -> Result<(), BoxError> {
    let receive = stack::receive(GitHub::new("secret")?).once(MemoryStore::default());
    let _app: Router = Router::new()
        .route("/hooks", post(async || "handled"))
        .layer(receive);
    Ok(())
}
