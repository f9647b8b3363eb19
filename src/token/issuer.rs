//! The expected issuer of a token: a fixed one, or a template with one issuer per tenant.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde_json::{Map, Value};

use super::{
    ClaimError,
    checks::{check_iss, string},
};
use crate::printable::excerpt;

/// The placeholder for the tenant id that Microsoft Entra ID writes into the metadata and keys that all tenants
/// share.
pub(crate) const TENANT_ID: &str = "{tenantid}";

/// The tenant of Microsoft's personal accounts, which anyone can open.
pub(crate) const PERSONAL_ACCOUNTS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// The word for every organisation in a list of tenants.
pub(crate) const ANY_TENANT: &str = "any";

/// The tenants whose tokens are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tenants {
    ids: Arc<BTreeSet<String>>,
    /// Whether every organisation is accepted too; [`PERSONAL_ACCOUNTS`] only by its id.
    every_organisation: bool,
}

impl Tenants {
    /// Parses a list of tenant ids, in which `any` is every organisation. The error is the invalid entry.
    pub(crate) fn parse(entries: &[String]) -> Result<Tenants, &String> {
        let mut tenants = Tenants {
            ids: Arc::default(),
            every_organisation: false,
        };
        let mut ids = BTreeSet::new();
        for entry in entries {
            let id = entry.to_ascii_lowercase();
            if entry == ANY_TENANT {
                tenants.every_organisation = true;
            } else if is_tenant_id(&id) {
                ids.insert(id);
            } else {
                return Err(entry);
            }
        }
        tenants.ids = Arc::new(ids);
        Ok(tenants)
    }

    /// The listed ids.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().map(String::as_str)
    }

    pub(crate) fn has_every_organisation(&self) -> bool {
        self.every_organisation
    }

    fn accept(&self, id: &str) -> bool {
        self.ids.contains(id) || (self.every_organisation && id != PERSONAL_ACCOUNTS)
    }
}

/// For logs and errors.
impl fmt::Display for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let every = self.every_organisation.then_some("every organisation");
        let names: Vec<_> = every.into_iter().chain(self.ids()).collect();
        f.write_str(&names.join(", "))
    }
}

/// Whether this is a tenant id as in tokens: a GUID in lower case. A single spelling of each tenant keeps its
/// issuer unique.
fn is_tenant_id(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f' | '-');
    lengths.eq([8, 4, 4, 4, 12]) && text.chars().all(is_hex)
}

/// The expected issuer as in the metadata, with the accepted tenants if it is a template.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpectedIssuer<'a> {
    issuer: &'a str,
    tenants: Option<&'a Tenants>,
}

