//! The hosts that the programs of the documents name, for one process: a proxy that leads each of them to a server of
//! the test, with a certificate for its name.

use crate::https;
use axum::{Router, extract::Request};
use http::{StatusCode, header};
use std::{collections::HashMap, sync::Arc};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tower::ServiceExt;

/// These hosts and no others, until it is dropped.
pub struct Internet {
    /// The URL of the proxy.
    pub proxy: String,
    /// The certificate of their authority, as PEM.
    pub root: String,
    _server: https::Server,
    task: JoinHandle<()>,
}

impl Drop for Internet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Internet {
    pub async fn of<const N: usize>(hosts: [(&str, Router); N]) -> Self {
        let names = hosts.iter().map(|(name, _)| (*name).to_owned()).collect();
        let hosts = hosts.map(|(name, app)| (name.to_owned(), app));
        let hosts = Arc::new(HashMap::from(hosts));
        let app = Router::new().fallback(async move |req: Request| {
            let host = req.headers().get(header::HOST);
            let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
            match hosts.get(host) {
                Some(app) => app.clone().oneshot(req).await,
                None => Ok(axum::response::IntoResponse::into_response(
                    StatusCode::MISDIRECTED_REQUEST,
                )),
            }
        });
        let server = https::serve_as(app, &[&TLS12, &TLS13], names).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let proxy = format!("http://{}", listener.local_addr().expect("an address"));
        let at = server.url.trim_start_matches("https://").to_owned();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let at = at.clone();
                // A client that goes away is no failure of the proxy.
                tokio::spawn(async move { drop(tunnel(stream, &at).await) });
            }
        });
        Self {
            proxy,
            root: server.root.clone(),
            _server: server,
            task,
        }
    }
}

/// `CONNECT`, to any host: the certificate says which there are.
async fn tunnel(stream: TcpStream, at: &str) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    let mut server = TcpStream::connect(at).await?;
    copy_bidirectional(&mut stream, &mut server).await?;
    Ok(())
}
