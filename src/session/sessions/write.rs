//! Serialization of a session: its cookies, its encrypted record, and which claims and tokens are kept.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rocket::http::CookieJar;
use time::OffsetDateTime;

use super::{Sessions, USUAL_HEADER_LIMIT};
use crate::{
    cookies::SetCookie,
    keys::Purpose,
    secret::Secret,
    session::{CurrentSession, Session, SessionTokens, SessionTooLarge, UserKind, record},
    settings::{KeptToken, REQUEST_CLAIMS},
    token::{Claims, VERIFIED},
};

impl Sessions {
    /// Whether a response may still set this session's cookies: it has not ended, and no newer generation is known.
    pub(crate) async fn may_be_written(&self, current: &CurrentSession, now: OffsetDateTime) -> bool {
        !self.is_in_cookies || matches!(self.newest(current, now).await, Ok(None))
    }

    /// The `Set-Cookie` headers of a session.
    pub(crate) fn set_cookies(
        &self,
        current: &CurrentSession,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
    ) -> Vec<SetCookie> {
        let ttl = self.storage_ttl(current, now);
        let text = if self.is_in_cookies {
            self.cookie_text(current)
        } else {
            let id = current.id.expose();
            self.keys.encrypt_text(Purpose::SessionId, b"", id)
        };
        let set = self.cookies.write(jar, &text, ttl, now);
        self.warn_of_size(&set);
        set
    }

    /// Warns once that proxies with default limits reject such a response.
    pub(super) fn warn_of_size(&self, set: &[SetCookie]) {
        let size: usize = set.iter().map(SetCookie::header_len).sum();
        if size > USUAL_HEADER_LIMIT && !self.is_size_known.swap(true, Ordering::Relaxed) {
            let reason = "large_response";
            tracing::warn!(
                reason,
                "a session takes {size} bytes of response headers; nginx and other proxies reject more than 4 KB by default"
            );
            tracing::info!(
                "raise `proxy_buffer_size` as the manual's page on deployment describes, or keep fewer claims and tokens with `oidc.session.claims` and `oidc.session.tokens`"
            );
        }
    }

    /// The `Set-Cookie` headers that remove the session from this browser.
    pub(crate) fn removals(&self, jar: &CookieJar<'_>) -> Vec<SetCookie> {
        self.cookies.removals(jar, 0)
    }

    /// Encrypts a session that has not begun, for other nodes to begin it: for a shared store, under a name of the
    /// caller's.
    pub(crate) fn export_new(&self, session: &Session, tokens: &SessionTokens, name: &str) -> Option<String> {
        let body = record::encode_body(tokens).ok()?;
        Some(self.encrypt_record(session, &body, name))
    }

    /// Encrypts a session that has begun, like [`export_new`](Self::export_new).
    pub(crate) fn export(&self, current: &CurrentSession, name: &str) -> String {
        self.encrypt_record(current, &current.body, name)
    }

    /// Decrypts the session that was exported under this name.
    pub(crate) fn import(&self, name: &str, text: &str) -> Option<CurrentSession> {
        let decrypted = self.decrypt_record(name, text).ok()?;
        Some(decrypted.current(u64::from(!self.is_in_cookies)))
    }

    /// Encodes a session; fails if it does not fit into its cookies.
    pub(super) fn record(
        &self,
        session: Session,
        tokens: &SessionTokens,
        name: Arc<str>,
        version: u64,
    ) -> Result<CurrentSession, SessionTooLarge> {
        let max = self.settings.max_cookies;
        let too_large = |size| SessionTooLarge::new(&session, tokens, size, max);
        let body = record::encode_body(tokens).map_err(|too_long| too_large(too_long.0))?;
        let current = CurrentSession::new(Arc::new(session), body.into(), name, version);
        if self.is_in_cookies {
            let text = self.cookie_text(&current);
            if !self.cookies.fits(&text, max) {
                return Err(SessionTooLarge::new(&current, tokens, text.len(), max));
            }
        }
        Ok(current)
    }

    /// The session, encrypted for cookies.
    pub(super) fn cookie_text(&self, current: &CurrentSession) -> String {
        let record = record::encode(current, &current.body);
        URL_SAFE_NO_PAD.encode(self.keys.encrypt(Purpose::Session, b"", &record))
    }

    /// The record of a session, encrypted for a store under this name.
    fn encrypt_record(&self, session: &Session, body: &[u8], name: &str) -> String {
        let record = record::encode(session, body);
        let value = self.keys.encrypt(Purpose::StoredValue, name.as_bytes(), &record);
        URL_SAFE_NO_PAD.encode(value)
    }

    /// Removes the claims and tokens that the settings do not keep.
    pub(super) fn drop_unkept(&self, session: &mut Session, tokens: &mut SessionTokens) {
        if let Some(nonce) = tokens.sources.id_token.get::<String>("nonce") {
            tokens.nonce = Some(Secret::new(nonce));
        }
        for (kind, token) in [
            (KeptToken::AccessToken, &mut tokens.access_token),
            (KeptToken::RefreshToken, &mut tokens.refresh_token),
            (KeptToken::IdToken, &mut tokens.id_token),
        ] {
            token.take_if(|_| !self.settings.tokens.contains(&kind));
        }
        if tokens.access_token.is_none() && tokens.refresh_token.is_none() {
            tokens.proof_key = None;
        }
        // A user of a plain OAuth 2.0 provider is read again with the access token.
        let is_read_again = session.kind == UserKind::OAuth2 && tokens.access_token.is_some();
        if tokens.refresh_token.is_none() && !is_read_again {
            session.refresh_due = None;
            session.user_info_due = false;
        }
        self.retain_kept_claims(&mut session.claims);
        // The ID token, if kept, holds its claims in full.
        if tokens.id_token.is_none() {
            self.retain_kept_source(&mut tokens.sources.id_token);
        }
        if let Some(user_info) = &mut tokens.sources.user_info {
            self.retain_kept_source(user_info);
        }
    }

    /// Removes the claims that the settings do not keep.
    pub(super) fn retain_kept_claims(&self, claims: &mut Claims) {
        if self.settings.claims.is_some() {
            claims.retain(|name| self.is_kept_claim(name));
            return;
        }
        // `retain` would rebuild the whole object.
        for name in REQUEST_CLAIMS {
            claims.remove(name);
        }
    }

    /// Like [`retain_kept_claims`](Self::retain_kept_claims), for one source. A claim such as `email` is kept with `email_verified`,
    /// which decides from which source it is taken.
    pub(super) fn retain_kept_source(&self, claims: &mut Claims) {
        let is_verified_of_kept = |name: &str| {
            let mut pairs = VERIFIED.iter().filter(|(verified, _)| *verified == name);
            pairs.any(|(_, is_verified)| self.is_kept_claim(is_verified))
        };
        claims.retain(|name| self.is_kept_claim(name) || is_verified_of_kept(name));
    }

    fn is_kept_claim(&self, name: &str) -> bool {
        self.settings.keeps_claim(name)
    }
}