impl<'a> ExpectedIssuer<'a> {
    /// `tenants` is `Some` if and only if the issuer is a template.
    pub(crate) fn new(issuer: &'a str, tenants: Option<&'a Tenants>) -> ExpectedIssuer<'a> {
        ExpectedIssuer { issuer, tenants }
    }

    /// A fixed issuer, compared character by character.
    #[cfg(any(test, feature = "__internals"))]
    pub(crate) fn exactly(issuer: &'a str) -> ExpectedIssuer<'a> {
        ExpectedIssuer::new(issuer, None)
    }

    /// The issuer as in the metadata.
    pub(crate) fn as_str(self) -> &'a str {
        self.issuer
    }

    pub(crate) fn is_template(self) -> bool {
        self.tenants.is_some()
    }

    /// Checks `iss`, and returns it: for a template, the issuer of the token's tenant.
    ///
    /// Compared character by character ([RFC 7519 §4.1.1]). For a template, the `tid` of the token replaces the
    /// placeholder, and the tenant must be accepted ([Microsoft identity platform, access tokens]).
    ///
    /// [RFC 7519 §4.1.1]: https://www.rfc-editor.org/rfc/rfc7519#section-4.1.1
    /// [Microsoft identity platform, access tokens]: https://learn.microsoft.com/entra/identity-platform/access-tokens#multitenant-applications
    pub(super) fn check(self, claims: &Map<String, Value>) -> Result<&str, ClaimError> {
        let actual = string(claims, "iss")?;
        let Some(tenants) = self.tenants else {
            return check_iss(claims, self.issuer).map(|()| actual);
        };
        let tenant = string(claims, "tid")?;
        if !is_tenant_id(tenant) {
            return Err(ClaimError::TenantId {
                actual: excerpt(tenant),
            });
        }
        let expected = self.of_tenant(tenant);
        if actual != expected {
            return Err(ClaimError::IssuerOfTenant {
                expected,
                actual: excerpt(actual),
            });
        }
        if tenants.accept(tenant) {
            Ok(actual)
        } else {
            Err(ClaimError::Tenant {
                actual: tenant.to_owned(),
            })
        }
    }

    /// Whether `issuer` is this issuer, or that of an accepted tenant: for an `iss` outside of a token.
    pub(crate) fn accepts(self, issuer: &str) -> bool {
        match (self.tenants, self.tenant_in(issuer)) {
            (None, _) => issuer == self.issuer,
            (Some(tenants), Some(tenant)) => tenants.accept(tenant),
            (Some(_), None) => false,
        }
    }

    /// Whether `issuer` is this issuer, or that of any tenant: selects the settings and keys to verify a token
    /// with.
    pub(crate) fn is_origin_of(self, issuer: &str) -> bool {
        if self.is_template() {
            self.tenant_in(issuer).is_some()
        } else {
            issuer == self.issuer
        }
    }

    /// Whether a key that is published for `key_issuer` may sign for `iss`. Entra publishes the keys of all tenants
    /// in one set: most with the template, valid for any tenant, some with the issuer of one tenant.
    ///
    /// <https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-the-signing-key-issuer>
    pub(super) fn is_signed_by(self, key_issuer: Option<&str>, iss: &str) -> bool {
        match key_issuer {
            Some(key_issuer) if self.is_template() => key_issuer == self.issuer || key_issuer == iss,
            _ => true,
        }
    }

    /// The issuers of the listed tenants; the issuer itself if it is not a template.
    pub(crate) fn listed(self) -> Vec<String> {
        match self.tenants {
            None => vec![self.issuer.to_owned()],
            Some(tenants) => tenants.ids().map(|id| self.of_tenant(id)).collect(),
        }
    }

    fn of_tenant(self, tenant: &str) -> String {
        self.issuer.replacen(TENANT_ID, tenant, 1)
    }

    /// The tenant id in an issuer of this template.
    fn tenant_in(self, issuer: &str) -> Option<&str> {
        let (before, after) = self.issuer.split_once(TENANT_ID)?;
        let tenant = issuer.strip_prefix(before)?.strip_suffix(after)?;
        is_tenant_id(tenant).then_some(tenant)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEMPLATE: &str = "https://login.example/{tenantid}/v2.0";
    const ONE: &str = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490";
    const OTHER: &str = "82229342-1101-4ab6-817b-70c0747630f3";

    fn tenants(entries: &[&str]) -> Tenants {
        let entries: Vec<_> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        Tenants::parse(&entries).unwrap()
    }

    fn judge(entries: &[&str], claims: Value) -> Result<String, ClaimError> {
        let tenants = tenants(entries);
        let expected = ExpectedIssuer::new(TEMPLATE, Some(&tenants));
        let Value::Object(claims) = claims else {
            panic!("claims are an object")
        };
        let verdict = expected.check(&claims).map(str::to_owned);
        if verdict.is_ok() {
            assert!(expected.accepts(claims["iss"].as_str().unwrap()));
        }
        verdict
    }

    fn of(tenant: &str) -> Value {
        json!({"iss": format!("https://login.example/{tenant}/v2.0"), "tid": tenant})
    }

    #[test]
    fn the_issuer_is_the_template_with_the_tenant_of_the_token() {
        let issuer = format!("https://login.example/{ONE}/v2.0");
        assert_eq!(judge(&[ONE], of(ONE)), Ok(issuer.clone()));
        assert_eq!(judge(&[&ONE.to_uppercase(), OTHER], of(ONE)), Ok(issuer));
        let refused = ClaimError::Tenant {
            actual: OTHER.to_owned(),
        };
        assert_eq!(judge(&[ONE], of(OTHER)), Err(refused));
        let other = json!({"iss": format!("https://login.example/{ONE}/v2.0"), "tid": OTHER});
        let refused = ClaimError::IssuerOfTenant {
            expected: format!("https://login.example/{OTHER}/v2.0"),
            actual: format!("https://login.example/{ONE}/v2.0"),
        };
        assert_eq!(judge(&[ONE, OTHER], other), Err(refused));
    }

    #[test]
    fn a_token_without_its_tenant_is_refused() {
        let mut claims = of(ONE);
        claims.as_object_mut().unwrap().remove("tid");
        let missing = ClaimError::Missing { claim: "tid" };
        assert_eq!(judge(&["any"], claims.clone()), Err(missing));
        claims["tid"] = json!([ONE]);
        let wrong = ClaimError::WrongType {
            claim: "tid",
            expected: "a string",
            actual: "an array",
        };
        assert_eq!(judge(&["any"], claims), Err(wrong));
    }

    #[test]
    fn a_tenant_is_a_guid_in_lower_case() {
        let upper = ONE.to_uppercase();
        let odd = [
            "",
            "common",
            "{tenantid}",
            "contoso.onmicrosoft.com",
            "x/../8eaef023-2b34-4da1-9baa-8bc8c9d6a490",
            "8eaef023-2b34-4da1-9baa-8bc8c9d6a490/",
            "8eaef023-2b34-4da1-9baa-8bc8c9d6a49",
            "8eaef023-2b34-4da1-9baa-8bc8c9d6a4900",
            "8eaef0232b344da19baa8bc8c9d6a490",
            "{8eaef023-2b34-4da1-9baa-8bc8c9d6a490}",
            "8eaef023-2b34-4da1-9baa-8bc8c9d6a49g",
            " 8eaef023-2b34-4da1-9baa-8bc8c9d6a490",
            &upper,
        ];
        for tenant in odd {
            let refused = ClaimError::TenantId {
                actual: tenant.to_owned(),
            };
            assert_eq!(judge(&["any", ONE], of(tenant)), Err(refused), "{tenant:?}");
            let all = tenants(&["any", ONE]);
            let expected = ExpectedIssuer::new(TEMPLATE, Some(&all));
            let issuer = format!("https://login.example/{tenant}/v2.0");
            assert!(!expected.accepts(&issuer), "{tenant:?}");
            assert!(!expected.is_origin_of(&issuer), "{tenant:?}");
        }
    }

    #[test]
    fn every_organisation_is_without_personal_accounts() {
        assert!(judge(&["any"], of(ONE)).is_ok());
        let refused = ClaimError::Tenant {
            actual: PERSONAL_ACCOUNTS.to_owned(),
        };
        assert_eq!(judge(&["any"], of(PERSONAL_ACCOUNTS)), Err(refused));
        assert!(judge(&["any", PERSONAL_ACCOUNTS], of(PERSONAL_ACCOUNTS)).is_ok());
        assert!(judge(&[PERSONAL_ACCOUNTS], of(PERSONAL_ACCOUNTS)).is_ok());
    }

    #[test]
    fn an_issuer_without_a_template_has_no_tenants() {
        let expected = ExpectedIssuer::exactly("https://login.example/v2.0");
        let issuer = |iss: &str| {
            let claims = json!({"iss": iss, "tid": ONE});
            let claims = claims.as_object().unwrap().clone();
            expected.check(&claims).map(str::to_owned)
        };
        let exact = "https://login.example/v2.0".to_owned();
        assert_eq!(issuer(&exact), Ok(exact.clone()));
        let other = format!("https://login.example/{ONE}/v2.0");
        let refused = ClaimError::Issuer {
            expected: exact,
            actual: other.clone(),
        };
        assert_eq!(issuer(&other), Err(refused));
        assert!(!expected.accepts(&other));
        // Without a template, the `issuer` of a key is not checked.
        assert!(expected.is_signed_by(Some("https://elsewhere.example"), "x"));
    }

    #[test]
    fn a_key_signs_for_the_tenants_that_it_is_published_for() {
        let all = tenants(&["any"]);
        let expected = ExpectedIssuer::new(TEMPLATE, Some(&all));
        let iss = format!("https://login.example/{ONE}/v2.0");
        let other = format!("https://login.example/{OTHER}/v2.0");
        for key_issuer in [None, Some(TEMPLATE), Some(&*iss)] {
            assert!(expected.is_signed_by(key_issuer, &iss), "{key_issuer:?}");
        }
        for key_issuer in [&*other, "", "https://sts.example/{tenantid}/"] {
            assert!(!expected.is_signed_by(Some(key_issuer), &iss));
        }
    }

    #[test]
    fn tenants_are_ids_or_any() {
        for entry in ["common", "", "*", "Any", "ANY", "any ", "contoso.com"] {
            let entries = [ONE.to_owned(), entry.to_owned()];
            assert_eq!(Tenants::parse(&entries), Err(&entries[1]));
        }
        let both = tenants(&[OTHER, &ONE.to_uppercase(), ONE]);
        let expected = ExpectedIssuer::new(TEMPLATE, Some(&both));
        let issuer = |tenant| format!("https://login.example/{tenant}/v2.0");
        assert_eq!(expected.listed(), [issuer(OTHER), issuer(ONE)]);
    }
}
