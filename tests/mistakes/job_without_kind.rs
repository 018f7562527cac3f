use serde::{Deserialize, Serialize};
use tower_webhook::{
    BoxError, queue::{MemoryQueue, Queue},
};

#[derive(Serialize, Deserialize)]
struct SendInvoice {
    id: u64,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let queue = Queue::new(MemoryQueue::default());
    queue.push(SendInvoice { id: 7 }).await?;
    Ok(())
}
