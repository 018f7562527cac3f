use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower_webhook::{BoxError, stack};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
    let deliver = stack::deliver().grpc().build()?.layer(channel);
    let mut client = HealthClient::new(deliver);
    client.check(HealthCheckRequest::default()).await?;
    Ok(())
}
