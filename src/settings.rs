//! The settings: the table `oidc` of the selected profile and its environment variables, parsed and validated.
//!
//! They are read from Rocket's own figment, so from `Rocket.toml` and `ROCKET_OIDC={…}`, then from
//! environment variables: `OIDC_CLIENT_SECRET` is `client_secret`, `OIDC_SESSION__IDLE_TIMEOUT` is `idle_timeout`
//! in the table `session`. A variable wins over files in every profile; tables are merged member by member.
//! A string setting takes the variable's text as it is, a table or list is written in JSON or as
//! `{sub="alice",groups=["staff"]}`.
//!
//! ```toml
//! [default.oidc]
//! issuer = "https://accounts.example.com"
//! client_id = "my-app"
//! base_url = "https://app.example.com"
//! ```
//!
//! Unknown names in a file abort the launch; an unknown `OIDC_*` variable is only a warning, because platforms inject
//! such names.

// A setting is declared once, below or in the file of its table. It also has a row in docs/manual/settings.md, with
// the same default, which a test compares.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use figment::Figment;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

#[cfg(feature = "testing")]
pub(crate) use self::in_process::{Answers, InProcess, NoAnswer};
#[cfg(feature = "dev-provider")]
pub(crate) use self::resource_server::spellings;
pub(crate) use self::{
    app_paths::AppPaths,
    authorization_parameters::is_reserved,
    client_identity::ClientIdentity,
    insecure_http_hosts::InsecureHttpHosts,
    insecure_settings::InsecureSetting,
    internal_provider_hosts::InternalProviderHosts,
    metadata_source::MetadataSource,
    mode::{FoundRegistration, Mode, ProviderMode, Reach, Registration},
    provider_kind::ProviderKind,
    providers::{ONLY_PROVIDER, is_provider_name},
    resource_server::resource_identifier,
    rocket_config::RocketConfig,
    session::{REQUEST_CLAIMS, StoreUrl},
    shown::ShownSetting,
    site::Site,
    trusted_proxies::TrustedProxies,
};
use self::{
    authorization_parameters::Parameters,
    declaration::{Parser, named, settings},
    dev_provider::DevProvider,
    duration::{AboveZero, ProofAge},
    environment::Environment,
    error::Origins,
    insecure_http_hosts::HttpHost,
    mistake::Mistake,
    page_origins::AllowedOrigins,
    presets::NameOrTable,
    providers::Providers,
    trusted_proxies::ProxyAddress,
    value::{
        AccessTokenAlgorithm, BaseUrl, Between, Claims, Credential, ExactUrl, FormerKey, Issuer, MountPath, PathOrUrl,
        Realm, Resource, RolesClaim, Scope, SomeWords, Table, Text, Words,
    },
};
pub use crate::token::{Accepts, AudienceClaim, SigningAlgorithm, UnknownAlgorithm};

#[cfg(feature = "redis")]
pub(crate) use self::redis_url::Host;
#[cfg(any(feature = "redis", feature = "__internals"))]
pub(crate) use self::redis_url::{Deployment, RedisUrl};
pub(crate) use self::value::is_loopback;
pub use self::{
    cache_size::CacheSize,
    client_certificate::{CertificateFormat, ClientCertificateSettings},
    client_secrets::{ClientSecrets, ClientSecretsTable},
    dev_provider::DevProviderSettings,
    error::SettingsError,
    http::HttpSettings,
    presets::{KnownProvider, ProviderPreset},
    resource_server::{
        ApiSettings, DpopTokens, IntrospectionAuthMethod, IssuerSettings, ResourceParameter, TokenExchange,
        TokenValidation,
    },
    security_profile::SecurityProfile,
    session::{KeptToken, SessionSettings, StoreKind},
};
use crate::secret::Secret;

mod app_paths;
mod authorization_parameters;
mod cache_size;
mod check;
mod client_certificate;
mod client_identity;
mod client_secrets;
mod declaration;
mod dev_provider;
mod duration;
mod environment;
mod error;
mod github;
mod http;
#[cfg(feature = "testing")]
mod in_process;
mod insecure_http_hosts;
mod insecure_settings;
mod internal_provider_hosts;
mod launch_check;
mod metadata_source;
mod mistake;
mod mode;
mod page_origins;
mod presets;
mod provider_kind;
mod providers;
mod redis_url;
mod resource_server;
mod rocket_config;
mod security_profile;
mod session;
mod shown;
mod site;
mod stray_characters;
mod syntax;
mod tenants;
mod trusted_proxies;
mod value;

