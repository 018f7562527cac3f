//! The re-drives that operators start. Each runs in the background and outlives its request.

use crate::trouble;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service;
use tower_webhook::{
    BoxError, BoxFuture, StoreError,
    dead_letter::{
        DescribeResponse, EntryId, Filter, LetterStore,
        redrive::{Redrive, Redriven, Report, Resend, Run, RunFailed, Stop},
    },
    observe::Observers,
    outcome::{Classify, MakeClassifier},
};

/// The name of the operator, and of the routes, in events and logs: the token does not tell operators apart.
pub(crate) const OPERATOR: &str = "operator";

/// The wait for a re-drive of one entry before the answer says that it runs. A refusal is known
/// sooner.
const ANSWER_WAIT: Duration = Duration::from_millis(100);

/// The time that dropped re-drives have to release their claims.
const RELEASING: Duration = Duration::from_millis(200);

/// A [`Redrive`] without its type parameters.
pub(crate) trait AnyRedrive: Send + Sync {
    fn store(&self) -> &dyn LetterStore;
    fn one(&self, id: EntryId) -> BoxFuture<Result<Redriven, StoreError>>;
    fn run(&self, run: Run) -> BoxFuture<Result<Report, RunFailed>>;
}

impl<S, M, R> AnyRedrive for Redrive<S, M, R>
where
    S: Service<R::Request> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Into<BoxError> + Send,
    M: MakeClassifier<R::Request> + Clone + Send + Sync + 'static,
    M::Classifier: Classify<S::Response, S::Error> + Send,
    R: Resend + DescribeResponse<S::Response> + Clone + Send + Sync + 'static,
    R::Request: Send,
{
    fn store(&self) -> &dyn LetterStore {
        &**Self::store(self)
    }

    fn one(&self, id: EntryId) -> BoxFuture<Result<Redriven, StoreError>> {
        Box::pin(Self::one(self, id, OPERATOR))
    }

    fn run(&self, run: Run) -> BoxFuture<Result<Report, RunFailed>> {
        Box::pin(Self::run(self, run))
    }
}

/// The running re-drives, and the handles that end them.
#[derive(Default)]
pub(crate) struct Redrives {
    running: TaskTracker,
    /// Ends a run between two entries.
    stop: Stop,
    /// Drops the re-drives that did not end by themselves.
    cut: CancellationToken,
    /// Whether a run over many entries is under way.
    many: Arc<AtomicBool>,
}

impl Redrives {
    /// Sends an entry again. Returns `false` if it is not sent: another caller is sending it, it is gone, or
    /// it has been sent again as often as is allowed.
    pub(crate) async fn one(
        &self,
        redrive: &dyn AnyRedrive,
        id: EntryId,
        observers: &Observers,
    ) -> bool {
        if self.running.is_closed() {
            return false;
        }
        let sent = redrive.one(id);
        let (cut, observers) = (self.cut.clone(), observers.clone());
        let mut sending = self.running.spawn(async move {
            let sent = cut.run_until_cancelled(sent).await;
            if let Some(Err(error)) = &sent {
                trouble(&observers, "a re-drive cannot begin", error);
            }
            sent
        });
        match tokio::time::timeout(ANSWER_WAIT, &mut sending).await {
            Err(_) => true,
            Ok(Ok(Some(Ok(redriven)))) => matches!(
                redriven,
                Redriven::Accepted | Redriven::Failed { .. } | Redriven::NotRemoved { .. }
            ),
            Ok(_) => false,
        }
    }

    /// Sends all matching entries again. Returns `false` if such a run is under way.
    pub(crate) fn many(
        &self,
        redrive: &dyn AnyRedrive,
        filter: Filter,
        observers: &Observers,
    ) -> bool {
        if self.running.is_closed() || self.many.swap(true, Ordering::SeqCst) {
            return false;
        }
        let run = redrive.run(Run::new(filter, OPERATOR).until(&self.stop));
        let (cut, many) = (self.cut.clone(), Arc::clone(&self.many));
        let observers = observers.clone();
        self.running.spawn(async move {
            if let Some(Err(error)) = cut.run_until_cancelled(run).await {
                trouble(&observers, "a run of re-drives ended early", &error);
            }
            many.store(false, Ordering::SeqCst);
        });
        true
    }

    pub(crate) async fn stop(&self, grace: Duration) {
        self.stop.stop();
        self.running.close();
        let ended = tokio::time::timeout(grace, self.running.wait());
        if ended.await.is_err() {
            self.cut.cancel();
            self.running.wait().await;
            tokio::time::sleep(RELEASING).await;
        }
    }
}
