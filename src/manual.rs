#![doc = include_str!("../docs/manual/index.md")]
// Documentation only: compiled by rustdoc, for pages and for their examples as tests. Pages whose examples need other
// crates for Rocket are tested in tests/ecosystem.

#[doc = include_str!("../docs/manual/apis.md")]
pub mod apis {}
#[doc = include_str!("../docs/manual/attacks.md")]
pub mod attacks {}
#[doc = include_str!("../docs/manual/audit.md")]
pub mod audit {}
#[doc = include_str!("../docs/manual/bound_tokens.md")]
pub mod bound_tokens {}
#[doc = include_str!("../docs/manual/client_keys.md")]
pub mod client_keys {}
#[doc = include_str!("../docs/manual/command_line.md")]
pub mod command_line {}
#[doc = include_str!("../docs/conformance.md")]
pub mod conformance {}
#[cfg_attr(not(doctest), doc = include_str!("../docs/manual/cors.md"))]
pub mod cors {}
#[doc = include_str!("../docs/manual/defaults.md")]
pub mod defaults {}
#[doc = include_str!("../docs/manual/deployment.md")]
pub mod deployment {}
#[doc = include_str!("../docs/manual/errors.md")]
pub mod errors {}
#[doc = include_str!("../docs/manual/events.md")]
pub mod events {}
#[doc = include_str!("../docs/manual/examples.md")]
pub mod examples {}
#[doc = include_str!("../docs/manual/fairings.md")]
pub mod fairings {}
#[doc = include_str!("../docs/manual/fapi2.md")]
pub mod fapi2 {}
#[doc = include_str!("../docs/manual/flask_oidc.md")]
pub mod flask_oidc {}
#[doc = include_str!("../docs/manual/forms.md")]
pub mod forms {}
#[doc = include_str!("../docs/glossary.md")]
pub mod glossary {}
#[cfg_attr(not(doctest), doc = include_str!("../docs/manual/graphql.md"))]
pub mod graphql {}
#[doc = include_str!("../docs/manual/grpc_web.md")]
pub mod grpc_web {}
#[doc = include_str!("../docs/manual/guards.md")]
pub mod guards {}
#[doc = include_str!("../docs/manual/htmx.md")]
pub mod htmx {}
#[doc = include_str!("../docs/manual/logout.md")]
pub mod logout {}
#[doc = include_str!("../docs/manual/observing.md")]
pub mod observing {}
#[cfg_attr(not(doctest), doc = include_str!("../docs/manual/openapi.md"))]
pub mod openapi {}
#[doc = include_str!("../docs/manual/other_apis.md")]
pub mod other_apis {}
#[doc = include_str!("../docs/manual/other_crates.md")]
pub mod other_crates {}
#[doc = include_str!("../docs/performance.md")]
pub mod performance {}
#[doc = include_str!("../docs/manual/providers.md")]
pub mod providers {}
#[doc = include_str!("../docs/manual/quickstart.md")]
pub mod quickstart {}
#[doc = include_str!("../docs/manual/scripts.md")]
pub mod scripts {}
#[doc = include_str!("../SECURITY.md")]
pub mod security {}
#[doc = include_str!("../docs/manual/server_sent_events.md")]
pub mod server_sent_events {}
#[doc = include_str!("../docs/manual/sessions.md")]
pub mod sessions {}
#[doc = include_str!("../docs/manual/settings.md")]
pub mod settings {}
#[doc = include_str!("../docs/manual/several_providers.md")]
pub mod several_providers {}
#[doc = include_str!("../docs/manual/sign_in_parameters.md")]
pub mod sign_in_parameters {}
#[doc = include_str!("../docs/manual/silent.md")]
pub mod silent {}
#[doc = include_str!("../docs/manual/templates.md")]
pub mod templates {}
#[doc = include_str!("../docs/manual/testing.md")]
pub mod testing {}
#[cfg_attr(not(doctest), doc = include_str!("../docs/manual/websockets.md"))]
pub mod websockets {}
#[doc = include_str!("../docs/manual/which_guard.md")]
pub mod which_guard {}