settings! {
    /// The settings of the table `oidc`.
    ///
    /// Every field has a default, so that `Oidc::custom` may set what files and environment omit. Settings that
    /// depend on each other are validated at launch.
    pub struct Settings {
        /// Whether users must sign in. With `false`, no provider is contacted, and guards use `testing_profile`: every
        /// visitor is that user; if the app has [`Events`](crate::Events), after `{mount}/login`, where they are called.
        ///
        /// _Default:_ `true`
        pub enabled: bool = true,
        /// The user profile while `enabled` is `false`, as the provider would return it, with `sub`. If it is empty,
        /// visitors are anonymous.
        ///
        /// _Default:_ `{}`
        pub testing_profile: Map<String, Value> as Claims = Map::new(),
        /// The session data of the user of `testing_profile`, for [`User::data`](crate::User::data). If the app has
        /// [`Events`](crate::Events), what `after_authorize` sets replaces it, name by name.
        ///
        /// _Default:_ `{}`
        pub testing_profile_data: Map<String, Value> as Table = Map::new(),
        /// Allows `testing_profile` outside the debug profile, where every visitor is then that user. For a closed
        /// test environment only. Logs a warning at liftoff.
        ///
        /// _Default:_ `false`
        pub insecure_testing_profile: bool = false,
        /// The client's registration: the path of a `client_secrets.json`, relative to the file that names it, or its
        /// content as a table, with or without `web`. Settings that are set directly take precedence.
        ///
        /// _Default:_ none
        pub client_secrets: Option<ClientSecrets> = None,
        /// A known provider, as a name or a table: it sets `issuer` and whatever else that provider requires.
        /// Settings that are set directly take precedence. See [`ProviderPreset`].
        ///
        /// _Default:_ none
        pub provider: Option<ProviderPreset> as Option<NameOrTable> = None,
        /// A security profile: `fapi2`, the [FAPI 2.0 Security Profile](https://openid.net/specs/fapi-security-profile-2_0-final.html),
        /// or `oauth21`, [OAuth 2.1](https://datatracker.ietf.org/doc/html/draft-ietf-oauth-v2-1). It turns on what it demands,
        /// beside which another value aborts the launch, as does a provider that lacks something.
        ///
        /// _Default:_ none
        pub profile: Option<SecurityProfile> = None,
        /// Several providers, each by its own name: a table with all settings about a provider and the client at it, and
        /// `label`, `logo` and `order`. The settings of the table `oidc` are their defaults, except for those that
        /// identify one client, which must not be set there then. A name has lowercase letters, digits, `-` and
        /// single `_`; it is part of URLs.
        ///
        /// _Default:_ `{}`
        pub providers: BTreeMap<String, Settings> as Providers = BTreeMap::new(),
        /// Whether all providers have one redirect URI, `{base_url}{mount}/authorize`, instead of
        /// `{base_url}{mount}/authorize/{name}` for each. Then every response needs `iss`
        /// ([RFC 9207](https://www.rfc-editor.org/rfc/rfc9207)), which few providers send: a response without it is
        /// rejected.
        ///
        /// _Default:_ `false`
        pub shared_redirect_uri: bool = false,
        /// The provider of `providers` at which opaque access tokens are introspected. They are never tried at one
        /// provider after the other.
        ///
        /// _Default:_ none
        pub introspection_provider: Option<String> as Option<Text> = None,
        /// For one of `providers`: its name for people, on the page on which they choose.
        ///
        /// _Default:_ the name of the table
        pub label: Option<String> as Option<Text> = None,
        /// For one of `providers`: the URL of its logo on that page, `https` or a path of the app.
        ///
        /// _Default:_ none
        pub logo: Option<String> as Option<PathOrUrl> = None,
        /// For one of `providers`: its place on that page; equal places are in alphabetical order.
        ///
        /// _Default:_ `0`
        pub order: usize = 0,
        /// With `providers`, or with several `tenants`: whether [`User::groups`](crate::User::groups) has the groups that
        /// the provider sends, and access tokens have the roles of `roles_claim`. Otherwise there are none, so that an
        /// administrator of one provider or organisation cannot create an administrator of the app.
        ///
        /// _Default:_ `false`
        pub trust_groups: bool = false,
        /// With `providers`: the values of `acr` that count at guards with [`Acr`](crate::Acr), if this provider sends
        /// them.
        ///
        /// _Default:_ `[]`
        pub acr_values: Vec<String> as Words = vec![],
        /// The provider's issuer, exactly as in its metadata: `https`, or `http` on loopback and for
        /// `insecure_http_hosts`.
        /// [Discovery §3](https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata)
        ///
        /// _Default:_ the one of `client_secrets`, or of `provider`
        pub issuer: Option<String> as Option<Issuer> = None,
        /// The client's identifier at the provider.
        ///
        /// _Default:_ the one of `client_secrets`
        pub client_id: Option<String> as Option<Credential> = None,
        /// The client's secret. Without one here, in `client_secret_file` and in `client_secrets`: a public client.
        ///
        /// _Default:_ the content of `client_secret_file`, or the one of `client_secrets`
        pub client_secret: Option<Secret> = None,
        /// The path of a file that contains only the secret, relative to the file that names it. A trailing newline
        /// is not part of the secret.
        ///
        /// _Default:_ none
        pub client_secret_file: Option<PathBuf> = None,
        /// The path of a file with the client's private key, relative to the file that names it: in PEM (PKCS#8, or
        /// PKCS#1 for RSA), as a JWK, or as a JWK Set, whose first key that can sign is the active one; RSA, P-256, P-384
        /// or Ed25519. The client then authenticates with `private_key_jwt`, unless it has a secret too. The public keys
        /// are at `{mount}/jwks.json` ([client keys](crate::manual::client_keys)).
        /// [Core §9](https://openid.net/specs/openid-connect-core-1_0.html#ClientAuthentication)
        ///
        /// _Default:_ none
        pub private_key_file: Option<PathBuf> = None,
        /// The `kid` of that key at the provider. In a JWK Set each key has its own.
        ///
        /// _Default:_ the `kid` of the JWK
        pub private_key_id: Option<String> as Option<Credential> = None,
        /// The path of a file with the client's certificate in PEM, and those of its authorities after it, relative to the
        /// file that names it: for mutual TLS at the endpoints of the provider, which binds access tokens to it.
        /// [RFC 8705](https://www.rfc-editor.org/rfc/rfc8705)
        ///
        /// _Default:_ none
        pub tls_client_certificate: Option<PathBuf> = None,
        /// The path of a file with the private key of that certificate in PEM, not encrypted, which only this app can
        /// read.
        ///
        /// _Default:_ none
        pub tls_client_key: Option<PathBuf> = None,
        /// The `iss` of client secrets that the app makes itself, for Sign in with Apple: the Team ID. Then the client
        /// secret is a JWT, signed by `private_key_file` (P-256, with a `kid`) with ES256 for each request, and valid for
        /// five minutes. It replaces `client_secret`.
        /// [Apple](https://developer.apple.com/documentation/accountorganizationaldatasharing/creating-a-client-secret)
        ///
        /// _Default:_ none
        pub client_secret_issuer: Option<String> as Option<Credential> = None,
        /// The `aud` of client assertions, and of client secrets that the app makes: `endpoint` for the URL of the endpoint that receives it, or any other
        /// value verbatim. [RFC 7523 §3](https://www.rfc-editor.org/rfc/rfc7523#section-3)
        ///
        /// _Default:_ the issuer; `endpoint` where that is a template
        pub client_assertion_audience: Option<String> as Option<Text> = None,
        /// The URL of the provider's metadata, if it is not the issuer's well-known URL. The `issuer` in it must
        /// still be `issuer`.
        ///
        /// _Default:_ `{issuer}/.well-known/openid-configuration`
        pub server_metadata_url: Option<Url> = None,
        /// The tenants whose users may sign in and whose access tokens are accepted, if the issuer is a template with
        /// `{tenantid}`, like that for several organisations at Microsoft Entra ID: tenant ids, each a GUID, or `any`
        /// for every organisation, which logs a warning at liftoff. Personal accounts are accepted only by their id,
        /// `9188040d-6c67-4c5b-b112-36a304b66dad`. A template without this setting aborts the launch, and vice versa.
        /// [Microsoft](https://learn.microsoft.com/entra/identity-platform/access-tokens#multitenant-applications)
        ///
        /// _Default:_ `[]`
        pub tenants: Vec<String> as Words = vec![],
        /// Hosts of a closed network for which plain `http` is accepted, bypassing any proxy: exact names or
        /// addresses, without port, in the issuer, in other URLs of these settings, and in the provider's metadata.
        /// An attacker on the network path can read client secrets, codes and tokens. Logs a warning at liftoff.
        ///
        /// _Default:_ `[]`
        pub insecure_http_hosts: Vec<String> as Words<HttpHost> = vec![],
        /// Hosts of your own network that may serve providers which are registered at run time: exact names or
        /// addresses, without port. Other hosts must have a public address. On loopback, plain `http` is accepted too.
        /// Whoever may register a provider can name these hosts, with any port and path.
        ///
        /// _Default:_ `[]`
        pub internal_provider_hosts: Vec<String> as Words<HttpHost> = vec![],
        /// The scopes to request, as words in one string or a list; `openid` must be among them.
        /// The preset `github` sets `read:user user:email` instead.
        /// [Core §3.1.2.1](https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest)
        ///
        /// _Default:_ `openid email profile`
        pub scopes: Vec<String> as Words<Scope> = ["openid", "email", "profile"].map(str::to_owned).to_vec(),
        /// How a token request names the API that the token is for: by the parameter `resource` or `audience`, or by
        /// `scope`, where each scope begins with the identifier of the API. For
        /// [`RelyingParty::client_token`](crate::RelyingParty::client_token).
        /// [RFC 8707 §2](https://www.rfc-editor.org/rfc/rfc8707#section-2)
        ///
        /// _Default:_ `resource`; with the preset `auth0`, `audience`; with the preset `microsoft`, `scope`
        pub resource_parameter: ResourceParameter = ResourceParameter::Resource,
        /// How an access token of a client is exchanged for one for another API: `standard`
        /// ([RFC 8693](https://www.rfc-editor.org/rfc/rfc8693)), or `on_behalf_of`, as at Microsoft Entra ID. For
        /// [`Bearer::exchange`](crate::Bearer::exchange).
        ///
        /// _Default:_ `standard`; with the preset `microsoft`, `on_behalf_of`
        pub token_exchange: TokenExchange = TokenExchange::Standard,
        /// The maximum clock difference between the provider and this app, for every `exp`, `nbf` and `iat`; seconds
        /// or a duration such as `"2m"`.
        ///
        /// _Default:_ `60s`
        pub clock_skew: Duration = Duration::from_secs(60),
        /// Whether UserInfo is requested at sign-in, after the ID token was verified.
        /// [Core §5.3](https://openid.net/specs/openid-connect-core-1_0.html#UserInfo)
        ///
        /// _Default:_ `true`
        pub user_info_enabled: bool = true,
        /// Whether users can sign in during a UserInfo outage (5xx, 429, or no response), with only the claims of the
        /// ID token and a warning in the log. A refresh that requests UserInfo (`session.refresh_user_info`) then
        /// also keeps only those, until UserInfo responds. For an app that needs no UserInfo claims for
        /// authorization. An invalid response, such as one about another user, is rejected all the same.
        ///
        /// _Default:_ `false`
        pub user_info_optional: bool = false,
        /// Only accept access tokens: no routes, no cookies, no client secret needed.
        ///
        /// _Default:_ `false`
        pub resource_server_only: bool = false,
        /// The exact `redirect_uri` to send, an absolute URL, if it is not `{base_url}{mount}/authorize`.
        ///
        /// _Default:_ `{base_url}{mount}/authorize`
        pub overwrite_redirect_uri: Option<Url> as Option<ExactUrl> = None,
        /// The public URL of the app: scheme, host and port, and a path if the app is below one. The redirect URI and the
        /// cookies' attributes are derived from it, never from the `Host` header. `http` is accepted on loopback, and in
        /// the debug profile. Below a path, routes are at `{base_url}{mount}`, and the app mounts its own there too,
        /// unless the proxy strips the path (`proxy_strips_path`).
        ///
        /// _Default:_ the origin of `overwrite_redirect_uri`, else of
        /// `client_secrets.redirect_uris`, else in the debug profile `http://localhost:<port>`
        pub base_url: Option<Url> as Option<BaseUrl> = None,
        /// Whether the proxy in front of the app removes the path of `base_url` from requests: with
        /// `https://example.com/team` the browser's `/team/notes` reaches Rocket as `/notes`. Redirects, links and
        /// cookies then have the browser's path, and addresses that the app's code passes have Rocket's.
        ///
        /// _Default:_ `false`
        pub proxy_strips_path: bool = false,
        /// The claims of a user that scripts of the app get at `{mount}/me`, as words in one string or a list; `""` for none
        /// of them, only whether a user is signed in and until when. With this setting, the route and the script
        /// `{mount}/session.js` are served ([scripts](crate::manual::scripts)).
        ///
        /// _Default:_ none
        pub me_claims: Option<Vec<String>> as Option<Words> = None,
        /// Whether a visitor whose session ended at a failed refresh is redirected back to the requested page after
        /// the new sign-in, or to `/`.
        ///
        /// _Default:_ `false`
        pub preserve_next_on_error: bool = false,
        /// How the client authenticates at the token endpoint: `client_secret_basic`, `client_secret_post`,
        /// `private_key_jwt`, `tls_client_auth`, `self_signed_tls_client_auth` or `none`. [Core §9](https://openid.net/specs/openid-connect-core-1_0.html#ClientAuthentication)
        ///
        /// _Default:_ what the metadata lists; `client_secret_basic` when it is silent; `private_key_jwt` with a
        /// key alone; what the metadata lists for a certificate, with a certificate alone
        pub token_endpoint_auth_method: Option<TokenEndpointAuthMethod> = None,
        /// The accepted signing algorithms of ID tokens: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384,
        /// ES512, EdDSA, and HS256, which is accepted only if it is listed here.
        ///
        /// _Default:_ what the metadata lists, without HS256
        pub id_token_signing_algs: Option<Vec<SigningAlgorithm>> as Option<SomeWords<SigningAlgorithm>> = None,
        /// Where the provider redirects a visitor after a sign-out: a local path, which is sent as
        /// `{base_url}{path}`, or an absolute URL. Register it at the provider. From a local path, visitors are
        /// redirected to the `next` of the sign-out, if it was given.
        ///
        /// _Default:_ `/`
        pub post_logout_redirect_uri: Option<String> as Option<PathOrUrl> = None,
        /// Whether a sign-out also signs out at the provider, if it has an `end_session_endpoint`.
        /// [RP-Initiated Logout §2](https://openid.net/specs/openid-connect-rpinitiated-1_0.html#RPLogout)
        ///
        /// _Default:_ `true`
        pub rp_initiated_logout: bool = true,
        /// Whether the provider may end sessions from a page of its own. Such a request is not signed: an attacker
        /// who knows the `sid` of a session can end it. Prefer back-channel logout, which needs no setting.
        /// [Front-Channel Logout §2](https://openid.net/specs/openid-connect-frontchannel-1_0.html#RPLogout)
        ///
        /// _Default:_ `false`
        pub frontchannel_logout: bool = false,
        /// The data that a browser clears at a sign-out, as words in one string or a list: `cache`, `cookies`,
        /// `storage`, `executionContexts`, `prefetchCache`, `prerenderCache`, `clientHints`, or `*` for all. Browsers
        /// support it on https and loopback, and ignore unknown types. `cookies` and `*` also clear the cookies of
        /// sibling sub-domains; they log a warning at liftoff.
        /// [Clear Site Data §3.1](https://www.w3.org/TR/clear-site-data/#header)
        ///
        /// _Default:_ `[]`
        pub clear_site_data: Vec<ClearSiteData> as Words<ClearSiteData> = vec![],
        /// The path at which the routes are mounted, below the path of `base_url`; `/` gives Flask-OIDC's paths.
        ///
        /// _Default:_ `/oidc`
        pub mount: String as MountPath = "/oidc".to_owned(),
        /// Previous values of Rocket's `secret_key`, in the same forms. They only decrypt: the key can be changed
        /// without signing users out. Never list a key that has leaked.
        ///
        /// _Default:_ `[]`
        pub previous_secret_keys: Vec<Secret> as Words<FormerKey> = vec![],
        /// The lifetime of a sign-in attempt, from the redirect to the provider until the callback; seconds or a
        /// duration such as `"30m"`.
        ///
        /// _Default:_ `30m`
        pub sign_in_timeout: Duration as AboveZero = Duration::from_secs(30 * 60),
        /// The maximum length of `state` in characters: it contains the encrypted sign-in attempt with the return
        /// address. A longer return address is stored in a cookie.
        ///
        /// _Default:_ `500`
        pub max_state_length: usize as Between<200, 4_000> = 500,
        /// The proxies in front of the app, as addresses or CIDR prefixes such as `10.0.0.0/8`. The client address
        /// that one of them reports, in Rocket's `ip_header`, is used for the rate limits of sign-ins; other peers
        /// can forge that header, so the address of their connection is used. List a proxy only if it sets that
        /// header itself.
        ///
        /// _Default:_ `[]`
        pub trusted_proxies: Vec<String> as Words<ProxyAddress> = vec![],
        /// The origins besides that of `base_url` whose pages may act for users, by the path at which the app mounts the
        /// routes: a table such as `{ "/api" = ["https://admin.example.com"] }`. Every guard that reads the session rejects
        /// forms, scripts and WebSockets of other origins with 403 ([forms](crate::manual::forms)). This does not let
        /// scripts of an origin read responses (CORS).
        ///
        /// _Default:_ `{}`
        pub allowed_origins: BTreeMap<String, Vec<String>> as AllowedOrigins = BTreeMap::new(),
        /// Audiences besides `client_id` that an ID token may name.
        /// [Core §3.1.3.7](https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation)
        ///
        /// _Default:_ `[]`
        pub trusted_audiences: Vec<String> as Words = vec![],
        /// Accepts the ID token of a sign-in without `nonce`; a `nonce` that is present must still match. For a
        /// provider that omits it, such as LinkedIn: the ID token is then not bound to this sign-in, and only PKCE
        /// protects against an injected code, if the provider verifies it. Logs a warning at liftoff.
        /// [Core §3.1.3.7](https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation), step 11
        ///
        /// _Default:_ `false`
        pub insecure_accept_missing_nonce: bool = false,
        /// Signs in without PKCE: neither `code_challenge` nor `code_verifier` is sent. For a provider that rejects
        /// them, such as LinkedIn, and a client with a secret. An authorization code that leaks before it is used
        /// then lets whoever has it sign in here as its user, unless the ID token has a `nonce`. Logs a warning at
        /// liftoff.
        /// [RFC 9700 §2.1.1](https://www.rfc-editor.org/rfc/rfc9700#section-2.1.1)
        ///
        /// _Default:_ `false`
        pub insecure_omit_pkce: bool = false,
        /// Additional parameters of the authorization request, such as `prompt`, `max_age`, `acr_values` or
        /// `ui_locales`: strings, numbers, booleans, or lists of strings, which are joined with spaces.
        /// [Core §3.1.2.1](https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest)
        ///
        /// _Default:_ `{}`
        pub extra_authorization_parameters: Map<String, Value> as Parameters = Map::new(),
        /// Whether authorization requests are pushed to the provider first, so that the browser carries only a
        /// reference to them. They always are if the metadata requires it.
        /// [RFC 9126](https://www.rfc-editor.org/rfc/rfc9126)
        ///
        /// _Default:_ `false`
        pub pushed_authorization_requests: bool = false,
        /// Whether tokens are bound to a key that each session has for itself, so that they are useless to anyone else
        /// who obtains them: `off`, `auto` if the metadata lists an algorithm for it that this app has, or `required`, which
        /// then refuses bearer tokens. The algorithms are ES256, Ed25519 and EdDSA. An API that gets
        /// [`User::access_token`](crate::User::access_token) must accept bound tokens, and the app must send proofs: see
        /// `User::bound_client`, with the cargo feature `api-client`.
        /// [RFC 9449](https://www.rfc-editor.org/rfc/rfc9449)
        ///
        /// _Default:_ `off`
        pub dpop: Dpop = Dpop::Off,
        /// How the provider sends its response: `query`, or `form_post`, which keeps the code out of URLs.
        /// [Form Post Response Mode](https://openid.net/specs/oauth-v2-form-post-response-mode-1_0.html)
        ///
        /// _Default:_ `query`
        pub response_mode: ResponseMode = ResponseMode::Query,
        /// Whether a signed-out visitor is signed in silently if they have a session at the provider: a page load with
        /// [`OptionalUser`](crate::OptionalUser) is redirected there with `prompt=none`, once per browser session, and
        /// comes back in any case. Never after a session ended in that browser, until the user signs in.
        /// [Core §3.1.2.1](https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest)
        ///
        /// _Default:_ `false`
        pub silent: bool = false,
        /// The accepted `aud` values of an access token, at least one required: the identifier of this API at the
        /// provider.
        /// [RFC 9068 §4](https://www.rfc-editor.org/rfc/rfc9068#section-4)
        ///
        /// Set it, or `resource`, if `Bearer` is used. `client_id` is also the audience of ID tokens, so with it an
        /// access token needs a clearer sign that it is not an ID token.
        ///
        /// _Default:_ `resource`; without it, `client_id`
        pub audience: Option<Vec<String>> as Option<SomeWords> = None,
        /// The claim that contains the audience: `aud`, or `client_id`, which is read if there is no `aud`, for
        /// access tokens of Amazon Cognito. Then `audience` lists the clients whose tokens are accepted, whatever API
        /// they are for.
        ///
        /// _Default:_ `aud`
        pub audience_claim: AudienceClaim = AudienceClaim::Aud,
        /// The kinds of tokens that are accepted: `access_tokens`; also `identity_tokens`, for those of a CI job or a
        /// workload, which at some providers anyone can obtain for any audience, so that the handler must check
        /// `sub`; or also `untyped_tokens`, for access tokens that nothing marks as such, like Auth0's without
        /// scopes. If the audience is `client_id`, neither is accepted: the app's own ID tokens have it.
        ///
        /// _Default:_ `access_tokens`; with the preset `auth0`, `untyped_tokens`
        pub accepts: Accepts = Accepts::AccessTokens,
        /// The accepted signing algorithms of access tokens: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384,
        /// ES512 and EdDSA.
        ///
        /// _Default:_ what the metadata lists for ID tokens, and what a key names by its own `alg`
        pub access_token_signing_algs: Option<Vec<SigningAlgorithm>> as Option<SomeWords<AccessTokenAlgorithm>> = None,
        /// Whether a JWT access token must have `at+jwt` in its header. Many providers do not send it.
        /// [RFC 9068 §2.1](https://www.rfc-editor.org/rfc/rfc9068#section-2.1)
        ///
        /// _Default:_ `false`
        pub require_at_jwt: bool = false,
        /// How access tokens are verified: `auto` (JWTs by their signature, others by introspection), `jwt` or
        /// `introspection`.
        ///
        /// _Default:_ `auto`
        pub token_validation: TokenValidation = TokenValidation::Auto,
        /// How the client authenticates at the introspection endpoint: `client_secret_post`, `client_secret_basic`,
        /// or `bearer`, which sends the introspected token.
        /// [RFC 7662 §2.1](https://www.rfc-editor.org/rfc/rfc7662#section-2.1)
        ///
        /// _Default:_ as at the token endpoint, unless the metadata lists other methods alone; at an endpoint of
        /// `client_secrets`, `token_endpoint_auth_method` or else `client_secret_post`
        pub introspection_auth_method: Option<IntrospectionAuthMethod> = None,
        /// Whether an introspection response may omit `aud` although `audience` or `resource` is set. Every token
        /// that the provider reports as active is then accepted, including those for other APIs, except at guards
        /// that name an API of `apis`. Logs a warning at liftoff.
        ///
        /// _Default:_ `false`
        pub insecure_introspection_without_audience: bool = false,
        /// The maximum number of cached access tokens of each kind, verified JWTs and introspection results, for each
        /// API: `true` (10,000), `false` (no cache), or a number. A JWT is cached for at most five minutes, an
        /// introspection result for one.
        ///
        /// _Default:_ `true`
        pub token_cache: CacheSize = CacheSize::Flag(true),
        /// Whether access tokens that are bound to a key are accepted with a proof: `off`, `accepted` beside bearer tokens, or
        /// `required`. In any case a bound token without a proof is rejected. Proofs name the public URL of the request, so
        /// that `base_url` is needed. [RFC 9449 §7](https://www.rfc-editor.org/rfc/rfc9449#section-7)
        ///
        /// _Default:_ `off`
        pub dpop_tokens: DpopTokens = DpopTokens::Off,
        /// How old a proof may be, by its `iat`, at most 10 minutes; seconds or a duration such as `"2m"`. A client whose
        /// clock is more than 10 seconds ahead is rejected in any case.
        /// [RFC 9449 §11.1](https://www.rfc-editor.org/rfc/rfc9449#section-11.1)
        ///
        /// _Default:_ `60s`
        pub dpop_max_age: Duration as ProofAge = Duration::from_secs(60),
        /// Whether a proof must have a recent nonce of this app, which a client learns from the response to its first
        /// request. Then a proof cannot be made in advance. All nodes need the same `secret_key`.
        /// [RFC 9449 §9](https://www.rfc-editor.org/rfc/rfc9449#section-9)
        ///
        /// _Default:_ `false`
        pub dpop_nonces: bool = false,
        /// The maximum number of used proofs that a node keeps until they expire, about 100 bytes each. One user and client
        /// have a sixteenth of it. A request beyond that is answered with 429, and with 503 if all are in use.
        ///
        /// _Default:_ `1000000`
        pub dpop_max_proofs: usize as Between<16, { usize::MAX }> = 1_000_000,
        /// Where the certificate of a client comes from, to which access tokens may be bound (mutual TLS): the table
        /// `client_certificate`. [RFC 8705 §3](https://www.rfc-editor.org/rfc/rfc8705#section-3)
        pub client_certificate: ClientCertificateSettings = ClientCertificateSettings::default(),
        /// Whether every access token must be bound, to a key (`dpop_tokens`) or to a client certificate
        /// (`client_certificate`), so that bearer tokens are rejected. [`BoundBearer`](crate::BoundBearer) demands it for
        /// one route.
        ///
        /// _Default:_ `false`
        pub require_bound_tokens: bool = false,
        /// Claims whose strings, or whose member names if they are objects, are the groups of a user
        /// ([`User::groups`](crate::User::groups)) and of an access token: for example Cognito's `cognito:groups`. Paths as
        /// in `roles_claim`.
        ///
        /// _Default:_ `groups`
        pub groups_claim: Vec<String> as Words<RolesClaim> = vec!["groups".to_owned()],
        /// Claims whose strings, or whose member names if they are objects, are the roles of a user
        /// ([`User::roles`](crate::User::roles)), and of an access token, where they count as scopes, as words: for example
        /// Keycloak's `realm_access.roles`. Dots separate object members, unless a claim has the whole name. A name
        /// that begins with `/` is a JSON Pointer ([RFC 6901](https://www.rfc-editor.org/rfc/rfc6901)), in which
        /// names may contain dots: `/resource_access/my.app/roles`.
        ///
        /// _Default:_ `[]`
        pub roles_claim: Vec<String> as Words<RolesClaim> = vec![],
        /// Additional issuers whose JWT access tokens, or identity tokens, are accepted, each with its own audience.
        ///
        /// _Default:_ `{}`
        pub issuers: BTreeMap<String, IssuerSettings> = BTreeMap::new(),
        /// Whether clients get access tokens for this app from `issuer`: it is then listed in `authorization_servers`
        /// of the protected resource metadata. Each of `issuers` has a setting of the same name.
        /// [RFC 9728 §2](https://www.rfc-editor.org/rfc/rfc9728#section-2)
        ///
        /// _Default:_ `true`; with `accepts = "identity_tokens"`, `false`
        pub authorization_server: Option<bool> = None,
        /// Several APIs in one app, each with its own audience and protected resource metadata. A guard selects one
        /// by name ([`Scopes::API`](crate::Scopes::API)); `audience` and `resource` apply to a guard that names none.
        ///
        /// _Default:_ `{}`
        pub apis: BTreeMap<String, ApiSettings> = BTreeMap::new(),
        /// The `realm` of a `WWW-Authenticate` challenge.
        /// [RFC 9110 §11.5](https://www.rfc-editor.org/rfc/rfc9110#section-11.5)
        ///
        /// _Default:_ `api`
        pub realm: String as Realm = "api".to_owned(),
        /// Whether an app with `Bearer` guards publishes its protected resource metadata and includes its URL in
        /// every challenge. Either `base_url` or `resource` must be known.
        /// [RFC 9728](https://www.rfc-editor.org/rfc/rfc9728)
        ///
        /// _Default:_ `true`
        pub resource_metadata: bool = true,
        /// The identifier of this API in that metadata: a URL, with a path if the API has one. Clients send it to the
        /// provider ([RFC 8707](https://www.rfc-editor.org/rfc/rfc8707)), which puts it into `aud`.
        ///
        /// _Default:_ `base_url`
        pub resource: Option<Url> as Option<Resource> = None,
        /// Scopes in that metadata in addition to those of the app's `Bearer` guards.
        ///
        /// _Default:_ `[]`
        pub scopes_supported: Vec<String> as Words<Scope> = vec![],
        /// The lifetime, storage and size of sessions: the table `session`.
        pub session: SessionSettings = SessionSettings::default(),
        /// Limits on requests to the provider: the table `http`.
        pub http: HttpSettings = HttpSettings::default(),
        /// A small development provider that starts with the app: `true`, or a table. The app is its client with
        /// `client_id` and `client_secret`, if they are set, so that another process can be the same client. Only in
        /// the debug profile, with the cargo feature `dev-provider`.
        ///
        /// _Default:_ `false`
        pub dev_provider: Option<DevProviderSettings> as DevProvider = None,
    }
    internal {
        origins: Origins,
        stray_characters: Vec<String>,
        pub(crate) provider_name: Option<std::sync::Arc<str>>,
        is_found: bool,
        pub(crate) client_signer: Option<crate::client_key::AttachedSigner>,
    }
}

