//! `rocket-oidc token`: shows how a `Bearer` guard of this app validates a token, check by check.

use std::{
    fs,
    io::{IsTerminal, stdin},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use time::OffsetDateTime;

use super::{
    Failure,
    app::App,
    read_token,
    report::{Check, Report, Verdict},
    terminal::Terminal,
};
use crate::{
    clock::Clock,
    dev_provider::CLIENT_ID,
    provider::Provider,
    resource_server::{BearerError, ExaminedField, ResourceServer},
    settings::{Mode, Settings},
    token::KeySet,
};

/// Show how a `Bearer` guard of the app validates an access token, check by check
///
/// Reads the settings as the app does, from Rocket.toml and the environment of this directory, and
/// fetches the provider's keys, or calls its introspection endpoint if the token is not a JWT. The
/// token itself is never written.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The access token. If omitted or `-`, it is read from standard input, which keeps it out of
    /// lists of processes
    // Opaque tokens may begin with a hyphen.
    #[arg(allow_hyphen_values = true)]
    token: Option<String>,
    /// A JWK Set to verify the signature with, instead of requests to the provider
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
    /// The API of the route, by its name in the setting `apis`
    #[arg(long, value_name = "NAME")]
    api: Option<String>,
    /// The scopes that the route requires, separated by spaces
    #[arg(long, value_name = "SCOPES", default_value = "")]
    scope: String,
    /// Validate as of this time, in seconds since 1970 [default: now]
    #[arg(long, value_name = "SECONDS")]
    now: Option<i64>,
    /// Rocket profile, such as release [default: ROCKET_PROFILE, or debug]
    #[arg(long)]
    profile: Option<String>,
    /// Write the report as JSON
    #[arg(long)]
    json: bool,
}

/// Claims that hold seconds since 1970, which are displayed as dates.
const TIMES: [&str; 3] = ["exp", "nbf", "iat"];

impl Arguments {
    pub(super) async fn run(self, terminal: &Terminal) -> Result<ExitCode, Failure> {
        let keys = self.jwks.as_deref().map(read_keys).transpose()?;
        let now = match self.now {
            None => OffsetDateTime::now_utc(),
            Some(seconds) => OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| {
                let cause = format!("{seconds} is not a time");
                Failure::new(cause, "pass seconds since 1970, as in `exp`")
            })?,
        };
        let app = App::read(App::figment(self.profile.as_deref()))?;
        let resource_server = resource_server(app)?;
        let token = match self.token.as_deref() {
            Some("-") | None => {
                if stdin().is_terminal() {
                    terminal.note("Paste the token, then press Ctrl-D:");
                }
                read_token("pass the token as an argument, or write it to standard input")?
            }
            Some(token) => token.to_owned(),
        };
        let scopes: Vec<String> = self.scope.split_whitespace().map(str::to_owned).collect();
        let api = resource_server.api(self.api.as_deref()).ok_or_else(|| {
            let cause = format!("there is no API `oidc.apis.{}`", self.api.unwrap_or_default());
            Failure::new(cause, "pass the name of a table under `oidc.apis`")
        })?;
        let work = resource_server.examine(api, without_scheme(&token), keys.as_ref(), &scopes, now);
        let fields = terminal.wait("calling the provider", work).await;

        let mut report = Report::default();
        report.checks.extend(fields.into_iter().map(check));
        Ok(report.write(terminal, self.json))
    }
}

