//! `rocket-oidc token`: shows how a `Bearer` guard of this app validates a token, check by check.

use std::{
    fs,
    io::{IsTerminal, Read, stdin},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use time::OffsetDateTime;

use super::{
    Failure,
    app::App,
    report::{Check, Report, Verdict},
    terminal::Terminal,
};
use crate::{
    clock::Clock,
    dev_provider::CLIENT_ID,
    fairing::LaunchError,
    provider::Provider,
    resource_server::{BearerError, ExaminedField, ResourceServer},
    settings::{Mode, RocketConfig, Settings},
    token::KeySet,
};

/// Say what a `Bearer` guard of the app makes of an access token, check by check
///
/// Reads the settings as the app does, from Rocket.toml and the environment of this directory, and asks
/// the provider for its keys, or about the token when it is no JWT. The token itself is never written.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The access token; without it, or with `-`, it is read from standard input, where no list of
    /// processes shows it
    // Opaque tokens may begin with a hyphen.
    #[arg(allow_hyphen_values = true)]
    token: Option<String>,
    /// A JWK Set to check the signature with: nobody is asked anything
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
    /// The API that the route names, of the setting `apis`
    #[arg(long, value_name = "NAME")]
    api: Option<String>,
    /// The scopes that the route asks for, in one text
    #[arg(long, value_name = "SCOPES", default_value = "")]
    scope: String,
    /// Judge as at this time, in seconds since 1970
    #[arg(long, value_name = "SECONDS")]
    now: Option<i64>,
    /// Rocket's profile, such as release [default: ROCKET_PROFILE, else debug]
    #[arg(long)]
    profile: Option<String>,
    /// Write the report as JSON
    #[arg(long)]
    json: bool,
}

/// Claims that hold seconds since 1970, which are displayed as dates.
const TIMES: [&str; 3] = ["exp", "nbf", "iat"];

/// The maximum input size, which exceeds that of any token.
const LONGEST: u64 = 64 * 1024;

impl Arguments {
    pub(super) async fn run(self, terminal: &Terminal) -> Result<ExitCode, Failure> {
        let keys = self.jwks.as_deref().map(read_keys).transpose()?;
        let now = match self.now {
            None => OffsetDateTime::now_utc(),
            Some(seconds) => OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| {
                let cause = format!("{seconds} is not a time");
                Failure::new(cause, "give seconds since 1970, as `exp` does")
            })?,
        };
        let app = App::read(App::figment(self.profile.as_deref()))?;
        let resource_server = resource_server(app)?;
        let token = match self.token.as_deref() {
            Some("-") | None => read_token(terminal)?,
            Some(token) => token.to_owned(),
        };
        let scopes: Vec<String> = self.scope.split_whitespace().map(str::to_owned).collect();
        let api = self.api.as_deref();
        let api = resource_server.api(api).ok_or_else(|| {
            let name = api.unwrap_or_default();
            let cause = format!("there is no API `oidc.apis.{name}`");
            Failure::new(cause, "give the name of a table below `oidc.apis`")
        })?;
        let work = resource_server.examine(api, bare(&token), keys.as_ref(), &scopes, now);
        let fields = terminal.wait("asking the provider", work).await;

        let mut report = Report::default();
        for field in fields {
            report.add(check(field));
        }
        Ok(report.write(terminal, self.json))
    }
}

/// The app's resource server, built as in the fairing.
fn resource_server(app: App) -> Result<ResourceServer, Failure> {
    let App {
        mut settings,
        rocket_config,
        ..
    } = app;
    name_dev_provider(&mut settings, &rocket_config);
    let (registration, base_url) = match settings.mode(&rocket_config)? {
        Mode::ResourceServerOnly(registration) => (registration, None),
        Mode::RelyingParty { registration, site } => (registration, Some(site.base_url)),
        Mode::Disabled { .. } => {
            let cause = "`enabled = false`: the app accepts no token";
            return Err(Failure::new(cause, "set `enabled = true`"));
        }
    };
    let settings = Arc::new(settings);
    let provider = Arc::new(Provider::new(registration, None, settings.clone())?);
    ResourceServer::new(provider, base_url.as_ref(), settings, Clock::default()).map_err(|error| {
        let error = LaunchError::from(error);
        Failure::new(error.to_string(), error.remedy())
    })
}

/// Sets the issuer to the development provider that the running app has started.
fn name_dev_provider(settings: &mut Settings, rocket_config: &RocketConfig) {
    if let Some(dev_provider) = settings.dev_provider.as_ref()
        && rocket_config.debug
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
    if let Some(finding) = undecided {
        return Check {
            check: name.to_owned(),
            verdict: Verdict::Warning,
            finding,
            remedy: Some("leave out `--jwks`, so that the metadata is read".to_owned()),
            expected: Some(expected),
            actual,
        };
    }
    let remedy = error.as_ref().map(|error| error.remedy().to_owned());
    let (verdict, finding) = match (&error, &actual) {
        (None, Some(actual)) => (Verdict::Ok, format!("{actual} (expected: {expected})")),
        (None, None) => (Verdict::Ok, expected.clone()),
        // The mark already shows that the token is rejected.
        (Some(BearerError::Token(error)), Some(actual)) if TIMES.contains(&name) => {
            (Verdict::Failure, format!("{error}: {actual}"))
        }
        (Some(BearerError::Token(error)), _) => (Verdict::Failure, error.to_string()),
        (Some(error), _) => (Verdict::Failure, error.to_string()),
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
fn bare(text: &str) -> &str {
    let text = text.trim();
    let text = text.strip_prefix("Authorization:").unwrap_or(text).trim();
    match text.split_at_checked("Bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer ") => token.trim(),
        _ => text,
    }
}

fn read_token(terminal: &Terminal) -> Result<String, Failure> {
    if stdin().is_terminal() {
        terminal.note("Paste the token, then press Ctrl-D:");
    }
    let mut text = String::new();
    let read = stdin().take(LONGEST).read_to_string(&mut text);
    if read.is_ok() && !text.trim().is_empty() {
        Ok(text)
    } else {
        Err(Failure::new(
            "standard input holds no token",
            "give the token as an argument, or write it into standard input",
        ))
    }
}

fn read_keys(path: &Path) -> Result<KeySet, Failure> {
    let shown = path.display();
    let json = fs::read(path).map_err(|error| {
        let cause = format!("`{shown}` cannot be read: {error}");
        Failure::new(cause, "name the file of a JWK Set: {\"keys\": […]}")
    })?;
    KeySet::parse(&json).map_err(|error| {
        Failure::new(
            format!("`{shown}`: {error}"),
            "save there what the provider's `jwks_uri` answers: {\"keys\": […]}",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_in_what_people_paste() {
        for text in [
            "a.b.c",
            " a.b.c\n",
            "Bearer a.b.c",
            "bearer  a.b.c",
            "Authorization: Bearer a.b.c",
        ] {
            assert_eq!(bare(text), "a.b.c", "{text:?}");
        }
    }
}