/// How a client authenticates at the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenEndpointAuthMethod {
    /// Identifier and secret in the `Authorization` header.
    ClientSecretBasic,
    /// Identifier and secret in the form.
    ClientSecretPost,
    /// An assertion signed with the client's private key in the form.
    PrivateKeyJwt,
    /// The client's certificate, of an authority that the provider trusts
    /// ([RFC 8705 §2.1](https://www.rfc-editor.org/rfc/rfc8705#section-2.1)).
    TlsClientAuth,
    /// The client's certificate, which is registered at the provider
    /// ([RFC 8705 §2.2](https://www.rfc-editor.org/rfc/rfc8705#section-2.2)).
    SelfSignedTlsClientAuth,
    /// No authentication: a public client.
    None,
}

/// Whether the tokens of this app are bound to a key by DPoP ([RFC 9449](https://www.rfc-editor.org/rfc/rfc9449)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Dpop {
    /// They are bearer tokens.
    Off,
    /// They are bound if the provider's metadata lists an algorithm that this app has, and if the provider binds them.
    Auto,
    /// Bearer tokens are refused.
    Required,
}

/// How the provider sends its authorization response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ResponseMode {
    /// In the query of the redirect URI.
    Query,
    /// In a form that the browser posts to it.
    FormPost,
}

