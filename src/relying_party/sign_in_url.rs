//! The URL of a sign-in with parameters of its own.

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use time::OffsetDateTime;

use super::{LocalPage, RelyingParty, SignInError, User, with_next};
use crate::{
    code_flow::{ReturnTo, SignInParameters},
    keys::{KeyRing, Purpose},
    requirement::RequiredAuthentication,
};

/// The URL of a sign-in that asks for more than the settings do, from
/// [`RelyingParty::sign_in_url`](crate::RelyingParty::sign_in_url). `to_string()` makes the URL: to put into a page, or
/// to redirect to.
///
/// The URL has the parameters in encrypted form: a user cannot read or change them, and only the app can make such a
/// URL. It is valid for 24 hours. An attempt carries what was asked, and the answer is checked against it:
///
/// | asked | the sign-in fails unless |
/// |---|---|
/// | [`max_age`](Self::max_age) | `auth_time` is at most that long ago, with `clock_skew` |
/// | [`acr_values`](Self::acr_values) | `acr` is one of these |
/// | [`prompt`](Self::prompt) with `login`, or `max_age` of zero | `auth_time` is not before this sign-in began, with `clock_skew` |
/// | [`scope`](Self::scope) | the token response lists it, or lists no scopes (RFC 6749 §5.1) |
///
/// An absent claim satisfies nothing. What is asked here replaces the parameter of the same name in
/// `extra_authorization_parameters`, and its check.
///
/// # Security
///
/// Anyone who has the URL can begin this sign-in, in their own browser or by sending it to a user. A page that demands
/// something must check it itself: this URL is one way to it, and `{mount}/login` is another.
#[derive(Clone, Debug)]
pub struct SignInUrl<'a> {
    rp: &'a RelyingParty,
    provider: Option<String>,
    next: ReturnTo,
    parameters: SignInParameters,
}

/// The query parameter with the encrypted parameters.
pub(crate) const PARAMETERS: &str = "parameters";
/// How long such a URL is valid, in seconds.
const URL_TTL: i64 = 24 * 60 * 60;