/// The app's resource server, built as in the fairing.
fn resource_server(app: App) -> Result<ResourceServer, Failure> {
    let mut settings = app.settings;
    if app.rocket_config.debug {
        set_dev_providers(&mut settings);
    }
    let mode = settings.mode(&app.rocket_config)?;
    let settings = Arc::new(settings);
    let provider = |registration, settings: &Arc<Settings>| Provider::new(registration, None, settings.clone());
    let (providers, base_url) = match mode {
        Mode::ResourceServerOnly(registration) => (vec![provider(registration, &settings)], None),
        Mode::RelyingParty { registration, site } => (vec![provider(registration, &settings)], Some(site.base_url)),
        Mode::SeveralProviders { providers, site } => {
            let providers = providers
                .into_iter()
                .map(|it| provider(it.registration, &Arc::new(it.settings)));
            (providers.collect(), Some(site.base_url))
        }
        Mode::Disabled { .. } => {
            let cause = "`enabled` is `false`, so the app accepts no tokens";
            return Err(Failure::new(cause, "set `enabled` to `true`"));
        }
    };
    let providers = providers.into_iter().map(|provider| provider.map(Arc::new));
    Ok(ResourceServer::new(
        providers.collect::<Result<_, _>>()?,
        base_url.as_ref(),
        settings,
        Clock::default(),
        None,
    )?)
}

/// Sets the issuers to the development providers that the running app has started.
fn set_dev_providers(settings: &mut Settings) {
    settings.separate_dev_provider_ports();
    set_dev_provider(settings);
    settings.providers.values_mut().for_each(set_dev_provider);
}

fn set_dev_provider(settings: &mut Settings) {
    if let Some(dev_provider) = settings.dev_provider.as_ref()
        && settings.issuer.is_none()
    {
        settings.issuer = Some(format!("http://localhost:{}", dev_provider.port));
        settings.client_id.get_or_insert_with(|| CLIENT_ID.to_owned());
    }
}

fn check(field: ExaminedField) -> Check {
    let ExaminedField {
        name,
        expected,
        actual,
        error,
        undecided,
    } = field;
    let remedy = error.as_ref().map(|error| error.remedy().to_owned());
    // The mark already shows that the token is rejected.
    let cause = error.map(|error| match error {
        BearerError::Token(error) => error.to_string(),
        error => error.to_string(),
    });
    let (verdict, finding, remedy) = match (undecided, cause, &actual) {
        (Some(finding), ..) => {
            let remedy = "omit `--jwks`, so that the metadata is fetched".to_owned();
            (Verdict::Warning, finding, Some(remedy))
        }
        (_, Some(cause), Some(actual)) if TIMES.contains(&name) => {
            (Verdict::Failure, format!("{cause}: {actual}"), remedy)
        }
        (_, Some(cause), _) => (Verdict::Failure, cause, remedy),
        (_, None, Some(actual)) => (Verdict::Ok, format!("{actual} (expected: {expected})"), None),
        (_, None, None) => (Verdict::Ok, expected.clone(), None),
    };
    Check {
        check: name.to_owned(),
        verdict,
        finding,
        remedy,
        expected: Some(expected),
        actual,
    }
}

/// The token without a copied `Authorization:` or `Bearer` prefix.
fn without_scheme(text: &str) -> &str {
    let text = text.trim();
    let text = text.strip_prefix("Authorization:").unwrap_or(text).trim();
    match text.split_at_checked("Bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer ") => token.trim(),
        _ => text,
    }
}

fn read_keys(path: &Path) -> Result<KeySet, Failure> {
    let shown = path.display();
    let json = fs::read(path).map_err(|error| {
        let cause = format!("`{shown}` cannot be read: {error}");
        Failure::new(cause, "pass the file of a JWK Set: {\"keys\": […]}")
    })?;
    KeySet::parse(&json).map_err(|error| {
        let remedy = "save the response of the provider's `jwks_uri` to it: {\"keys\": […]}";
        Failure::new(format!("`{shown}`: {error}"), remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_token_may_have_a_header_name_and_a_scheme() {
        for text in [
            "a.b.c",
            " a.b.c\n",
            "Bearer a.b.c",
            "bearer  a.b.c",
            "Authorization: Bearer a.b.c",
        ] {
            assert_eq!(without_scheme(text), "a.b.c", "{text:?}");
        }
    }
}
