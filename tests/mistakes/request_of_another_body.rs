use http::Request;
use tower_webhook::{BoxError, stack, transport};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let client = transport::reqwest(reqwest::Client::new());
    let deliver = stack::deliver().build()?.layer(client);
    let req = Request::post("https://example.com/hooks").body("{}".to_owned())?;
    println!("{}", deliver.oneshot(req).await?.status());
    Ok(())
}
