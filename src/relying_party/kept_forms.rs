//! Forms whose session had ended when they were sent: encrypted, until their user has signed in again.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rocket::http::CookieJar;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::RelyingParty;
use crate::{
    cookies::{NamedCookie, SetCookie},
    keys::{Purpose, digest},
    secret::Secret,
    session::{UserKey, store::StoreError},
};

/// How long a form is kept.
pub(crate) const FORM_TTL: Duration = Duration::from_secs(30 * 60);
/// The maximum size of a form's body, in bytes.
pub(crate) const MAX_FORM_SIZE: u64 = 64 * 1024;
/// The maximum size of the forms in the memory of this process, in bytes.
const MAX_IN_MEMORY: usize = 16 * 1024 * 1024;
/// What a form takes beside its text, in bytes.
const OVERHEAD: usize = 256;
/// The base name of the cookie with the browser's part of the key.
const KEY: &str = "oidc_kept_form";
/// The label of the name of an entry.
const LABEL: &str = "kept form";

/// The kept forms of an app: in its shared session store, or in the memory of this process.
///
/// There is one for each user. It is encrypted under a key of the app, bound to the user and to a random key that only the
/// browser has which sent the form: neither the store, nor another user of that browser, nor another browser of that user
/// can read it.
#[derive(Debug, Default)]
pub(crate) struct KeptForms {
    in_memory: Mutex<InMemory>,
    is_used: OnceLock<()>,
}

/// A form as its browser sent it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct KeptForm {
    /// The user whose session had ended.
    pub(crate) user: UserKey,
    /// `Host` of the request.
    pub(crate) host: Option<String>,
    pub(crate) method: String,
    /// Path and query in the browser.
    pub(crate) target: String,
    /// Path and query of the page with the form, as far as the browser stated it.
    pub(crate) form_page: Option<String>,
    /// The body, in `application/x-www-form-urlencoded`.
    pub(crate) body: String,
    /// In seconds since 1970.
    pub(crate) ends: i64,
}

/// A form that was found, and its place.
pub(crate) struct FoundForm {
    pub(crate) form: KeptForm,
    name: String,
    value: String,
}

impl KeptForm {
    /// Names and values, decoded.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        url::form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }

    /// Whether it was sent to the path of this address.
    pub(crate) fn has_path(&self, address: &str) -> bool {
        path_of(&self.target) == path_of(address)
    }

    /// Whether it was sent to the path of this address, or from a page at it.
    pub(crate) fn is_of_page(&self, address: &str) -> bool {
        let page = self.form_page.as_deref();
        self.has_path(address) || page.is_some_and(|page| path_of(page) == path_of(address))
    }
}

impl KeptForms {
    /// Records that a route keeps forms, for the report at liftoff.
    pub(crate) fn note_use(&self) {
        let _ = self.is_used.set(());
    }

    /// Whether a route keeps forms.
    pub(crate) fn is_used(&self) -> bool {
        self.is_used.get().is_some()
    }

