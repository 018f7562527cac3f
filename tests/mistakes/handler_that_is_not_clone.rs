use axum::{Router, routing::post};
use tower_webhook::{BoxError, signature::scheme::GitHub, stack};

struct Connection;

fn main() -> Result<(), BoxError> {
    let connection = Connection;
    let on_event = async move || {
        let _used = &connection;
        "handled"
    };
    let _app: Router = Router::new()
        .route("/hooks", post(on_event))
        .layer(stack::receive(GitHub::new("secret")?).build());
    Ok(())
}
