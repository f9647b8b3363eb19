//! What guards demand and respond, for rocket_okapi.

use rocket::{request::FromRequest, serde::DeserializeOwned};
use rocket_okapi::{
    r#gen::OpenApiGenerator,
    okapi::openapi3::{RefOr, Response, Responses, SecurityScheme, SecuritySchemeData},
    request::{OpenApiFromRequest, RequestHeaderInput},
};

use super::{
    Authorized, Bearer, BoundBearer, Caller, LoggedIn, OptionalUser, Policy, SecuritySchemes, Visitor,
    security_schemes::requirements::{Accepted, placeholder, placeholder_scopes},
};
use crate::{
    groups,
    relying_party::{Readiness, RelyingParty},
    requirement::Requirement,
    scopes::Scopes,
};

/// The placeholder of a guard, which [`SecuritySchemes::complete`] replaces.
fn input(accepted: Accepted, any_of: &[&[&str]], is_required: bool) -> RequestHeaderInput {
    let name = placeholder(accepted, !is_required).to_owned();
    // True without any knowledge of the app, for a document that is not completed.
    let data = match accepted {
        Accepted::Session => SecuritySchemeData::ApiKey {
            name: "oidc_session".to_owned(),
            location: "cookie".to_owned(),
        },
        Accepted::Token | Accepted::TokenOrSession => SecuritySchemeData::Http {
            scheme: "bearer".to_owned(),
            bearer_format: None,
        },
    };
    let scheme = SecurityScheme {
        description: Some("A placeholder, which `SecuritySchemes::complete` replaces".to_owned()),
        data,
        extensions: Default::default(),
    };
    let scopes = match accepted {
        Accepted::Session => vec![],
        Accepted::Token | Accepted::TokenOrSession => placeholder_scopes(any_of),
    };
    let requirement = [(name.clone(), scopes)].into_iter().collect();
    RequestHeaderInput::Security(name, scheme, requirement)
}

/// The responses of guards that reject a request.
const SIGNED_OUT: (&str, &str) = (
    "401",
    "Signed out, or the user must authenticate anew. A page load is redirected to sign-in instead.",
);
const SESSION_UNAVAILABLE: (&str, &str) = ("503", "The session cannot be checked at the moment.");
const NOT_PERMITTED: (&str, &str) = ("403", "The user may not do this.");
const NO_TOKEN: (&str, &str) = (
    "401",
    "No access token, or one that is rejected. `WWW-Authenticate` says why.",
);
const MALFORMED: (&str, &str) = ("400", "The `Authorization` header is not one bearer token.");
const SCOPE_MISSING: (&str, &str) = ("403", "The access token lacks a scope, which `WWW-Authenticate` names.");
const PROVIDER_INVALID: (&str, &str) = ("502", "The provider's response is invalid.");
const PROVIDER_DOWN: (&str, &str) = (
    "503",
    "The token cannot be checked at the moment. `Retry-After` says when to try again.",
);

fn responses(of: &[(&str, &str)]) -> Responses {
    let response = |description: &str| {
        RefOr::Object(Response {
            description: description.to_owned(),
            ..Response::default()
        })
    };
    Responses {
        responses: of
            .iter()
            .map(|(status, description)| ((*status).to_owned(), response(description)))
            .collect(),
        ..Responses::default()
    }
}

/// A token with no scope lacks none.
fn token_responses<S: Scopes>() -> Responses {
    let all = [NO_TOKEN, MALFORMED, PROVIDER_INVALID, PROVIDER_DOWN, SCOPE_MISSING];
    let needs_scope = !S::are_met_by(&[]) || !groups::are_met(S::GROUPS, &[""; 0]);
    responses(if needs_scope { &all } else { &all[..4] })
}

/// The session is optional. With the setting `silent`, a page load may be redirected.
impl<'r, C> OpenApiFromRequest<'r> for OptionalUser<C>
where
    C: DeserializeOwned + Send + Sync + 'static,
{
    fn from_request_input(_: &mut OpenApiGenerator, _: String, _: bool) -> rocket_okapi::Result<RequestHeaderInput> {
        Ok(input(Accepted::Session, &[], false))
    }
}

