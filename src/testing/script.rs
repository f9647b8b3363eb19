//! The scripted failures of the test provider: for all of an app's providers, and for each of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Map, Value, json};

use crate::{
    dev_provider::{ClaimsHook, Statement},
    provider::Endpoint,
};

/// What goes wrong.
#[derive(Default)]
pub(super) struct Script {
    pub(super) is_down: bool,
    pub(super) statuses: HashMap<Endpoint, u16>,
    pub(super) delays: HashMap<Endpoint, Duration>,
    pub(super) other_sub: bool,
    pub(super) id_token: Option<Arc<ChangeClaims>>,
}

pub(super) type ChangeClaims = dyn Fn(&mut Map<String, Value>) + Send + Sync;

/// What goes wrong at all providers, and at each, by name.
#[derive(Default)]
pub(super) struct Scripts {
    of_all: Script,
    of_each: BTreeMap<Arc<str>, Script>,
}

/// What goes wrong at one endpoint of one provider.
pub(super) struct Failures {
    pub(super) is_down: bool,
    pub(super) status: Option<u16>,
    pub(super) delay: Duration,
}

impl Scripts {
    /// The script of the provider with this name, or that of all.
    pub(super) fn script(&mut self, name: Option<&Arc<str>>) -> &mut Script {
        match name {
            Some(name) => self.of_each.entry(name.clone()).or_default(),
            None => &mut self.of_all,
        }
    }

    /// Ends the failures of the provider with this name, or all.
    pub(super) fn recover(&mut self, name: Option<&Arc<str>>) {
        match name {
            Some(name) => drop(self.of_each.remove(name)),
            None => *self = Scripts::default(),
        }
    }

    /// The failures at a provider; its own script takes precedence.
    pub(super) fn failures(&self, name: &str, endpoint: Endpoint) -> Failures {
        let own = self.of_each.get(name);
        let delay = own.and_then(|own| own.delays.get(&endpoint));
        let status = own.and_then(|own| own.statuses.get(&endpoint));
        Failures {
            is_down: self.of_all.is_down || own.is_some_and(|own| own.is_down),
            status: status.or_else(|| self.of_all.statuses.get(&endpoint)).copied(),
            delay: delay
                .or_else(|| self.of_all.delays.get(&endpoint))
                .copied()
                .unwrap_or_default(),
        }
    }
}

/// Changes the claims that the provider with this name sends, as its script says.
pub(super) fn claims_hook(scripts: &Arc<Mutex<Scripts>>, name: &Arc<str>) -> ClaimsHook {
    let (scripts, name) = (scripts.clone(), name.clone());
    Box::new(move |statement, claims| {
        // The lock is released before the test's function runs.
        let (other_sub, change) = {
            let scripts = lock(&scripts);
            let (all, own) = (&scripts.of_all, scripts.of_each.get(&name));
            let other_sub = all.other_sub || own.is_some_and(|own| own.other_sub);
            let change = own.and_then(|own| own.id_token.as_ref());
            (other_sub, change.or(all.id_token.as_ref()).cloned())
        };
        if other_sub && statement != Statement::IdToken {
            claims.insert("sub".into(), json!("another user"));
        }
        if let (Some(change), true) = (change, statement != Statement::UserInfo) {
            change(claims);
        }
    })
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
