use http::{Request, Response};
use std::convert::Infallible;
use tower::{Layer, Service, service_fn, util::BoxService};
use tower_webhook::{BoxError, body::BufferedBody, signature::scheme::GitHub, stack};

async fn handle(_: Request<BufferedBody>) -> Result<Response<BufferedBody>, Infallible> {
    Ok(Response::new(BufferedBody::default()))
}

fn serve(_: impl Service<Request<BufferedBody>>) {}

fn main() -> Result<(), BoxError> {
    let receive = stack::receive(GitHub::new("secret")?).build();
    serve(receive.layer(BoxService::new(service_fn(handle))));
    Ok(())
}
