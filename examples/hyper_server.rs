//! The same layers on plain hyper, without a framework: Stripe events.
//!
//! ```sh
//! WEBHOOK_SECRET=whsec_anything cargo run --example hyper_server
//! ```

use http::{Request, Response};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{convert::Infallible, env};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_webhook::{
    BoxError, BufferBodyLayer, IdempotencyLayer, SignatureVerifyLayer,
    body::BufferedBody,
    idempotency::{KeySource, MemoryStore},
    signature::scheme::Stripe,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Stripe's id is in the body, which the signature covers.
    let key = KeySource::json_pointer("/id")?;
    let service = ServiceBuilder::new()
        .layer(BufferBodyLayer::new(1 << 20))
        .layer(SignatureVerifyLayer::new(Stripe::new(env::var(
            "WEBHOOK_SECRET",
        )?)?))
        // Stripe does not sign the path, and this program answers at any: an event is one wherever it is sent.
        .layer(IdempotencyLayer::webhook(MemoryStore::default(), key).scope("stripe"))
        .service(service_fn(on_event));

    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                eprintln!("connection: {error}");
            }
        });
    }
}

async fn on_event(req: Request<BufferedBody>) -> Result<Response<BufferedBody>, Infallible> {
    println!("{} bytes from Stripe", req.body().as_bytes().len());
    Ok(Response::new(BufferedBody::from(r#"{"received":true}"#)))
}
