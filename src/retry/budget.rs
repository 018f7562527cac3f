use super::{
    backoff::nanos,
    balance::{self, Balance, RETRY},
};
use crate::InvalidConfig;
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Limits retries to a share of the traffic and a floor.
///
/// In any window, retries are at most `share * first attempts + floor * window`, so that retries do not
/// make an outage worse: with three attempts per delivery, a failing peer gets three times the load; with
/// a budget of 20 %, 1.2 times. The floor lets clients with little traffic retry.
///
/// Clones share one balance: use the same budget in every layer that sends to the same peer.
///
/// The defaults (20 %, 10 per second, 10 s) are those of Finagle, tower and linkerd; Envoy has the
/// same share, the SRE book recommends 10 %.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_webhook::retry::Budget;
///
/// let budget = Budget::builder().share(0.6).floor(0).build()?;
/// (0..5).for_each(|_| budget.deposit());
/// assert_eq!(budget.balance(), 3);
///
/// let permit = budget.withdraw().unwrap();
/// assert_eq!(budget.balance(), 2);
/// drop(permit); // the retry was not sent after all
/// assert_eq!(budget.balance(), 3);
///
/// budget.withdraw().unwrap().spend();
/// assert_eq!(budget.balance(), 2);
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone)]
pub struct Budget {
    /// `None` is unlimited.
    inner: Option<Arc<Inner>>,
}

struct Inner {
    balance: Balance,
    /// The length of a slot in nanoseconds; at least one.
    slot: u64,
    origin: Instant,
}

/// One retry that a [`Budget`] allows. Call [`spend`](Self::spend) when the retry is sent; dropping
/// the permit returns it to the budget.
#[must_use]
pub struct BudgetPermit {
    /// The budget, and the tick of the withdrawal. `None` once spent, and in an unlimited budget.
    taken: Option<(Arc<Inner>, u64)>,
}

/// Builder of a [`Budget`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct BudgetBuilder {
    share: f64,
    floor: u32,
    window: Duration,
}

impl Budget {
    /// Makes a budget with the defaults: 20 % of the traffic and 10 per second, over 10 s.
    pub fn new() -> Self {
        Self::of(200_000, 10, Duration::from_secs(10))
    }

    /// Returns a builder with the default settings.
    pub const fn builder() -> BudgetBuilder {
        BudgetBuilder {
            share: 0.2,
            floor: 10,
            window: Duration::from_secs(10),
        }
    }

    /// Makes a budget that allows any number of retries. An outage then multiplies the load by the number of
    /// attempts.
    pub const fn unlimited() -> Self {
        Self { inner: None }
    }

    fn of(share: u64, floor: u32, window: Duration) -> Self {
        let micros = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        let inner = Inner {
            balance: Balance::new(share, u64::from(floor).saturating_mul(micros)),
            slot: nanos(window / 10).max(1),
            origin: Instant::now(),
        };
        Self {
            inner: Some(Arc::new(inner)),
        }
    }

    /// Counts a first attempt.
    pub fn deposit(&self) {
        self.deposit_at(Instant::now());
    }

    pub(super) fn deposit_at(&self, now: Instant) {
        if let Some(inner) = &self.inner {
            inner.balance.deposit(inner.tick(now));
        }
    }

    /// Takes back the deposit that was made at `then`, for a first attempt that was not sent.
    pub(super) fn retract_at(&self, then: Instant) {
        if let Some(inner) = &self.inner {
            inner.balance.retract(inner.tick(then));
        }
    }

    /// Withdraws one retry, if the balance allows it.
    pub fn withdraw(&self) -> Option<BudgetPermit> {
        self.withdraw_at(Instant::now())
    }

    pub(super) fn withdraw_at(&self, now: Instant) -> Option<BudgetPermit> {
        let Some(inner) = &self.inner else {
            return Some(BudgetPermit { taken: None });
        };
        let tick = inner.tick(now);
        inner.balance.withdraw(tick).map(|tick| BudgetPermit {
            taken: Some((Arc::clone(inner), tick)),
        })
    }