impl<'a> SignInUrl<'a> {
    pub(super) fn new(rp: &'a RelyingParty) -> SignInUrl<'a> {
        SignInUrl {
            rp,
            provider: None,
            next: rp.home(),
            parameters: SignInParameters::default(),
        }
    }

    /// Where the browser is redirected afterwards: a page of this app, as `uri!(…)` or a path. Anything else is replaced by
    /// `/`.
    ///
    /// _Default:_ `/`
    #[must_use]
    pub fn next(mut self, next: impl LocalPage) -> Self {
        self.next = self.rp.page(&next.address());
        self
    }

    /// The provider at which the user signs in, by its name in the settings. The URL of an unknown one, or of one that
    /// the app's [`provider_for`](crate::Oidc::provider_for) does not choose, responds with 404. In an app without
    /// `oidc.providers` it has no effect.
    ///
    /// _Default:_ the user chooses among several
    #[must_use]
    pub fn provider(mut self, name: &str) -> Self {
        self.provider = Some(name.to_owned());
        self
    }

    /// `prompt`: what the provider shows, such as `login` (the user authenticates again), `select_account`, `consent`,
    /// `create` (a new account), or `none`; several are separated by spaces
    /// ([Core §3.1.2.1](https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest)).
    ///
    /// With `login` a `max_age` of zero is sent too, unless another is asked for: without it a provider need not say
    /// when the user authenticated.
    #[must_use]
    pub fn prompt(self, prompt: &str) -> Self {
        self.extra("prompt", prompt)
    }

    /// `login_hint`: the account that the user probably signs in with, such as an e-mail address.
    #[must_use]
    pub fn login_hint(self, hint: &str) -> Self {
        self.extra("login_hint", hint)
    }

    /// `acr_values`: the accepted authentication contexts, in order of preference.
    #[must_use]
    pub fn acr_values<T: AsRef<str>>(self, values: impl IntoIterator<Item = T>) -> Self {
        let values: Vec<_> = values.into_iter().map(|value| value.as_ref().to_owned()).collect();
        self.extra("acr_values", &values.join(" "))
    }

    /// `max_age`: the maximum time since the user authenticated, in whole seconds. The provider asks the user to
    /// authenticate again if it was longer ago; zero always asks.
    #[must_use]
    pub fn max_age(self, age: Duration) -> Self {
        self.extra("max_age", &age.as_secs().min(u32::MAX.into()).to_string())
    }

    /// `ui_locales`: the languages of the provider's pages, in order of preference, separated by spaces.
    #[must_use]
    pub fn ui_locales(self, locales: &str) -> Self {
        self.extra("ui_locales", locales)
    }

    /// Asks for a scope in addition to the setting `scopes`; can be called repeatedly. The sign-in fails with 403 if the
    /// token response lists scopes and lacks this one. The scopes of OpenID Connect itself (`openid`, `profile`,
    /// `email`, `address`, `phone`, `offline_access`) are asked for and not compared, because providers list them under
    /// other names: look at the claims.
    #[must_use]
    pub fn scope(mut self, scope: &str) -> Self {
        self.parameters.add_scopes(scope);
        self
    }

    /// `authorization_details` ([RFC 9396](https://www.rfc-editor.org/rfc/rfc9396)): a list of objects. What the
    /// provider granted is in [`User::authorization_details`](crate::User::authorization_details); it may be less, or
    /// nothing at a provider that does not know the parameter. A value that is not JSON fails the sign-in.
    #[must_use]
    pub fn authorization_details(self, details: impl Serialize) -> Self {
        match serde_json::to_string(&details) {
            Ok(details) => self.extra("authorization_details", &details),
            Err(_) => self.extra("", "authorization_details"),
        }
    }

    /// Asks for what a guard demands; of this user, if one is given.
    pub(super) fn require(mut self, required: &RequiredAuthentication, user: Option<String>) -> Self {
        self.parameters.require(required);
        self.parameters.user = user;
        self
    }

    /// Links the account that signs in to this user.
    pub(super) fn link<C>(mut self, user: &User<C>) -> Self {
        self.parameters.user = Some(user.session().user_name());
        self.parameters.links_to = Some(user.session_id().to_owned());
        self
    }

    /// Any other parameter of the authorization request. Those of the sign-in itself cannot be set, as
    /// [`LoginRedirect::set_parameter`](crate::LoginRedirect::set_parameter) describes.
    #[must_use]
    pub fn extra(mut self, name: &str, value: &str) -> Self {
        self.parameters.set(name, value);
        self
    }
}

impl fmt::Display for SignInUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let provider = self.rp.sign_in_provider(self.provider.as_deref());
        f.write_str(&with_next(&self.rp.login_path_at(provider), &self.next))?;
        if self.parameters.is_empty() {
            return Ok(());
        }
        let now = self.rp.clock.now().unix_timestamp();
        let value = [&now.to_be_bytes()[..], self.parameters.to_text().as_bytes()].concat();
        let keys = &self.rp.cookies.keys;
        let value = keys.encrypt(Purpose::SignInUrl, provider.unwrap_or_default().as_bytes(), &value);
        write!(f, "&{PARAMETERS}={}", URL_SAFE_NO_PAD.encode(value))
    }
}

/// Decrypts the parameters of a [`SignInUrl`] at this provider, if there are several: of a URL that names it, or that lets
/// the user choose.
pub(crate) fn decrypt_parameters(
    keys: &KeyRing,
    provider: Option<&str>,
    value: &str,
    now: OffsetDateTime,
) -> Result<SignInParameters, SignInError> {
    let decrypt = || {
        let encrypted = URL_SAFE_NO_PAD.decode(value).ok()?;
        let of = |provider: &str| keys.decrypt(Purpose::SignInUrl, provider.as_bytes(), encrypted.clone());
        let value = of(provider.unwrap_or_default()).or_else(|_| of("")).ok()?;
        let (made, text) = value.plaintext.split_first_chunk()?;
        let age = now.unix_timestamp().saturating_sub(i64::from_be_bytes(*made));
        let parameters = SignInParameters::parse(std::str::from_utf8(text).ok()?)?;
        (age < URL_TTL).then_some(parameters)
    };
    decrypt().ok_or(SignInError::UrlExpired)
}
