use tower_webhook::{BoxError, stack};

fn main() -> Result<(), BoxError> {
    let _stack = stack::deliver().observe(|event| println!("{event:?}")).build()?;
    Ok(())
}
