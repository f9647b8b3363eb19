//! `doctor --profile fapi2`: compares the app and its provider with a security profile, demand by demand.

use super::Doctor;
use crate::{
    provider::{Metadata, Provider},
    settings::{RocketConfig, SecurityProfile},
};

/// A security profile to compare an app with, and what it depends on.
#[derive(Clone, Copy)]
pub(super) struct Posture {
    pub profile: SecurityProfile,
    /// Whether the settings have this profile.
    pub is_set: bool,
    pub rocket_config: RocketConfig,
}

impl Doctor {
    /// Reports each demand on the settings.
    pub(super) fn posture_of_settings(&mut self, provider: &Provider) {
        let Some(posture) = self.posture else { return };
        let check = posture.profile.as_str();
        if posture.is_set {
            let finding = "`profile` is set, so that a launch fails where a demand is not met";
            self.report.ok(check, finding);
        } else {
            let finding = format!("`profile = \"{check}\"` is not set, so that nothing demands this profile at launch");
            let remedy = format!("set `profile = \"{check}\"` in the table `oidc`: it also turns on what it needs");
            self.report.warning(check, finding, remedy);
        }
        let (settings, registration) = (&provider.settings, &provider.registration);
        for demand in settings.profile_demands(posture.profile, registration, &posture.rocket_config) {
            match demand.verdict {
                Ok(()) => self.report.ok(check, demand.text),
                Err(error) => self
                    .report
                    .failure(check, format!("{}: {error}", demand.text), error.remedy()),
            }
        }
    }

    /// Reports each demand on the provider's metadata.
    pub(super) fn posture_of_provider(&mut self, provider: &Provider, metadata: &Metadata) {
        let Some(Posture { profile, .. }) = self.posture else {
            return;
        };
        for demand in provider.profile_demands(profile, metadata) {
            let (member, expected) = (demand.member, &demand.expected);
            let check = profile.as_str();
            if demand.is_met {
                self.report.ok(check, format!("`{member}` must {expected}"));
            } else {
                let finding = format!("`{member}` in the metadata must {expected}, and does not");
                self.report
                    .failure(check, finding, "enable it at the provider, or use another provider");
            }
        }
    }
}