/// A type of data that a browser clears, from
/// [Clear Site Data §3.1](https://www.w3.org/TR/clear-site-data/#header), or one that Chromium and HTML have added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
#[expect(missing_docs, reason = "the standard's names")]
pub enum ClearSiteData {
    Cache,
    Cookies,
    Storage,
    ExecutionContexts,
    PrefetchCache,
    PrerenderCache,
    ClientHints,
    /// All of them.
    #[serde(rename = "*")]
    All,
}

named!(TokenEndpointAuthMethod, Dpop, ResponseMode, ClearSiteData);

impl TokenEndpointAuthMethod {
    /// The name in the standard (OpenID Connect Core 1.0 §9).
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            TokenEndpointAuthMethod::ClientSecretBasic => "client_secret_basic",
            TokenEndpointAuthMethod::ClientSecretPost => "client_secret_post",
            TokenEndpointAuthMethod::PrivateKeyJwt => "private_key_jwt",
            TokenEndpointAuthMethod::TlsClientAuth => "tls_client_auth",
            TokenEndpointAuthMethod::SelfSignedTlsClientAuth => "self_signed_tls_client_auth",
            TokenEndpointAuthMethod::None => "none",
        }
    }

    /// Whether the client authenticates with its certificate.
    pub(crate) fn is_by_certificate(self) -> bool {
        matches!(
            self,
            TokenEndpointAuthMethod::TlsClientAuth | TokenEndpointAuthMethod::SelfSignedTlsClientAuth
        )
    }
}

