//! A secret for each tenant, looked up when a request names the tenant: Standard Webhooks on plain hyper.
//!
//! The database is a file with a line `NAME SECRET` for each tenant. A name on standard input is one whose
//! line has changed; otherwise the change counts after a minute.
//!
//! ```sh
//! echo "acme whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" > tenants.txt
//! TENANTS=tenants.txt cargo run --example hyper_tenants
//! ```

use http::{Request, Response};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{convert::Infallible, env};
use tokio::{
    fs,
    io::{AsyncBufReadExt, BufReader, stdin},
    net::TcpListener,
};
use tower::{Layer, service_fn};
use tower_webhook::{
    BoxError,
    body::BufferedBody,
    idempotency::MemoryStore,
    signature::{Tenants, Verified, scheme::StandardWebhooks},
    stack,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let database = env::var("TENANTS")?;
    let tenants = Tenants::builder(
        |head| Some(head.original_uri().path().strip_prefix("/hooks/")?.into()), // whose request it is
        move |tenant| scheme_of(database.clone(), tenant),
        StandardWebhooks::new, // with which the requests of unknown tenants are refused
    )
    .build()?;
    let receive = stack::receive(tenants.clone()).once(MemoryStore::default());
    let service = receive.build().layer(service_fn(on_event));
    tokio::spawn(forget(tenants));

    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                eprintln!("connection: {error}");
            }
        });
    }
}

/// `None` if there is no such tenant. An error (no database, a secret that is none) is a 503 to whoever asked.
async fn scheme_of(database: String, tenant: String) -> Result<Option<StandardWebhooks>, BoxError> {
    let rows = fs::read_to_string(database).await?;
    let mut rows = rows.lines().filter_map(|row| row.split_once(' '));
    let secret = rows.find(|(name, _)| *name == tenant);
    Ok(secret
        .map(|(_, secret)| StandardWebhooks::new(secret))
        .transpose()?)
}

async fn forget(tenants: Tenants) -> Result<(), BoxError> {
    let mut names = BufReader::new(stdin()).lines();
    while let Some(name) = names.next_line().await? {
        tenants.forget(&name);
    }
    Ok(())
}

/// Runs once for each event of each tenant.
async fn on_event(req: Request<BufferedBody>) -> Result<Response<BufferedBody>, Infallible> {
    let verified = req.extensions().get::<Verified>();
    let tenant = verified.and_then(Verified::tenant).unwrap_or("nobody");
    Ok(Response::new(format!("from {tenant}").into()))
}
