use super::{ForbiddenTarget, TargetRules};
use crate::BoxError;
use pin_project::pin_project;
use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    vec,
};
use tower_service::Service;

/// A resolver that leaves out the addresses that may not be dialled. Made by
/// [`TargetRules::resolver`].
///
/// A name that has addresses, and none that is permitted, is [`ForbiddenTarget::NotPublic`].
#[derive(Clone, Debug)]
pub struct GuardedResolver<R> {
    inner: R,
    rules: TargetRules,
}

impl<R> GuardedResolver<R> {
    pub(super) const fn new(inner: R, rules: TargetRules) -> Self {
        Self { inner, rules }
    }
}

impl<R, N> Service<N> for GuardedResolver<R>
where
    R: Service<N>,
    R::Response: IntoIterator<Item = SocketAddr>,
    R::Error: Into<BoxError>,
{
    type Response = vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = ResolveFuture<R::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, name: N) -> Self::Future {
        ResolveFuture {
            found: self.inner.call(name),
            rules: self.rules,
        }
    }
}

/// The addresses of a name, when they are found.
#[derive(Debug)]
#[pin_project]
pub struct ResolveFuture<F> {
    #[pin]
    found: F,
    rules: TargetRules,
}

impl<F, A, E> Future for ResolveFuture<F>
where
    F: Future<Output = Result<A, E>>,
    A: IntoIterator<Item = SocketAddr>,
    E: Into<BoxError>,
{
    type Output = Result<vec::IntoIter<SocketAddr>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let found = match ready!(this.found.poll(cx)) {
            Ok(found) => found,
            Err(error) => return Poll::Ready(Err(error.into())),
        };
        let (permitted, forbidden): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|address| this.rules.permits(address.ip()));
        if permitted.is_empty() && !forbidden.is_empty() {
            return Poll::Ready(Err(ForbiddenTarget::NotPublic.into()));
        }
        Poll::Ready(Ok(permitted.into_iter()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{convert::Infallible, future::ready};
    use tower::{ServiceExt, service_fn};

    /// What a name that has `addresses` is resolved to.
    async fn resolve(rules: TargetRules, addresses: &[&str]) -> Result<Vec<String>, BoxError> {
        let found: Vec<SocketAddr> = addresses.iter().map(|at| at.parse().unwrap()).collect();
        let inner = service_fn(|_: &str| ready(Ok::<_, Infallible>(found.clone())));
        let found = rules.resolver(inner).oneshot("peer.test").await?;
        Ok(found.map(|address| address.to_string()).collect())
    }

    #[tokio::test]
    async fn forbidden_addresses_are_left_out_where_the_name_is_dialled() {
        let rules = TargetRules::new();
        let mixed = ["10.0.0.1:443", "1.1.1.1:443", "[::1]:443"];
        assert_eq!(resolve(rules, &mixed).await.unwrap(), ["1.1.1.1:443"]);
        let all = rules.allow_private(true);
        assert_eq!(resolve(all, &mixed).await.unwrap(), mixed);

        let error = resolve(rules, &["127.0.0.1:443"]).await.unwrap_err();
        assert_eq!(
            error.downcast_ref(),
            Some(&ForbiddenTarget::NotPublic),
            "{error}"
        );
        assert_eq!(resolve(rules, &[]).await.unwrap(), [""; 0], "nothing found");
    }
}
