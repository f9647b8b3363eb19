//! The setting `tenants`: the accepted tenants of an issuer that is a template.

use super::{InsecureSetting, Settings, SettingsError, mode::MetadataSource};
use crate::token::{PERSONAL_ACCOUNTS, TENANT_ID, Tenants};

/// The metadata that Microsoft's tenants share.
const SHARED_METADATA: &str = "https://login.microsoftonline.com/organizations/v2.0/.well-known/openid-configuration";

impl Settings {
    /// Parses the accepted tenants: `Some` if and only if the issuer is a template. `table` is `issuers.NAME.` for a
    /// further issuer.
    pub(super) fn tenants_of(
        &self,
        table: &str,
        issuer: &str,
        entries: &[String],
        metadata: &MetadataSource,
    ) -> Result<Option<Tenants>, SettingsError> {
        let key = &*format!("{table}tenants");
        if !issuer.contains(TENANT_ID) {
            return if entries.is_empty() {
                Ok(None)
            } else {
                Err(self.error(
                key,
                format!("the issuer is no template with `{TENANT_ID}`: no token would be compared with it"),
                format!("remove it, or set `issuer` to the template that the metadata has, such as `https://login.microsoftonline.com/{TENANT_ID}/v2.0`"),
            ))
            };
        }
        let segments = issuer.split('/').skip(3);
        let whole = segments.filter(|segment| *segment == TENANT_ID).count();
        if whole != 1 || issuer.matches(TENANT_ID).count() != 1 {
            return Err(self.error(
                &format!("{table}issuer"),
                format!("`{issuer}` has `{TENANT_ID}` not once, as a whole part of its path"),
                format!("write the template that the metadata has, such as `https://login.microsoftonline.com/{TENANT_ID}/v2.0`"),
            ));
        }
        if entries.is_empty() {
            return Err(self.error(
                key,
                "it is not set, and the issuer is a template: nothing says whose tokens are accepted",
                "list the ids of the tenants, or `*` for every organisation",
            ));
        }
        let is_derived = |url: &str| url.contains("%7Btenantid%7D");
        if let MetadataSource::Discovery { url } = metadata
            && is_derived(url.path())
        {
            return Err(self.error(
                &format!("{table}server_metadata_url"),
                format!("the issuer is a template, and no metadata is at `{url}`"),
                format!("set it to the metadata that the tenants share, such as `{SHARED_METADATA}`"),
            ));
        }
        let tenants = Tenants::parse(entries).map_err(|entry| {
            self.error(
                key,
                format!("{entry:?} is not the id of a tenant"),
                format!("list tenant ids, each a GUID, or `*` for every organisation; personal accounts are in `{PERSONAL_ACCOUNTS}`"),
            )
        })?;
        Ok(Some(tenants))
    }

    /// Adds the `tenants` settings that accept any user.
    pub(super) fn add_open_tenants(&self, found: &mut Vec<InsecureSetting>) {
        let further = self.issuers.iter();
        let further = further.map(|(name, other)| (format!("issuers.{name}."), &other.tenants));
        let own = (String::new(), &self.tenants);
        for (table, entries) in std::iter::once(own).chain(further) {
            let mut add = |risk| {
                let setting = format!("{table}tenants").into();
                found.push(InsecureSetting { setting, risk });
            };
            if entries.iter().any(|entry| entry == "*") {
                let risk = "`*` accepts everybody whom any organisation at the provider has an account for; anybody can found one";
                add(risk.to_owned());
            }
            let is_personal = |entry: &String| entry.eq_ignore_ascii_case(PERSONAL_ACCOUNTS);
            if entries.iter().any(is_personal) {
                add(format!(
                    "{PERSONAL_ACCOUNTS} accepts everybody with a personal Microsoft account; anybody can open one"
                ));
            }
        }
    }
}
