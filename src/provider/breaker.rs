//! A circuit breaker for one kind of calls. Outages of the provider open it; an attacker's requests cannot.

use std::time::Duration;

use time::OffsetDateTime;

use super::{ProviderError, back_off::BackOff};

/// The number of consecutive outages that open the breaker. One with `Retry-After` opens it alone.
const OUTAGES: u32 = 5;

/// Which outages count, so that no attacker can open the breaker for everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CountedOutages {
    /// All: the same call has succeeded before.
    All,
    /// All except status 500, which a value chosen by a client may cause.
    AllButStatus500,
    /// Only status 429, which is about the app's request rate: any other may be caused by a made-up value of a
    /// client.
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

    /// Whether an outage of a call is conclusive, so that the call may be the probe.
    fn may_probe(self) -> bool {
        self != CountedOutages::OnlyStatus429
    }
}

/// Opens after outages that count, and closes when a call gets a response.
///
/// After the wait, one call at a time is the probe. Calls that may not probe are made beside it, so that an
/// attacker's calls do not take its place.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Consecutive outages.
    outages: u32,
    /// The back-off while it is open.
    open: Option<BackOff>,
    /// Whether a probe is in flight.
    is_probing: bool,
}

impl Breaker {
    pub(super) fn check(&self, counted: CountedOutages, now: OffsetDateTime) -> Result<(), ProviderError> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        open.check(now)?;
        if self.is_probing && counted.may_probe() {
            Err(open.last_failure())
        } else {
            Ok(())
        }
    }

    /// Admits a call; returns whether it is the probe.
    pub(super) fn admit(&mut self, counted: CountedOutages, now: OffsetDateTime) -> Result<bool, ProviderError> {
        self.check(counted, now)?;
        let is_probe = self.open.is_some() && counted.may_probe();
        self.is_probing |= is_probe;
        Ok(is_probe)
    }

    /// The probe was cancelled.
    pub(super) fn probe_dropped(&mut self) {
        self.is_probing = false;
    }

    /// Records the result of a call. Returns for how long it opens the breaker, if it does.
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
        // Nothing was sent: that the app's signer fails says nothing about the provider.
        if matches!(error, Some(ProviderError::ClientSigner { .. })) {
            return None;
        }
        let Some(outage) = error.filter(|error| error.is_outage()) else {
            // Any response shows that the provider is up.
            *self = Breaker::default();
            return None;
        };
        if !counted.has(outage) {
            return None;
        }
        self.outages = self.outages.saturating_add(1);
        match &mut self.open {
            // The breaker was half-open, and the call failed: back off longer.
            Some(open) if is_probe || !counted.may_probe() && open.check(now).is_ok() => Some(open.failed(now, outage)),
            // The call began before the breaker opened.
            Some(_) => None,
            None if self.outages >= OUTAGES || outage.retry_after().is_some() => {
                let open = self.open.insert(BackOff::default());
                Some(open.failed(now, outage))
            }
            None => None,
        }
    }
}