    /// The number of retries that are allowed now; [`u64::MAX`] for an unlimited budget.
    pub fn balance(&self) -> u64 {
        match &self.inner {
            Some(inner) => inner.balance.left(inner.tick(Instant::now())) / RETRY,
            None => u64::MAX,
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    /// The number of the slot that contains `now`.
    fn tick(&self, now: Instant) -> u64 {
        (nanos(now.saturating_duration_since(self.origin)) / self.slot) & balance::TICK
    }
}

impl BudgetPermit {
    /// Keeps the withdrawal: the retry is sent.
    pub fn spend(mut self) {
        self.taken = None;
    }
}

impl Drop for BudgetPermit {
    fn drop(&mut self) {
        if let Some((budget, tick)) = self.taken.take() {
            budget.balance.release(tick);
        }
    }
}

impl BudgetBuilder {
    /// Sets the number of retries per first attempt. Default: 0.2; at most 1000, in steps of a millionth.
    pub const fn share(mut self, share: f64) -> Self {
        self.share = share;
        self
    }

    /// Sets the number of retries per second that are allowed for any traffic. Default: 10. In a window it
    /// must make a whole number of retries: 1 per second needs a window of whole seconds.
    pub const fn floor(mut self, per_second: u32) -> Self {
        self.floor = per_second;
        self
    }

    /// Sets the window over which first attempts and retries are counted. Default: 10 s; from 100 ms to a
    /// day.
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Builds the budget.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the first invalid setting: `share`, `floor` or `window`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be from 0 to 1000"
    )]
    pub fn build(self) -> Result<Budget, InvalidConfig> {
        if !(0.0..=1_000.0).contains(&self.share) {
            return Err(InvalidConfig::new("share", "must be from 0 to 1000"));
        }
        let share = (self.share * 1e6).round() as u64;
        if share == 0 && self.floor == 0 {
            let problem = "must be above zero where the share is zero; one attempt needs no budget";
            return Err(InvalidConfig::new("floor", problem));
        }
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(86_400));
        if !(least..=most).contains(&self.window) {
            return Err(InvalidConfig::new("window", "must be from 100 ms to a day"));
        }
        if !(u128::from(self.floor) * self.window.as_micros()).is_multiple_of(u128::from(RETRY)) {
            let problem = "must allow a whole number of retries in each window";
            return Err(InvalidConfig::new("floor", problem));
        }
        Ok(Budget::of(share, self.floor, self.window))
    }
}

impl Default for BudgetBuilder {
    fn default() -> Self {
        Budget::builder()
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner {
            Some(_) => f
                .debug_struct("Budget")
                .field("balance", &self.balance())
                .finish(),
            None => f.write_str("Budget(unlimited)"),
        }
    }
}

