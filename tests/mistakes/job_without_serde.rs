use tower_webhook::{
    BoxError, queue::{JobKind, MemoryQueue, Queue},
};

struct SendInvoice {
    id: u64,
}

impl JobKind for SendInvoice {
    const KIND: &'static str = "send-invoice";
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let queue = Queue::new(MemoryQueue::default());
    queue.push(SendInvoice { id: 7 }).await?;
    Ok(())
}
