//! The circuit breaker of a kind of calls: opened by outages of the provider, and by none that a stranger can bring about.

use std::time::Duration;

use time::OffsetDateTime;

use super::{ProviderError, back_off::BackOff};

/// So many outages in a row open the breaker; one that says `Retry-After` does it alone.
const OUTAGES: u32 = 5;

/// Which outages count for the breaker, so that no stranger opens it for everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CountedOutages {
    /// All: the same call had an answer before.
    All,
    /// All but status 500, which may be about a value that somebody else chose.
    AllButStatus500,
    /// Status 429, which is about how often this app asks: all else may be about what is sent, which a stranger made up.
    OnlyStatus429,
}

impl CountedOutages {
    fn has(self, outage: &ProviderError) -> bool {
        let is = |code| matches!(outage, ProviderError::Status { status, .. } if *status == code);
        match self {
            CountedOutages::All => true,
            CountedOutages::AllButStatus500 => !is(500),
            CountedOutages::OnlyStatus429 => is(429),
        }
    }

    /// Whether a call tells what it came to while the breaker is open.
    fn may_probe(self) -> bool {
        self != CountedOutages::OnlyStatus429
    }
}

/// Opens after outages that count, and closes when one call gets an answer.
///
/// When the wait is over, one call at a time finds out. Calls that cannot tell are made beside it: a stranger does not
/// take the place of the one that can.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Outages in a row.
    outages: u32,
    /// While it is open.
    open: Option<BackOff>,
    /// Whether one call is under way to find out.
    is_probing: bool,
}

impl Breaker {
    pub(super) fn check(
        &self,
        counted: CountedOutages,
        now: OffsetDateTime,
    ) -> Result<(), ProviderError> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        open.check(now)?;
        match self.is_probing && counted.may_probe() {
            true => Err(open.last_failure()),
            false => Ok(()),
        }
    }

    /// Whether the call that is let go is the probe.
    pub(super) fn admit(
        &mut self,
        counted: CountedOutages,
        now: OffsetDateTime,
    ) -> Result<bool, ProviderError> {
        self.check(counted, now)?;
        let is_probe = self.open.is_some() && counted.may_probe();
        self.is_probing |= is_probe;
        Ok(is_probe)
    }

    /// Nobody waits for the probe any more.
    pub(super) fn probe_dropped(&mut self) {
        self.is_probing = false;
    }

    /// A call ended. Answers for how long it opens the breaker, if it does.
    pub(super) fn ended(
        &mut self,
        is_probe: bool,
        counted: CountedOutages,
        error: Option<&ProviderError>,
        now: OffsetDateTime,
    ) -> Option<Duration> {
        if is_probe {
            self.is_probing = false;
        }
        let Some(outage) = error.filter(|error| error.is_outage()) else {
            // Whatever it answered, it answers.
            *self = Breaker::default();
            return None;
        };
        if !counted.has(outage) {
            return None;
        }
        self.outages = self.outages.saturating_add(1);
        match &mut self.open {
            // The wait is over, and was too short.
            Some(open) if is_probe || !counted.may_probe() && open.check(now).is_ok() => {
                Some(open.failed(now, outage))
            }
            // It was under way before.
            Some(_) => None,
            None if self.outages >= OUTAGES || outage.retry_after().is_some() => {
                let open = self.open.insert(BackOff::default());
                Some(open.failed(now, outage))
            }
            None => None,
        }
    }
}
