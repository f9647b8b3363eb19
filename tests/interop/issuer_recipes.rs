//! What the manual tells an API to set for the issuers of real products, read from its pages.

use figment::{
    Figment,
    providers::{Format, Toml},
};
use rocket_openidconnect::settings::{Accepts, AudienceClaim, IssuerSettings, Settings};
use serde_json::{Value, json};

const APIS: &str = include_str!("../../docs/manual/apis.md");
const PROVIDERS: &str = include_str!("../../docs/manual/providers.md");

/// The API's audience where a product lets it choose.
const API: &str = "https://api.example.com";
/// The API's own registration, which is its audience elsewhere.
pub const CLIENT_ID: &str = "f2a76e08-93f2-4350-833c-965c02483b11";

/// Where the manual has the settings for a product.
#[derive(Clone, Copy)]
pub struct Recipe {
    pub product: &'static str,
    page: &'static str,
    heading: &'static str,
    /// The table of `issuers` there; without, it is the app's own provider there.
    table: Option<&'static str>,
    /// Whether that is another product's, and the manual has this one's issuer in words.
    is_alike: bool,
    /// The audience, where the manual leaves it to its reader.
    audience: &'static str,
}

const fn provider(product: &'static str, heading: &'static str) -> Recipe {
    Recipe {
        product,
        page: PROVIDERS,
        heading,
        table: None,
        is_alike: false,
        audience: API,
    }
}

const fn issuer(product: &'static str, heading: &'static str, table: &'static str) -> Recipe {
    Recipe {
        table: Some(table),
        ..provider(product, heading)
    }
}

/// One that needs an issuer and an audience, and no more.
const fn plain(product: &'static str) -> Recipe {
    Recipe {
        is_alike: true,
        ..issuer(product, "Others, for an API", "hydra")
    }
}

impl Recipe {
    const fn on(self, page: &'static str) -> Recipe {
        Recipe { page, ..self }
    }

    const fn for_audience(self, audience: &'static str) -> Recipe {
        Recipe { audience, ..self }
    }
}

pub const RECIPES: [Recipe; 25] = [
    issuer("GitHub Actions", "Several issuers", "github").on(APIS),
    issuer("SPIFFE", "Several issuers", "mesh").on(APIS),
    plain("Kubernetes"),
    plain("Firebase").for_audience("shop-1234"),
    plain("SPIRE"),
    issuer("GitLab", "GitLab", "gitlab"),
    issuer("Google", "Google", "google"),
    provider("Entra v2", "Microsoft Entra ID").for_audience(CLIENT_ID),
    issuer("Entra v1", "Microsoft Entra ID", "entra_v1"),
    issuer("Azure AD B2C", "Microsoft Entra ID", "b2c"),
    issuer("AD FS", "AD FS, for an API", "adfs"),
    provider("Cognito", "Amazon Cognito"),
    Recipe {
        is_alike: true,
        ..provider("Cognito without a domain", "Amazon Cognito")
    },
    provider("Auth0", "Auth0"),
    provider("Okta", "Okta"),
    provider("Zitadel", "Zitadel").for_audience("271828182845904523"),
    provider("Keycloak", "Keycloak"),
    plain("Authelia"),
    provider("Authentik", "Authentik").for_audience(CLIENT_ID),
    provider("Dex", "Dex"),
    issuer("Hydra", "Others, for an API", "hydra"),
    plain("PingFederate"),
    plain("ForgeRock").for_audience("notes-client"),
    plain("Duende"),
    plain("UAA"),
];

impl Recipe {
    pub fn of(product: &str) -> &'static Recipe {
        let found = RECIPES.iter().find(|recipe| recipe.product == product);
        found.unwrap_or_else(|| panic!("the manual has no settings for {product}"))
    }

    /// The blocks of the manual, read as settings.
    pub fn settings(&self) -> Settings {
        let start = format!("{}\n", self.heading);
        let mut sections = self.page.split("\n## ");
        let section = sections.find(|section| section.starts_with(&start));
        let section = section.unwrap_or_else(|| panic!("no section {:?}", self.heading));
        let blocks = section.split("```toml").skip(1);
        let blocks = blocks.map(|rest| rest.split("```").next().unwrap());
        let is_meant = |block: &&str| match self.table {
            Some(table) => block.contains(&format!("[default.oidc.issuers.{table}]")),
            None => !block.contains("oidc.issuers"),
        };
        let mut figment = Figment::new();
        for block in blocks.filter(is_meant) {
            let has_table = block.lines().any(|line| line.trim().starts_with('['));
            let table = if has_table { "" } else { "[default.oidc]" };
            figment = figment.merge(Toml::string(&format!("{table}\n{block}")).nested());
        }
        let settings = Settings::extract(&figment);
        settings.unwrap_or_else(|error| panic!("{}: {error}", self.product))
    }

    /// The table of `issuers` for the product: its name, and its members. What the manual sets for the app's own provider
    /// is set for an issuer just so.
    pub fn table(&self, shape: &Value) -> (String, Value) {
        let settings = self.settings();
        let (name, mut table) = match self.table {
            Some(name) => (name, further(&settings.issuers[name])),
            None => (self.product, own(&settings)),
        };
        if self.is_alike {
            table["issuer"] = shape["issuer"].clone();
        }
        assert_eq!(table["issuer"], shape["issuer"], "{}", self.product);
        if self.is_alike && self.table.is_some() || table["audience"] == json!([]) {
            table["audience"] = json!([self.audience]);
        }
        let name = if self.is_alike { self.product } else { name };
        (name.to_lowercase().replace(' ', "_"), table)
    }
}

fn own(settings: &Settings) -> Value {
    json!({
        "issuer": settings.issuer,
        "audience": settings.audience.as_deref().unwrap_or_default(),
        "accepts": name_of(settings.accepts),
        "audience_claim": match settings.audience_claim {
            AudienceClaim::ClientId => "client_id",
            _ => "aud",
        },
    })
}

fn further(settings: &IssuerSettings) -> Value {
    let mut table = json!({
        "issuer": settings.issuer,
        "audience": settings.audience,
        "accepts": name_of(settings.accepts),
    });
    for (name, url) in [
        ("jwks_uri", &settings.jwks_uri),
        ("server_metadata_url", &settings.server_metadata_url),
    ] {
        if let Some(url) = url {
            table[name] = json!(url.as_str());
        }
    }
    table
}

fn name_of(accepts: Accepts) -> &'static str {
    match accepts {
        Accepts::AccessTokens => "access_tokens",
        Accepts::IdentityTokens => "identity_tokens",
        Accepts::UntypedTokens => "untyped_tokens",
        other => panic!("{other:?}"),
    }
}
