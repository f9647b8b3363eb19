//! What a guard demands of the user's authentication: how recent it is, and its authentication context.

use std::{marker::PhantomData, time::Duration};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A demand on the user's authentication: the last type parameter of guards such as
/// [`LoggedIn`](crate::LoggedIn) and [`Bearer`](crate::Bearer).
///
/// It is implemented by [`Fresh`], [`Acr`], [`SignedInAt`], `()`, which demands nothing, and by tuples, which demand all of their parts in
/// **one** sign-in: the shortest time, and the authentication contexts that all of them accept.
///
/// ```
/// use rocket::post;
/// use rocket_openidconnect::{Acr, Claims, Fresh, LoggedIn, acr_values};
///
/// acr_values! {
///     /// A second factor.
///     pub SecondFactor = "gold" | "platinum";
/// }
///
/// #[post("/transfer")]
/// fn transfer(user: LoggedIn<Claims, (Fresh<5>, Acr<SecondFactor>)>) -> String {
///     format!("transferred by {}", user.subject())
/// }
/// ```
///
/// A user who falls short is sent to the provider once, with `max_age` and `acr_values` (OpenID Connect Core 1.0
/// §3.1.2.1). An API answers with the challenge of
/// [RFC 9470](https://www.rfc-editor.org/rfc/rfc9470#section-3).
///
/// # Security
///
/// What counts is `auth_time` and `acr` of the ID token of the sign-in, not of a refresh, and for an API those of the
/// access token. An absent claim satisfies nothing, and so does a user without an ID token
/// ([`UserKind::OAuth2`](crate::UserKind::OAuth2)): the sign-in that a guard then asks for ends with an error page, 403.
/// `clock_skew` is added to the time.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a requirement of the user's authentication",
    label = "expected a type such as `Fresh<5>`, `Acr<SecondFactor>` or a tuple of them",
    note = "the claims type comes first: `LoggedIn<Claims, Fresh<5>>`"
)]
pub trait Requirement: Send + Sync + 'static {
    /// What is demanded.
    fn required() -> RequiredAuthentication;
}

/// What a [`Requirement`] demands of the user's authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RequiredAuthentication {
    /// In seconds; `None` for any time.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age: Option<u32>,
    /// `None` for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    acr_values: Option<Vec<&'static str>>,
    /// `None` for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    providers: Option<Vec<&'static str>>,
}

/// The error code of RFC 9470 §3.
pub(crate) const INSUFFICIENT: &str = "insufficient_user_authentication";

/// The authentication of a user: what a session keeps of the sign-in's ID token, or an access token says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Authentication {
    /// `auth_time`, in seconds since 1970.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<i64>,
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub(crate) acr: Option<String>,
}

impl Authentication {
    /// Whether nothing is known about it.
    pub(crate) fn is_unknown(&self) -> bool {
        *self == Authentication::default()
    }
}

impl RequiredAuthentication {
    /// Nothing in particular.
    pub fn any() -> RequiredAuthentication {
        RequiredAuthentication::default()
    }

    /// The user authenticated within this time, in whole seconds.
    #[must_use]
    pub fn within(mut self, max_age: Duration) -> Self {
        let seconds = u32::try_from(max_age.as_secs()).unwrap_or(u32::MAX);
        self.max_age = Some(self.max_age.map_or(seconds, |other| other.min(seconds)));
        self
    }

    /// The authentication context is one of these, and one of those demanded before.
    #[must_use]
    pub fn one_of(mut self, acr_values: &[&'static str]) -> Self {
        let accepted = |value: &&&str| self.acr_values.as_ref().is_none_or(|before| before.contains(*value));
        self.acr_values = Some(acr_values.iter().filter(accepted).copied().collect());
        self
    }

    /// The user signed in at this provider, by its name in the settings.
    #[must_use]
    pub fn at_provider(self, name: &'static str) -> Self {
        self.at_one_of(&[name])
    }

    fn at_one_of(mut self, names: &[&'static str]) -> Self {
        let accepted = |name: &&&str| self.providers.as_ref().is_none_or(|before| before.contains(*name));
        self.providers = Some(names.iter().filter(accepted).copied().collect());
        self
    }

    /// This and another demand.
    #[must_use]
    pub fn and(self, other: RequiredAuthentication) -> Self {
        let mut both = self;
        if let Some(names) = &other.providers {
            both = both.at_one_of(names);
        }
        if let Some(seconds) = other.max_age {
            both = both.within(Duration::from_secs(seconds.into()));
        }
        match other.acr_values {
            Some(values) => both.one_of(&values),
            None => both,
        }
    }

    /// The maximum time since the user authenticated.
    pub fn max_age(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.max_age?.into()))
    }