/// The session is optional.
impl<'r, C> OpenApiFromRequest<'r> for Visitor<C>
where
    C: DeserializeOwned + Send + Sync + 'static,
{
    fn from_request_input(_: &mut OpenApiGenerator, _: String, _: bool) -> rocket_okapi::Result<RequestHeaderInput> {
        Ok(input(Accepted::Session, &[], false))
    }
}

/// The session is required: 401, 503.
impl<'r, C, R> OpenApiFromRequest<'r> for LoggedIn<C, R>
where
    C: DeserializeOwned + Send + Sync + 'static,
    R: Requirement,
{
    fn from_request_input(
        _: &mut OpenApiGenerator,
        _: String,
        required: bool,
    ) -> rocket_okapi::Result<RequestHeaderInput> {
        Ok(input(Accepted::Session, &[], required))
    }

    fn get_responses(_: &mut OpenApiGenerator) -> rocket_okapi::Result<Responses> {
        Ok(responses(&[SIGNED_OUT, SESSION_UNAVAILABLE]))
    }
}

/// The session is required: 401, 403, 503.
impl<'r, P, C, R> OpenApiFromRequest<'r> for Authorized<P, C, R>
where
    P: Policy<C>,
    C: DeserializeOwned + Send + Sync + 'static,
    R: Requirement,
{
    fn from_request_input(
        _: &mut OpenApiGenerator,
        _: String,
        required: bool,
    ) -> rocket_okapi::Result<RequestHeaderInput> {
        Ok(input(Accepted::Session, &[], required))
    }

    fn get_responses(_: &mut OpenApiGenerator) -> rocket_okapi::Result<Responses> {
        Ok(responses(&[SIGNED_OUT, NOT_PERMITTED, SESSION_UNAVAILABLE]))
    }
}

/// An access token with the scopes `S`: 400, 401, 502, 503, and 403 where `S` demands one.
impl<'r, S, C, R> OpenApiFromRequest<'r> for Bearer<S, C, R>
where
    S: Scopes,
    C: DeserializeOwned + Send + Sync + 'static,
    R: Requirement,
{
    fn from_request_input(
        _: &mut OpenApiGenerator,
        _: String,
        required: bool,
    ) -> rocket_okapi::Result<RequestHeaderInput> {
        Ok(input(Accepted::Token, S::ANY_OF, required))
    }

    fn get_responses(_: &mut OpenApiGenerator) -> rocket_okapi::Result<Responses> {
        Ok(token_responses::<S>())
    }
}

/// As `Bearer`: a token of the scheme `DPoP` has no type of its own in OpenAPI.
impl<'r, S, C, R> OpenApiFromRequest<'r> for BoundBearer<S, C, R>
where
    S: Scopes,
    C: DeserializeOwned + Send + Sync + 'static,
    R: Requirement,
{
    fn from_request_input(
        _: &mut OpenApiGenerator,
        _: String,
        required: bool,
    ) -> rocket_okapi::Result<RequestHeaderInput> {
        Ok(input(Accepted::Token, S::ANY_OF, required))
    }

    fn get_responses(_: &mut OpenApiGenerator) -> rocket_okapi::Result<Responses> {
        Ok(token_responses::<S>())
    }
}

/// The session, or an access token with the scopes `S`: the responses of both.
impl<'r, S, C, R> OpenApiFromRequest<'r> for Caller<S, C, R>
where
    S: Scopes,
    C: DeserializeOwned + Send + Sync + 'static,
    R: Requirement,
{
    fn from_request_input(
        _: &mut OpenApiGenerator,
        _: String,
        required: bool,
    ) -> rocket_okapi::Result<RequestHeaderInput> {
        Ok(input(Accepted::TokenOrSession, S::ANY_OF, required))
    }

    fn get_responses(_: &mut OpenApiGenerator) -> rocket_okapi::Result<Responses> {
        Ok(token_responses::<S>())
    }
}

macro_rules! no_input {
    ($($guard:ty),+) => {$(
        /// It demands nothing of a request.
        impl<'r> OpenApiFromRequest<'r> for $guard
        where
            $guard: FromRequest<'r>,
        {
            fn from_request_input(
                _: &mut OpenApiGenerator,
                _: String,
                _: bool,
            ) -> rocket_okapi::Result<RequestHeaderInput> {
                Ok(RequestHeaderInput::None)
            }
        }
    )+};
}

no_input! { &'r RelyingParty, Readiness, SecuritySchemes }
