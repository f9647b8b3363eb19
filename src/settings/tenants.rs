//! The setting `tenants`: the accepted tenants of an issuer that is a template.

use super::{
    InsecureSetting, Settings,
    insecure_settings::insecure,
    metadata_source::MetadataSource,
    mistake::{Mistake, rule},
};
use crate::token::{ANY_TENANT, PERSONAL_ACCOUNTS, TENANT_ID, Tenants};

/// The metadata that Microsoft's tenants share.
const SHARED_METADATA: &str = "https://login.microsoftonline.com/organizations/v2.0/.well-known/openid-configuration";

/// Parses the accepted tenants: `Some` if and only if the issuer is a template. `table` is `issuers.NAME.` for a further
/// issuer.
pub(super) fn tenants_of(
    table: &str,
    issuer: &str,
    entries: &[String],
    metadata: &MetadataSource,
) -> Result<Option<Tenants>, Mistake> {
    let key = format!("{table}tenants");
    let template =
        format!("the template in the metadata, such as `https://login.microsoftonline.com/{TENANT_ID}/v2.0`");
    if !issuer.contains(TENANT_ID) {
        rule(key, entries.is_empty())
            .cause(format!(
                "the issuer is not a template with `{TENANT_ID}`: it would restrict no token"
            ))
            .remedy(format!("remove it, or set `issuer` to {template}"))?;
        return Ok(None);
    }
    let whole = issuer.split('/').skip(3).filter(|segment| *segment == TENANT_ID);
    rule(
        format!("{table}issuer"),
        whole.count() == 1 && issuer.matches(TENANT_ID).count() == 1,
    )
    .cause(format!(
        "`{issuer}` does not have `{TENANT_ID}` exactly once, as a whole segment of its path"
    ))
    .remedy(format!("write {template}"))?;
    rule(key.clone(), !entries.is_empty())
        .cause("it is not set, and the issuer is a template: the accepted tenants are unknown")
        .remedy("list the ids of the tenants, or `any` for every organisation")?;
    if let MetadataSource::Discovery { url } = metadata {
        rule(
            format!("{table}server_metadata_url"),
            !url.path().contains("%7Btenantid%7D"),
        )
        .cause(format!("the issuer is a template, so there is no metadata at `{url}`"))
        .remedy(format!(
            "set it to the URL of the tenants' shared metadata, such as `{SHARED_METADATA}`"
        ))?;
    }
    let tenants = Tenants::parse(entries).map_err(|entry| {
        let cause = format!("{entry:?} is not the id of a tenant");
        let remedy = format!("list tenant ids, each a GUID, or `any` for every organisation; personal accounts are in `{PERSONAL_ACCOUNTS}`");
        Mistake::new(cause, remedy).at(key)
    })?;
    Ok(Some(tenants))
}

impl Settings {
    /// The `tenants` settings that accept any user.
    pub(super) fn open_tenants(&self) -> Vec<Option<InsecureSetting>> {
        let further = self.issuers.iter();
        let further = further.map(|(name, other)| (format!("issuers.{name}.tenants"), &other.tenants));
        let own = ("tenants".to_owned(), &self.tenants);
        std::iter::once(own)
            .chain(further)
            .flat_map(|(key, entries)| {
                let is_personal = |entry: &String| entry.eq_ignore_ascii_case(PERSONAL_ACCOUNTS);
                [
                    insecure(key.clone(), entries.iter().any(|entry| entry == ANY_TENANT))
                        .risk("`any` accepts every user of every organisation at the provider, and anyone can create an organisation"),
                    insecure(key, entries.iter().any(is_personal))
                        .risk(format!("{PERSONAL_ACCOUNTS} accepts every personal Microsoft account, and anyone can create one")),
                ]
            })
            .collect()
    }
}
