//! The built-in downstream: answers 200 to everything, on a loopback port of its own.

use crate::args::Problem;
use axum::{Router, routing::post};
use http::{StatusCode, Uri};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::{net::TcpListener, task::JoinHandle};

pub(crate) struct Echo {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Echo {
    pub fn url(&self) -> Uri {
        // Invariant: an address and a path are a URL.
        Uri::try_from(format!("http://{}/echo", self.address)).unwrap_or_default()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub async fn start() -> Result<Echo, Problem> {
    let problem = |error| Problem::new("--downstream", format!("the built-in echo: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .map_err(problem)?;
    let address = listener.local_addr().map_err(problem)?;
    let router = Router::new().route("/echo", post(echo));
    let server = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the built-in echo ended");
        }
    });
    Ok(Echo { address, server })
}

async fn echo(body: bytes::Bytes) -> (StatusCode, bytes::Bytes) {
    (StatusCode::OK, body)
}
