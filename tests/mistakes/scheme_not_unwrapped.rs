use tower_webhook::{SignatureVerifyLayer, signature::scheme::GitHub};

fn main() {
    let _verify = SignatureVerifyLayer::new(GitHub::new("secret"));
}