    fn in_memory(&self) -> MutexGuard<'_, InMemory> {
        self.in_memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RelyingParty {
    /// Keeps a form in place of an earlier one of its user. Returns the cookie with the key for the browser.
    pub(crate) async fn keep_form(&self, mut form: KeptForm, now: OffsetDateTime) -> Result<SetCookie, StoreError> {
        let ttl = i64::try_from(FORM_TTL.as_secs()).unwrap_or(i64::MAX);
        form.ends = now.unix_timestamp().saturating_add(ttl);
        let key = Secret::random();
        let text = serde_json::to_vec(&form).expect("texts and numbers always serialize");
        let value = self
            .cookies
            .keys
            .encrypt(Purpose::KeptForm, &context(&key, &form.user), &text);
        let value = URL_SAFE_NO_PAD.encode(value);
        let name = self.form_names(&form.user).into_iter().next().unwrap_or_default();
        if self.sessions.is_shared {
            self.sessions.store.put_entry(&name, &value, FORM_TTL).await?;
        } else {
            self.kept_forms
                .in_memory()
                .insert(name, value, form.ends, now.unix_timestamp());
        }
        Ok(self.kept_form_cookie().set(key.expose(), FORM_TTL, now))
    }

    /// The kept form of this user, from this browser at this host.
    pub(crate) async fn kept_form(
        &self,
        user: &UserKey,
        host: Option<&str>,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
    ) -> Result<Option<FoundForm>, StoreError> {
        let Some(key) = self.kept_form_cookie().read(jar).map(Secret::new) else {
            return Ok(None);
        };
        let names = self.form_names(user);
        for (name, value) in names.iter().zip(self.form_entries(&names).await?) {
            let Some(value) = value else { continue };
            let decrypt = || {
                let value = URL_SAFE_NO_PAD.decode(&value).ok()?;
                let text = self
                    .cookies
                    .keys
                    .decrypt(Purpose::KeptForm, &context(&key, user), value)
                    .ok()?;
                serde_json::from_slice::<KeptForm>(&text.plaintext).ok()
            };
            let form = decrypt()
                .filter(|form| form.user == *user && form.host.as_deref() == host && now.unix_timestamp() < form.ends);
            if let Some(form) = form {
                let name = name.clone();
                return Ok(Some(FoundForm { form, name, value }));
            }
        }
        Ok(None)
    }

    /// Removes a form that was sent. Returns the removal of the browser's key.
    pub(crate) async fn drop_kept_form(&self, found: &FoundForm) -> SetCookie {
        if self.sessions.is_shared {
            if let Err(error) = self.sessions.store.unlock(&found.name, &found.value).await {
                // Without the browser's key it cannot be decrypted any more.
                tracing::debug!("{error}; a form that was sent is stored for half an hour");
            }
        } else {
            self.kept_forms.in_memory().remove(&found.name, &found.value);
        }
        self.kept_form_cookie().remove()
    }

    /// The cookie with the browser's key.
    pub(crate) fn kept_form_cookie(&self) -> NamedCookie {
        self.cookies.named(KEY, "/")
    }

    /// The names of a user's entry: one per secret key, the one to write first.
    fn form_names(&self, user: &UserKey) -> Vec<String> {
        let keys = &self.cookies.keys;
        keys.index_names(LABEL, &[user.provider(), user.issuer(), user.subject()])
    }

    async fn form_entries(&self, names: &[String]) -> Result<Vec<Option<String>>, StoreError> {
        if !self.sessions.is_shared {
            let kept = self.kept_forms.in_memory();
            return Ok(names.iter().map(|name| kept.get(name).map(str::to_owned)).collect());
        }
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        self.sessions.store.entries(&names).await
    }
}

fn path_of(address: &str) -> &str {
    address.split('?').next().unwrap_or_default()
}

/// What the encryption is bound to: the browser's key, and the user.
fn context(key: &Secret, user: &UserKey) -> [u8; 32] {
    digest(LABEL, &[key.expose(), user.provider(), user.issuer(), user.subject()])
}

/// Encrypted forms by name, up to a size in all; the oldest is dropped first.
#[derive(Debug, Default)]
struct InMemory {
    forms: HashMap<String, (u64, i64, Arc<str>)>,
    /// The numbers and names in the order of insertion; one whose number is not that of its form is outdated.
    order: VecDeque<(u64, String)>,
    last: u64,
    size: usize,
}

impl InMemory {
    fn insert(&mut self, name: String, value: String, ends: i64, now: i64) {
        self.take(&name);
        self.last += 1;
        self.size += value.len() + OVERHEAD;
        self.order.push_back((self.last, name.clone()));
        self.forms.insert(name, (self.last, ends, value.into()));
        // All forms are kept for the same time, so that the oldest are the first to expire.
        while let Some((number, oldest)) = self.order.front() {
            let kept = self.forms.get(oldest).filter(|(kept, ..)| kept == number);
            let is_due = kept.is_none_or(|(_, ends, _)| *ends <= now) || self.size > MAX_IN_MEMORY;
            if !is_due {
                break;
            }
            let is_kept = kept.is_some();
            let oldest = oldest.clone();
            self.order.pop_front();
            if is_kept {
                self.take(&oldest);
            }
        }
        // One user may send many while those of others are kept.
        if self.order.len() > 2 * self.forms.len() + 16 {
            let forms = &self.forms;
            self.order
                .retain(|(number, name)| forms.get(name).is_some_and(|(kept, ..)| kept == number));
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.forms.get(name).map(|(_, _, value)| &**value)
    }

    fn remove(&mut self, name: &str, value: &str) {
        if self.get(name) == Some(value) {
            self.take(name);
        }
    }

    fn take(&mut self, name: &str) {
        if let Some((.., value)) = self.forms.remove(name) {
            self.size -= value.len() + OVERHEAD;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(letter: char, length: usize) -> String {
        letter.to_string().repeat(length)
    }

    #[test]
    fn a_newer_form_replaces_the_older_one_of_its_user() {
        let mut kept = InMemory::default();
        kept.insert("alice".into(), value('a', 10), 100, 0);
        kept.insert("alice".into(), value('b', 20), 200, 0);
        assert_eq!(kept.get("alice"), Some(&*value('b', 20)));
        assert_eq!(kept.size, 20 + OVERHEAD);
        // A form that was sent from another browser meanwhile does not take the newer one away.
        kept.remove("alice", &value('a', 10));
        assert!(kept.get("alice").is_some());
        kept.remove("alice", &value('b', 20));
        assert_eq!((kept.get("alice"), kept.size), (None, 0));
    }

    #[test]
    fn full_memory_drops_the_oldest() {
        let mut kept = InMemory::default();
        let length = 1024 * 1024 - OVERHEAD;
        for i in 0..17 {
            kept.insert(format!("user {i}"), value('x', length), 1_000, 0);
        }
        assert_eq!(kept.get("user 0"), None);
        assert!((1..17).all(|i| kept.get(&format!("user {i}")).is_some()));
        // One that was sent anew is not the oldest any more.
        kept.insert("user 1".into(), value('y', length), 1_000, 0);
        kept.insert("user 17".into(), value('x', length), 1_000, 0);
        assert_eq!(kept.get("user 2"), None);
        assert!(kept.get("user 1").is_some());
        assert!(kept.size <= MAX_IN_MEMORY);
    }

    #[test]
    fn expired_forms_take_no_memory() {
        let mut kept = InMemory::default();
        for i in 0..1_000 {
            kept.insert(format!("user {i}"), value('x', 10), 100 + i, i);
        }
        assert!(kept.forms.len() <= 101, "{}", kept.forms.len());
        assert_eq!(kept.order.len(), kept.forms.len());
        // Nor does one user who sends many.
        kept.insert("bob".to_owned(), value('x', 10), 5_000, 2_000);
        for i in 0..1_000 {
            kept.insert("alice".to_owned(), value('x', 10), 5_000, 2_000 + i);
        }
        assert_eq!(kept.forms.len(), 2);
        assert!(kept.order.len() <= 20, "{}", kept.order.len());
    }
}
