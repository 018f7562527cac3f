use axum::{Router, routing::post};
use tower_webhook::{BoxError, SignatureVerifyLayer, signature::scheme::GitHub};

fn main() -> Result<(), BoxError> {
    let verify = SignatureVerifyLayer::new(GitHub::new("secret")?);
    let _app: Router = Router::new()
        .route("/hooks", post(async || "handled"))
        .layer(verify);
    Ok(())
}
