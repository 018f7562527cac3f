use axum::{
    Router, extract::Request, middleware::{Next, from_fn}, response::Response, routing::post,
};
use tower::ServiceBuilder;
use tower_webhook::{BoxError, BufferBodyLayer, SignatureVerifyLayer, signature::scheme::GitHub};

async fn log(req: Request, next: Next) -> Response {
    next.run(req).await
}

fn main() -> Result<(), BoxError> {
    let layers = ServiceBuilder::new()
        .layer(BufferBodyLayer::new(1 << 20))
        .layer(from_fn(log))
        .layer(SignatureVerifyLayer::new(GitHub::new("secret")?));
    let _app: Router = Router::new().route("/hooks", post(async || "handled")).layer(layers);
    Ok(())
}
