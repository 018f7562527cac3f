//! A host that takes no more connections.

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// A listener of this machine whose queue is full: the system drops what comes then.
pub async fn full() -> (TcpListener, [TcpStream; 2]) {
    let socket = TcpSocket::new_v4().expect("a socket");
    let any = "127.0.0.1:0".parse().expect("an address");
    socket.bind(any).expect("a port");
    let full = socket.listen(1).expect("it listens");
    let address = full.local_addr().expect("an address");
    let mut queued = Vec::new();
    for _ in 0..2 {
        queued.push(TcpStream::connect(address).await.expect("a place"));
    }
    (full, queued.try_into().expect("two"))
}
