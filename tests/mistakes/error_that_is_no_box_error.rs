use http::{Request, Response};
use std::error::Error;
use tower::service_fn;
use tower_webhook::{BoxError, body::BufferedBody, stack, transport};

async fn send(_: Request<BufferedBody>) -> Result<Response<BufferedBody>, Box<dyn Error>> {
    Ok(Response::new(BufferedBody::default()))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let deliver = stack::deliver().build()?.layer(service_fn(send));
    let req = transport::post_json("http://example.com/hooks", &7)?;
    println!("{}", deliver.oneshot(req).await?.status());
    Ok(())
}
