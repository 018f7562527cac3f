//! A gRPC server with signed unary calls: tonic's health service behind a signature.
//!
//! gRPC does not define a webhook signature; here a header signs the bytes of the message. The layers
//! need a whole body, so they work for unary calls: leave streaming services outside.
//!
//! ```sh
//! WEBHOOK_SECRET=anything cargo run --example tonic_server
//! ```

use std::env;
use tokio::net::TcpListener;
use tonic::transport::server::{Server, TcpIncoming};
use tower_webhook::{BoxError, signature::scheme::GitHub, stack};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // `x-hub-signature-256: sha256=<hex>` over the framed message.
    let scheme = GitHub::new(env::var("WEBHOOK_SECRET").expect("WEBHOOK_SECRET is set"))?;
    let receive = stack::receive(scheme)
        .grpc() // refusals as gRPC statuses: UNAUTHENTICATED instead of 401
        .max_body(4 << 20)
        .build();
    let (health, service) = tonic_health::server::health_reporter();
    health
        .set_service_status("webhooks", tonic_health::ServingStatus::Serving)
        .await;

    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Server::builder()
        .layer(receive)
        .add_service(service)
        .serve_with_incoming(TcpIncoming::from(listener))
        .await?;
    Ok(())
}