    /// The accepted authentication contexts; `None` for any.
    pub fn acr_values(&self) -> Option<&[&'static str]> {
        self.acr_values.as_deref()
    }

    /// The name of the provider at which the user must have signed in; `None` for any.
    pub fn provider(&self) -> Option<&'static str> {
        self.providers.as_ref()?.first().copied()
    }

    /// Whether no authentication can satisfy it: two parts of a tuple accept no common `acr`, or name two providers.
    pub(crate) fn is_contradictory(&self) -> bool {
        let is_empty = |values: &Option<Vec<_>>| values.as_ref().is_some_and(Vec::is_empty);
        is_empty(&self.acr_values) || is_empty(&self.providers)
    }

    /// Whether users of this provider can satisfy it.
    pub(crate) fn allows_provider(&self, name: &str) -> bool {
        self.providers.as_ref().is_none_or(|accepted| accepted.contains(&name))
    }

    /// The parameters of a challenge.
    pub(crate) fn challenge_parameters(&self) -> impl Iterator<Item = (&'static str, String)> {
        let acr_values = self.acr_values.as_ref().map(|values| ("acr_values", values.join(" ")));
        let max_age = self.max_age.map(|seconds| ("max_age", seconds.to_string()));
        acr_values.into_iter().chain(max_age)
    }

    /// Whether this authentication satisfies the demand.
    pub(crate) fn is_met_by(&self, authentication: &Authentication, now: OffsetDateTime, clock_skew: Duration) -> bool {
        let is_recent = self.max_age.is_none_or(|max_age| {
            let limit = i64::from(max_age).saturating_add(i64::try_from(clock_skew.as_secs()).unwrap_or(i64::MAX));
            let age = |time: i64| now.unix_timestamp().saturating_sub(time);
            authentication.time.is_some_and(|time| age(time) <= limit)
        });
        let has_acr = self.acr_values.as_ref().is_none_or(|accepted| {
            let acr = authentication.acr.as_deref();
            acr.is_some_and(|acr| accepted.contains(&acr))
        });
        is_recent && has_acr
    }
}

/// Demands nothing.
impl Requirement for () {
    fn required() -> RequiredAuthentication {
        RequiredAuthentication::any()
    }
}

/// A [`Requirement`]: the user authenticated at the provider within this number of minutes.
///
/// Zero does not compile:
///
/// ```compile_fail
/// use rocket_openidconnect::{Fresh, Requirement};
///
/// let required = <Fresh<0>>::required();
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Fresh<const MINUTES: u32>;

impl<const MINUTES: u32> Requirement for Fresh<MINUTES> {
    fn required() -> RequiredAuthentication {
        const { assert!(MINUTES > 0, "`Fresh<0>` is never satisfied: demand at least one minute") };
        RequiredAuthentication::any().within(Duration::from_secs(u64::from(MINUTES) * 60))
    }
}

/// Authentication contexts (`acr`), declared with [`acr_values!`](crate::acr_values).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a list of authentication contexts",
    label = "expected a type declared with `acr_values!`",
    note = "declare it: `rocket_openidconnect::acr_values! {{ pub SecondFactor = \"gold\"; }}`"
)]
pub trait AcrValues: Send + Sync + 'static {
    /// The accepted values, in order of preference.
    const VALUES: &'static [&'static str];
}

/// A [`Requirement`]: the authentication context (`acr`) is one of the [`AcrValues`] `V`.
#[derive(Clone, Copy, Debug)]
pub struct Acr<V>(PhantomData<fn() -> V>);

impl<V: AcrValues> Requirement for Acr<V> {
    fn required() -> RequiredAuthentication {
        RequiredAuthentication::any().one_of(V::VALUES)
    }
}

/// The name of a provider in the settings, declared with [`provider_names!`](crate::provider_names).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the name of a provider",
    label = "expected a type declared with `provider_names!`",
    note = "declare it: `rocket_openidconnect::provider_names! {{ pub Company = \"company\"; }}`"
)]
pub trait ProviderName: Send + Sync + 'static {
    /// The name of its table in `oidc.providers`, or in the app's [`ProviderSource`](crate::ProviderSource).
    const NAME: &'static str;
}

/// A [`Requirement`]: the user signed in at the provider `P`. A user of another provider is sent there, to sign in as a
/// user of it. A name that the settings do not have aborts the launch, unless the app finds providers at run time.
///
/// ```
/// use rocket::get;
/// use rocket_openidconnect::{Claims, LoggedIn, SignedInAt, provider_names};
///
/// provider_names! {
///     /// Our own directory.
///     pub Staff = "staff";
/// }
///
/// #[get("/intranet")]
/// fn intranet(user: LoggedIn<Claims, SignedInAt<Staff>>) -> String {
///     user.key().to_string()
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SignedInAt<P>(PhantomData<fn() -> P>);

