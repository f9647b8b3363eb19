//! Checks of the provider's keys: which are usable, and whether they match its algorithms.

use std::sync::Arc;

use super::Doctor;
use crate::{
    provider::{Metadata, Provider},
    token::{KeySet, SigningAlgorithm},
};

impl Doctor {
    pub(super) async fn key_set(&mut self, provider: &Arc<Provider>, metadata: &Metadata, prefix: &str) {
        let check = format!("{prefix}keys");
        let work = provider.key_set_reply(metadata);
        let reply = match self.terminal.wait("reading the provider's keys", work).await {
            Ok(reply) => reply,
            Err(error) => {
                let url = metadata.jwks_uri().map_or("no URL", |url| url.as_str());
                let finding = format!("{error} (at {url})");
                return self.report.failure(&check, finding, error.remedy());
            }
        };
        let keys = match KeySet::parse(reply.body()) {
            Ok(keys) => keys,
            Err(error) => return self.report.failure(&check, error.to_string(), error.remedy()),
        };

        let allowed = provider.id_token_algorithms(metadata);
        self.usable_keys(&check, &keys, &allowed);
        let skipped = keys.skipped().iter();
        // Encryption keys are normal in a provider's key set, and do not sign tokens.
        for skipped in skipped.filter(|key| !key.is_for_encryption()) {
            let name = match &skipped.kid {
                Some(kid) => format!("{kid:?}"),
                None => format!("number {}", skipped.index + 1),
            };
            self.report.warning(
                &check,
                format!("the key {name} is not used: {}", skipped.reason),
                "no action is needed, unless tokens for this app are signed with it",
            );
        }
    }

    fn usable_keys(&mut self, check: &str, keys: &KeySet, allowed: &[SigningAlgorithm]) {
        let found: Vec<SigningAlgorithm> = keys.usable().flat_map(|(_, verifies)| verifies).collect();
        if !allowed
            .iter()
            .any(|algorithm| found.contains(algorithm) || algorithm.is_symmetric())
        {
            let wanted: Vec<&str> = allowed.iter().map(|algorithm| algorithm.as_str()).collect();
            let (count, wanted) = (keys.len(), wanted.join(", "));
            let finding = format!("{count} usable keys, but none for the expected algorithms: {wanted}");
            let remedy = "publish the signing keys at the provider, or correct `id_token_signing_algs`";
            return self.report.failure(check, finding, remedy);
        }
        let names = keys.usable().map(|(kid, verifies)| {
            let verifies: Vec<&str> = verifies.iter().map(|algorithm| algorithm.as_str()).collect();
            format!("{} ({})", kid.unwrap_or("without `kid`"), verifies.join(" "))
        });
        const MAX_NAMES: usize = 6;
        let mut names: Vec<String> = names.collect();
        if names.len() > MAX_NAMES {
            let further = names.len() - MAX_NAMES;
            names.truncate(MAX_NAMES);
            names.push(format!("and {further} more"));
        }
        let finding = format!("{} usable: {}", keys.len(), names.join(", "));
        self.report.ok(check, finding);
    }
}