impl fmt::Debug for BudgetPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetPermit").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn budget(share: f64, floor: u32, window_ms: u64) -> Budget {
        let window = Duration::from_millis(window_ms);
        Budget::builder()
            .share(share)
            .floor(floor)
            .window(window)
            .build()
            .unwrap()
    }

    /// How many retries `budget` gives at `now`; all are spent.
    fn take_all(budget: &Budget, now: Instant) -> u64 {
        let mut taken = 0;
        while let Some(permit) = budget.withdraw_at(now) {
            permit.spend();
            taken += 1;
        }
        taken
    }

    fn origin(budget: &Budget) -> Instant {
        budget.inner.as_ref().unwrap().origin
    }

    /// tower rounds what a retry costs to whole deposits: 0.6 is 100 % there, 0.3 is 33 %, 0.4 is 50 %.
    #[test]
    fn the_share_is_exact() {
        for (share, expected) in [
            (0.6, 600),
            (0.7, 700),
            (0.3, 300),
            (0.4, 400),
            (0.1, 100),
            (0.001, 1),
            (1.0, 1_000),
            (2.5, 2_500),
        ] {
            let budget = budget(share, 0, 10_000);
            let now = origin(&budget);
            (0..1_000).for_each(|_| budget.deposit_at(now));
            assert_eq!(take_all(&budget, now), expected, "{share}");
        }
    }

    /// Finagle's defaults: 10 a second over 10 s are there before any traffic.
    #[test]
    fn the_floor_is_there_from_the_start_and_comes_back_with_the_window() {
        let budget = budget(0.2, 10, 10_000);
        let at = |ms| origin(&budget) + Duration::from_millis(ms);
        assert_eq!(take_all(&budget, at(0)), 100);
        assert_eq!(take_all(&budget, at(9_999)), 0);
        assert_eq!(take_all(&budget, at(10_000)), 100);
    }

    #[test]
    fn a_deposit_counts_for_one_window() {
        let budget = budget(1.0, 0, 1_000);
        let at = |ms| origin(&budget) + Duration::from_millis(ms);
        budget.deposit_at(at(50));
        budget.deposit_at(at(550));
        assert_eq!(take_all(&budget, at(1_049)), 1);
        assert!(budget.withdraw_at(at(1_600)).is_none());
    }

    /// tower catches up on every slot that passed, under its lock: 864,000 a day here. Ours looks at ten.
    #[test]
    fn a_long_idle_time_costs_nothing() {
        let budget = budget(0.5, 0, 100);
        let start = origin(&budget);
        (0..100).for_each(|_| budget.deposit_at(start));
        for days in 1..5_000_u64 {
            let later = start + Duration::from_secs(days * 24 * 3600);
            assert_eq!(take_all(&budget, later), 0);
            budget.deposit_at(later);
            budget.deposit_at(later);
            assert_eq!(take_all(&budget, later), 1);
        }
    }

    #[test]
    fn an_unspent_permit_goes_back_to_the_slot_it_came_from() {
        let budget = budget(1.0, 0, 1_000);
        let at = |ms| origin(&budget) + Duration::from_millis(ms);
        (0..3).for_each(|_| budget.deposit_at(at(0)));
        let early = budget.withdraw_at(at(0)).unwrap();
        budget.withdraw_at(at(0)).unwrap().spend();
        drop(early);
        assert_eq!(take_all(&budget, at(0)), 2);

        // Returned after its slot is over, it does not reappear in a later one.
        (0..2).for_each(|_| budget.deposit_at(at(2_000)));
        let old = budget.withdraw_at(at(2_000)).unwrap();
        budget.deposit_at(at(3_000));
        assert_eq!(take_all(&budget, at(3_000)), 1);
        drop(old);
        assert_eq!(take_all(&budget, at(3_000)), 0);
    }

    #[test]
    fn a_deposit_can_be_taken_back_while_its_slot_counts_it() {
        let budget = budget(1.0, 0, 1_000);
        let at = |ms| origin(&budget) + Duration::from_millis(ms);
        budget.deposit_at(at(0));
        budget.deposit_at(at(0));
        budget.retract_at(at(0));
        assert_eq!(take_all(&budget, at(0)), 1);
        // The slot counts a later time by now.
        budget.deposit_at(at(2_000));
        budget.retract_at(at(0));
        assert_eq!(take_all(&budget, at(2_000)), 1);
        // Nothing is left to take back.
        (0..2).for_each(|_| budget.retract_at(at(2_000)));
        budget.deposit_at(at(2_000));
        assert_eq!(take_all(&budget, at(3_100)), 0);
    }

    /// It read the clock, was interrupted for longer than a window, and continues.
    #[test]
    fn a_thread_that_is_late_wipes_nothing_out() {
        let budget = budget(1.0, 5, 1_000);
        let at = |ms| origin(&budget) + Duration::from_millis(ms);
        assert_eq!(take_all(&budget, at(1_000)), 5);
        assert!(budget.withdraw_at(at(0)).is_none());
        budget.deposit_at(at(1_000));
        budget.deposit_at(at(0));
        let late = budget.withdraw_at(at(0)).unwrap();
        assert_eq!(take_all(&budget, at(1_000)), 1);
        drop(late);
        assert_eq!(take_all(&budget, at(1_000)), 1);
    }

    #[test]
    fn clones_share_the_balance() {
        let one = budget(1.0, 0, 10_000);
        let other = one.clone();
        one.deposit();
        other.withdraw().unwrap().spend();
        assert!(one.withdraw().is_none());
        assert_eq!(one.balance(), 0);
    }

    #[test]
    fn threads_neither_lose_a_deposit_nor_take_one_twice() {
        let budget = budget(1.0, 0, 86_400_000);
        let four = |work: &(dyn Fn() -> u64 + Sync)| -> u64 {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .sum()
            })
        };
        four(&|| {
            (0..10_000).for_each(|_| budget.deposit());
            0
        });
        assert_eq!(budget.balance(), 40_000);
        assert_eq!(four(&|| take_all(&budget, Instant::now())), 40_000);
    }

    #[test]
    fn an_unlimited_budget_has_no_end() {
        let budget = Budget::unlimited();
        (0..1_000).for_each(|_| budget.withdraw().unwrap().spend());
        assert_eq!(budget.balance(), u64::MAX);
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let builder = Budget::builder;
        let table = [
            (builder().share(f64::NAN), "share"),
            (builder().share(f64::INFINITY), "share"),
            (builder().share(-0.1), "share"),
            (builder().share(1_000.1), "share"),
            (builder().share(0.0).floor(0), "floor"),
            (builder().window(Duration::ZERO), "window"),
            // Would be no retry ever, and ten a second.
            (
                builder().floor(1).window(Duration::from_millis(500)),
                "floor",
            ),
            (
                builder().floor(19).window(Duration::from_millis(100)),
                "floor",
            ),
            (builder().window(Duration::MAX), "window"),
        ];
        for (builder, setting) in table {
            assert_eq!(
                builder.build().unwrap_err().setting(),
                setting,
                "{builder:?}"
            );
        }
        assert!(
            builder()
                .share(1_000.0)
                .floor(u32::MAX)
                .window(Duration::from_secs(86_400))
                .build()
                .is_ok()
        );
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Deposit,
        Spend,
        Drop,
        Wait(u64),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Deposit),
            3 => Just(Step::Spend),
            1 => Just(Step::Drop),
            2 => (0_u64..400).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Whatever happens: in every window, no more retries than the share and the floor allow.
        #[test]
        fn no_window_has_more_retries_than_its_share_and_floor(
            share in 0.05_f64..1.5, floor in 0_u32..5, steps in prop::collection::vec(any_step(), 1..300),
        ) {
            let budget = budget(share, floor, 1_000);
            let (start, mut ms) = (origin(&budget), 0);
            let (mut first, mut again) = (Vec::new(), Vec::new());
            for step in steps {
                let now = start + Duration::from_millis(ms);
                match step {
                    Step::Wait(more) => ms += more,
                    Step::Deposit => {
                        budget.deposit_at(now);
                        first.push(ms / 100);
                    }
                    Step::Drop => drop(budget.withdraw_at(now)),
                    Step::Spend => {
                        let Some(permit) = budget.withdraw_at(now) else { continue };
                        permit.spend();
                        again.push(ms / 100);
                        let tick = ms / 100;
                        let recent = |ticks: &[u64]| ticks.iter().filter(|&&then| then + 10 > tick).count();
                        #[expect(clippy::cast_precision_loss, reason = "small")]
                        let allowed = recent(&first) as f64 * share + f64::from(floor);
                        #[expect(clippy::cast_precision_loss, reason = "small")]
                        let retries = recent(&again) as f64;
                        prop_assert!(retries <= allowed + 1e-3, "{retries} > {allowed}");
                    }
                }
            }
        }
    }
}
