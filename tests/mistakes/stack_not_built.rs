use tower_webhook::{BoxError, stack, transport};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let client = transport::reqwest(reqwest::Client::new());
    let deliver = stack::deliver().attempts(3).layer(client);
    let req = transport::post_json("https://example.com/hooks", &7)?;
    println!("{}", deliver.oneshot(req).await?.status());
    Ok(())
}
