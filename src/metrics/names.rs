use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub(super) struct Names {
    pub(super) attempts: LevelNames,
    pub(super) deliveries: LevelNames,
    pub(super) attempts_each: String,
    pub(super) transitions: String,
    pub(super) breaker_state: String,
    pub(super) dead_letters: String,
    pub(super) refusals: String,
    pub(super) retries: String,
    pub(super) trips: String,
    pub(super) troubles: String,
}

pub(super) struct LevelNames {
    pub(super) total: String,
    pub(super) seconds: String,
    pub(super) in_flight: String,
}

impl Names {
    /// `retries` and `trips` replace the default names.
    pub(super) fn new(prefix: &str, retries: Option<String>, trips: Option<String>) -> Self {
        let level = |one: &str, many: &str| LevelNames {
            total: format!("{prefix}{many}_total"),
            seconds: format!("{prefix}{one}_duration_seconds"),
            in_flight: format!("{prefix}{many}_in_flight"),
        };
        Self {
            retries: retries.unwrap_or_else(|| format!("{prefix}retries_total")),
            trips: trips.unwrap_or_else(|| format!("{prefix}breaker_trips_total")),
            attempts: level("attempt", "attempts"),
            deliveries: level("delivery", "deliveries"),
            attempts_each: format!("{prefix}delivery_attempts"),
            transitions: format!("{prefix}breaker_transitions_total"),
            breaker_state: format!("{prefix}breaker_state"),
            dead_letters: format!("{prefix}dead_letters_total"),
            refusals: format!("{prefix}refusals_total"),
            troubles: format!("{prefix}troubles_total"),
        }
    }

    pub(super) fn describe(&self) {
        for (names, what, but) in [
            (&self.attempts, "attempts", ""),
            (
                &self.deliveries,
                "deliveries",
                ", tasks of a queue left out",
            ),
        ] {
            let LevelNames {
                total,
                seconds,
                in_flight,
            } = names;
            describe_counter!(
                total.clone(),
                Unit::Count,
                format!("Webhook {what} that have ended, by outcome")
            );
            describe_histogram!(
                seconds.clone(),
                Unit::Seconds,
                format!("How long webhook {what} took, cancelled ones left out")
            );
            describe_gauge!(
                in_flight.clone(),
                Unit::Count,
                format!("Webhook {what} that have begun and not ended{but}")
            );
        }
        describe_histogram!(
            self.attempts_each.clone(),
            Unit::Count,
            "Attempts that a webhook delivery took"
        );
        describe_counter!(
            self.transitions.clone(),
            Unit::Count,
            "Changes of state of circuit breakers, by the new state"
        );
        describe_gauge!(
            self.breaker_state.clone(),
            Unit::Count,
            "1 for the state that a circuit breaker is in, 0 for the others"
        );
        describe_counter!(
            self.dead_letters.clone(),
            Unit::Count,
            "Webhook deliveries that were given up, by reason and by where their entry ended up"
        );
        describe_counter!(
            self.refusals.clone(),
            Unit::Count,
            "Webhook requests that a layer refused, by layer or signature scheme, and by reason"
        );
        describe_counter!(
            self.troubles.clone(),
            Unit::Count,
            "What went wrong and an operator should know of, by the part of the library"
        );
        describe_counter!(
            self.retries.clone(),
            Unit::Count,
            "Webhook attempts beyond the first, by the status of the attempt before"
        );
        describe_counter!(
            self.trips.clone(),
            Unit::Count,
            "How often a circuit breaker opened"
        );
    }
}