/// The key and documentation of each setting.
#[cfg(feature = "__internals")]
pub(crate) fn documented() -> Vec<(String, &'static str)> {
    let declared = declaration::declared("", <Settings as declaration::SettingType>::FIELDS);
    declared.into_iter().map(|(key, field)| (key, field.doc)).collect()
}

impl Settings {
    /// Reads the table `oidc` of the selected profile of `figment`, then the `OIDC_*` environment variables.
    ///
    /// # Errors
    ///
    /// Values of the wrong type or form, and unknown names, each with its file or variable. Missing settings, and
    /// those that contradict each other, are reported at launch.
    pub fn extract(figment: &Figment) -> Result<Settings, SettingsError> {
        let (settings, errors) = Settings::extract_with_errors(figment)?;
        SettingsError::all(errors)?;
        Ok(settings)
    }

    /// As [`extract`](Self::extract), with the errors of values that were read, but contradict each other.
    pub(crate) fn extract_with_errors(figment: &Figment) -> Result<(Settings, Vec<SettingsError>), SettingsError> {
        let (settings, ignored, errors) = Settings::read_with_errors(figment)?;
        for line in ignored.into_iter().chain(settings.stray_characters()) {
            tracing::warn!("{line}");
        }
        Ok((settings, errors))
    }