impl<P: ProviderName> Requirement for SignedInAt<P> {
    fn required() -> RequiredAuthentication {
        RequiredAuthentication::any().at_provider(P::NAME)
    }
}

/// Declares the names of providers for [`SignedInAt`].
///
/// ```
/// rocket_openidconnect::provider_names! {
///     pub Staff = "staff";
///     Partners = "partners";
/// }
/// ```
#[macro_export]
macro_rules! provider_names {
    ($(
        $(#[$meta:meta])*
        $visibility:vis $name:ident = $value:literal;
    )+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        $visibility struct $name;

        impl $crate::ProviderName for $name {
            const NAME: &'static str = $value;
        }
    )+};
}

macro_rules! tuples {
    ($(($($part:ident),+))+) => {$(
        impl<$($part: Requirement),+> Requirement for ($($part,)+) {
            fn required() -> RequiredAuthentication {
                RequiredAuthentication::any()$(.and($part::required()))+
            }
        }
    )+};
}

tuples! { (A) (A, B) (A, B, D) (A, B, D, E) }

/// Declares authentication contexts for [`Acr`]: the accepted values of `acr`, joined by `|`, in order of preference.
///
/// ```
/// rocket_openidconnect::acr_values! {
///     /// A second factor, of any kind.
///     pub SecondFactor = "urn:example:gold" | "urn:example:platinum";
/// }
/// ```
///
/// A value with a space is a compile error:
///
/// ```compile_fail
/// rocket_openidconnect::acr_values! { pub Two = "gold platinum"; }
/// ```
#[macro_export]
macro_rules! acr_values {
    ($(
        $(#[$meta:meta])*
        $visibility:vis $name:ident = $($value:literal)|+;
    )+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        $visibility struct $name;

        impl $crate::AcrValues for $name {
            const VALUES: &'static [&'static str] = {
                const { $(assert!($crate::__private::is_scope($value), "an `acr` is a word of visible ASCII, without quotes");)+ };
                &[$($value),+]
            };
        }
    )+};
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Gold;
    impl AcrValues for Gold {
        const VALUES: &'static [&'static str] = &["gold", "platinum"];
    }
    struct Platinum;
    impl AcrValues for Platinum {
        const VALUES: &'static [&'static str] = &["platinum", "diamond"];
    }
    struct Silver;
    impl AcrValues for Silver {
        const VALUES: &'static [&'static str] = &["silver"];
    }

    const NOW: i64 = 1_800_000_000;

    fn is_met<R: Requirement>(time: Option<i64>, acr: Option<&str>) -> bool {
        let authentication = Authentication {
            time,
            acr: acr.map(str::to_owned),
        };
        let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
        R::required().is_met_by(&authentication, now, Duration::from_secs(60))
    }

    #[test]
    fn a_time_is_met_up_to_the_limit_and_the_skew() {
        for (time, expected) in [
            (Some(NOW), true),
            (Some(NOW + 1_000), true),
            (Some(NOW - 360), true),
            (Some(NOW - 361), false),
            (Some(i64::MIN), false),
            (Some(0), false),
            (None, false),
        ] {
            assert_eq!(is_met::<Fresh<5>>(time, None), expected, "{time:?}");
        }
        assert!(is_met::<()>(None, None));
    }

    #[test]
    fn an_acr_is_compared_letter_by_letter() {
        for (acr, expected) in [
            (Some("gold"), true),
            (Some("platinum"), true),
            (Some("Gold"), false),
            (Some("gold platinum"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(is_met::<Acr<Gold>>(None, acr), expected, "{acr:?}");
        }
    }

    #[test]
    fn a_tuple_demands_all_of_its_parts() {
        let all = <(Fresh<5>, Acr<Gold>, Fresh<2>, Acr<Platinum>)>::required();
        assert_eq!(all.max_age(), Some(Duration::from_secs(120)));
        assert_eq!(all.acr_values(), Some(&["platinum"][..]));
        assert!(!all.is_contradictory());
        assert!(<(Acr<Gold>, Acr<Silver>)>::required().is_contradictory());
        assert_eq!(<(Fresh<5>, ())>::required(), <Fresh<5>>::required());
        assert!(!is_met::<(Fresh<5>, Acr<Gold>)>(Some(NOW), None));
        assert!(!is_met::<(Fresh<5>, Acr<Gold>)>(None, Some("gold")));
        assert!(is_met::<(Fresh<5>, Acr<Gold>)>(Some(NOW), Some("gold")));
    }
}
