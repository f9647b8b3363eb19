//! `rocket-oidc doctor`: diagnoses what prevents sign-in, from the app's settings to the provider's responses. One
//! file for each group of checks.

mod app_side;
mod client_keys;
mod clock;
mod configuration;
mod endpoints;
mod github;
mod key_set;
mod metadata;
mod posture;
mod reach;
mod registration;

use std::{process::ExitCode, sync::Arc};

use time::OffsetDateTime;

use self::posture::Posture;
use super::{Failure, app::App, report::Report, terminal::Terminal};
use crate::{
    clock::Clock,
    cookies::Cookies,
    fairing::{key_ring, start_dev_providers},
    provider::Provider,
    settings::{Mode, ProviderKind, ProviderMode, Registration, SecurityProfile, Settings, Site},
};

/// Diagnose why sign-in fails
///
/// Reads the settings as the app does, from Rocket.toml and the environment of this directory, and
/// sends test requests to the provider: an authorization request without a user, a made-up code and a
/// made-up token. No user signs in, and nothing is changed at the provider. Settings in the app's code
/// (`Oidc::custom`, `Oidc::session_store`) are not included.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Rocket profile, such as release [default: ROCKET_PROFILE, or debug]; or a security profile, fapi2 or
    /// oauth21, with which the app and its provider are compared. May be given twice
    #[arg(long)]
    profile: Vec<String>,
    /// Of several providers, check only the one with this name, a table of `oidc.providers`
    #[arg(long)]
    provider: Option<String>,
    /// Write the report as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) async fn run(self, terminal: &Terminal) -> ExitCode {
        let mut doctor = Doctor {
            report: Report::default(),
            terminal: *terminal,
            provider: self.provider,
            posture: None,
        };
        let is_security_profile = |name: &&String| SecurityProfile::named(name).is_some();
        let of_security = self.profile.iter().find(is_security_profile);
        let of_rocket = self.profile.iter().find(|name| !is_security_profile(name));
        let security_profile = of_security.and_then(|name| SecurityProfile::named(name));
        doctor.examine(of_rocket.map(String::as_str), security_profile).await;
        doctor.report.write(terminal, self.json)
    }
}

/// The report that all checks write to, and the terminal.
struct Doctor {
    report: Report,
    terminal: Terminal,
    /// The only one of several providers to check.
    provider: Option<String>,
    /// What to compare the app with.
    posture: Option<Posture>,
}

impl Doctor {
    async fn examine(&mut self, profile: Option<&str>, security_profile: Option<SecurityProfile>) {
        let Some((mut app, key)) = self.read(App::figment(profile)) else {
            return self.report.not_checked(&["the provider", "the app"]);
        };
        if let Some(profile) = security_profile {
            // The demands are reported one by one, rather than as an error of the settings.
            let is_set = app.settings.set_aside_profile(profile);
            let rocket_config = app.rocket_config;
            self.posture = Some(Posture {
                profile,
                is_set,
                rocket_config,
            });
        }

        // A free port: the app, which may be running, uses its own.
        let of_providers = app.settings.providers.values_mut();
        let of_providers = of_providers.filter_map(|own| own.dev_provider.as_mut());
        for dev_provider in of_providers.chain(&mut app.settings.dev_provider) {
            dev_provider.port = 0;
        }
        let started = start_dev_providers(&mut app.settings, &app.rocket_config, &Clock::default()).await;
        // The provider is a Rocket app, whose log does not belong in the report.
        tracing::log::set_max_level(tracing::log::LevelFilter::Off);
        let _dev_providers = match started {
            Ok(started) => started,
            Err(error) => return self.report.error("development provider", error),
        };
        let mode = match app.settings.mode(&app.rocket_config) {
            Ok(mode) => mode,
            Err(error) => {
                self.report.error("settings", error);
                return self.report.not_checked(&["the provider", "the app"]);
            }
        };
        self.insecure_settings(app.settings.insecure_settings());

        let settings = Arc::new(app.settings);
        if let Some(name) = self
            .provider
            .as_ref()
            .filter(|name| !settings.providers.contains_key(*name))
        {
            let cause = format!("there is no provider `{name}` in `oidc.providers`");
            return self.report.failure(
                "settings",
                cause,
                "name a table of `oidc.providers`, or leave `--provider` out",
            );
        }
        if !matches!(mode, Mode::Disabled { .. }) {
            self.proxies();
        }
        match mode {
            Mode::Disabled { .. } => {}
            Mode::ResourceServerOnly(registration) => {
                self.provider(registration, None, &settings).await;
                self.further_issuers(&settings).await;
            }
            Mode::RelyingParty { registration, site } => {
                let issuer = &registration.issuer;
                let keys = match key_ring(&key, &settings, &[issuer, &registration.client_id]) {
                    Ok(keys) => keys,
                    Err(error) => return self.report.error("secret_key", error),
                };
                let cookies = Cookies::new(keys, site.secure);
                self.session(&settings, &site, &cookies, issuer, app.rocket_config.debug)
                    .await;
                self.callback(&site);
                self.provider(registration, Some(&site), &settings).await;
                self.further_issuers(&settings).await;
            }
            Mode::SeveralProviders { providers, site } => {
                let keys = match key_ring(&key, &settings, &["", site.base_url.as_str()]) {
                    Ok(keys) => keys,
                    Err(error) => return self.report.error("secret_key", error),
                };
                let cookies = Cookies::new(keys, site.secure);
                self.session(&settings, &site, &cookies, "", app.rocket_config.debug)
                    .await;
                let only = self.provider.take();
                let is_meant =
                    |it: &ProviderMode| only.as_deref().is_none_or(|only| it.settings.provider_name() == only);
                for provider in providers.into_iter().filter(is_meant) {
                    self.report.about_provider(provider.settings.provider_name());
                    self.insecure_settings(provider.settings.insecure_settings_of_provider());
                    self.callback(&provider.site);
                    let (site, settings) = (provider.site, Arc::new(provider.settings));
                    Box::pin(self.provider(provider.registration, Some(&site), &settings)).await;
                }
                self.report.about_app();
                self.further_issuers(&settings).await;
            }
        }
    }