    /// Like [`extract`](Self::extract), with a warning for each unknown variable.
    #[cfg(feature = "cli")]
    pub(crate) fn read(figment: &Figment) -> Result<(Settings, Vec<String>), SettingsError> {
        let (settings, ignored, errors) = Settings::read_with_errors(figment)?;
        SettingsError::all(errors)?;
        Ok((settings, ignored))
    }

    fn read_with_errors(figment: &Figment) -> Result<(Settings, Vec<String>, Vec<SettingsError>), SettingsError> {
        let mut environment = Environment::read(std::env::vars_os());
        let ignored = std::mem::take(&mut environment.ignored);
        let unreadable = std::mem::take(&mut environment.errors);
        // `focus` below would silently skip a value that is not a table.
        match figment.find_value("oidc") {
            Ok(value) if value.as_dict().is_none() => {
                return Err(SettingsError::not_a_table(figment, &value));
            }
            Err(error) if !error.missing() => return Err(SettingsError::from_figment(error)),
            _ => {}
        }
        let figment = figment.focus("oidc").merge(environment);
        let parsed = Settings::parse_table(&figment);
        let errors = parsed.as_ref().err().map(SettingsError::each);
        SettingsError::all(unreadable.into_iter().chain(errors.into_iter().flatten()))?;
        let mut settings = parsed?;
        // What a preset that cannot be expanded leaves out, would be missing.
        let mut unread = vec![];
        match settings.expansion() {
            Ok(Some(expansion)) => settings = Settings::parse_table(&figment.clone().join(expansion))?,
            Ok(None) => {}
            Err(error) => unread.extend(error.each()),
        }
        if let Err(error) = settings.read_providers(&figment) {
            unread.extend(error.each());
        }
        let is_read = unread.is_empty();
        let mut errors = unread;
        launch_check::add(&mut errors, settings.check());
        if !is_read {
            SettingsError::all(errors)?;
            return Ok((settings, ignored, vec![]));
        }
        Ok((settings, ignored, errors))
    }

    fn parse_table(figment: &Figment) -> Result<Settings, SettingsError> {
        let table = figment.find_value("").map_err(SettingsError::from_figment)?;
        let origins = Origins::of(figment, &table);
        let (mut settings, stray_characters) = Parser::parse::<Settings>(&table, &origins)?;
        settings.stray_characters = stray_characters;
        settings.origins = origins;
        Ok(settings)
    }

    /// The hosts for which plain http is accepted, as validated by [`check`](Self::check).
    pub(crate) fn insecure_hosts(&self) -> InsecureHttpHosts {
        InsecureHttpHosts::new(&self.insecure_http_hosts)
    }

    /// The hosts of the own network that a registered provider may have, as validated by [`check`](Self::check).
    pub(crate) fn internal_hosts(&self) -> InternalProviderHosts {
        InternalProviderHosts::new(&self.internal_provider_hosts)
    }

    fn error(&self, mistake: Mistake) -> SettingsError {
        SettingsError::new(self.origins.find(&mistake.key), mistake)
    }
}