    /// Checks the provider, and the app's registration at it.
    async fn provider(&mut self, registration: Registration, site: Option<&Site>, settings: &Arc<Settings>) {
        let redirect_uri = site.map(|site| site.redirect_uri.clone());
        let provider = match Provider::new(registration, redirect_uri, settings.clone()) {
            Ok(provider) => Arc::new(provider),
            Err(error) => return self.report.error("HTTP client", error),
        };
        self.posture_of_settings(&provider);
        if provider.registration.kind() == ProviderKind::GitHub {
            return self.github(&provider, site).await;
        }
        let Some(found) = self.reach(&provider, "").await else {
            let rest = ["keys", "clock", "registration", "endpoints", "scopes"];
            return self.report.not_checked(&rest);
        };
        self.posture_of_provider(&provider, &found.metadata);
        self.key_set(&provider, &found.metadata, "").await;
        self.accepts(settings.accepts, &found.metadata, "");
        if let Some(site) = site {
            self.supported_features(&provider, &found);
            self.redirect_uri(&provider, &found.metadata).await;
            self.scopes(&provider, &found.metadata);
            self.binding(&provider, &found.metadata);
            self.user_info(&provider, &found.metadata).await;
            self.end_session(&provider, &found.metadata, site).await;
            self.path(&provider, settings, site).await;
            self.backchannel_logout(&provider, &found, site).await;
            self.client_keys(&provider, &found, settings, site).await;
            self.client_certificate(&provider, &found.metadata);
            if !self.client_authentication(&provider, &found.metadata).await {
                return self.report.not_checked(&["revocation", "introspection"]);
            }
            self.revocation(&provider, &found.metadata).await;
        }
        self.introspection(&provider, &found.metadata).await;
        let base_url = site.map(|site| &site.base_url);
        let base_url = base_url.or(settings.base_url.as_ref());
        self.protected_resources(&provider, settings, base_url).await;
    }

    /// Checks the further issuers whose access tokens are accepted.
    async fn further_issuers(&mut self, settings: &Arc<Settings>) {
        for (name, other) in &settings.issuers {
            let prefix = format!("issuers.{name} ");
            let registration = other.registration(name, settings).map_err(Failure::from);
            let provider = registration.and_then(|it| Ok(Arc::new(Provider::new(it, None, settings.clone())?)));
            let provider = match provider {
                Ok(provider) => provider,
                Err(failure) => {
                    self.report.error(&format!("{prefix}settings"), failure);
                    continue;
                }
            };
            if let Some(found) = self.reach(&provider, &prefix).await {
                self.key_set(&provider, &found.metadata, &prefix).await;
                self.accepts(other.accepts, &found.metadata, &prefix);
            }
        }
    }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
