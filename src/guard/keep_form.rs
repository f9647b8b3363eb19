//! Whether a form is kept until its user has signed in again, and when it is no longer.

use rocket::{
    Data, Request,
    data::ToByteUnit,
    http::{ContentType, Method},
};
use url::{Position, Url, form_urlencoded::byte_serialize};

use super::current_session;
use crate::{
    relying_party::{FoundForm, KEPT_FORM, KeptForm, MAX_FORM_SIZE, RelyingParty},
    request::{RequestState, Sender, is_form_navigation, is_own_origin, relying_party},
    session::{NoSession, UserKey, store::StoreError},
};

/// A request with a form that can be kept, as far as its headers say.
pub(crate) struct KeptRequest<'r> {
    rp: &'r RelyingParty,
    user: UserKey,
    /// Path and query in the browser.
    target: String,
    /// The page with the form.
    form_page: Option<String>,
}

impl<'r> KeptRequest<'r> {
    /// Whether a request has a form, and a session that has ended or whose user must authenticate again.
    pub(crate) async fn of(request: &'r Request<'_>) -> Option<KeptRequest<'r>> {
        if request.content_type() != Some(&ContentType::Form) || request.method() == Method::Get {
            return None;
        }
        let user = user_of_ended_session(request).await?;
        let found = KeptRequest::find(request, user).await;
        found.inspect_err(|why| not_kept(why)).ok()
    }

    async fn find(request: &'r Request<'_>, user: UserKey) -> Result<KeptRequest<'r>, &'static str> {
        let app = request.rocket().state::<RelyingParty>().ok_or("there is no sign-in")?;
        let rp = relying_party(request, app)
            .await
            .map_err(|_| "it belongs to no provider")?;
        if !is_form_navigation(request) {
            return Err("a script sent it");
        }
        if !Sender::of(request).is_own_page(|origin| is_own_origin(rp, request, origin)) {
            return Err("no page of this app sent it");
        }
        let target = rp.page_of(request).to_string();
        if target != rp.site.paths.in_browser(&request.uri().to_string()) {
            return Err("its address is too long");
        }
        Ok(KeptRequest {
            rp,
            user,
            target,
            form_page: form_page(request, rp),
        })
    }

    /// Keeps the form. Then the 401 of this request redirects to sign-in, and from there to the page that sends the form.
    pub(crate) async fn keep(self, request: &Request<'_>, data: Data<'_>) {
        if let Err(why) = self.try_keep(request, data).await {
            not_kept(why);
        }
    }

    async fn try_keep(self, request: &Request<'_>, data: Data<'_>) -> Result<(), &'static str> {
        let body = data.open(MAX_FORM_SIZE.bytes()).into_string().await;
        let body = body.map_err(|_| "its body was not read")?;
        if !body.is_complete() {
            return Err("it is larger than 64 KB");
        }
        // As browsers encode it, which bounds what is stored, too.
        if !body
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
        {
            return Err("it is not URL-encoded");
        }
        let rp = self.rp;
        let form = KeptForm {
            user: self.user,
            host: host_of(request),
            method: request.method().to_string(),
            target: self.target,
            form_page: self.form_page,
            body: body.into_inner(),
            ends: 0,
        };
        // The page posts the form; of the field `_method`, Rocket makes another method.
        if request.method() != Method::Post && form.fields().iter().all(|(name, _)| name != "_method") {
            return Err("it is not a form's `POST`");
        }
        let page = page(rp, form.form_page.as_deref());
        let cookie = rp.keep_form(form, rp.clock.now()).await.map_err(|error| {
            log_outage(&error);
            "it could not be stored"
        })?;
        let state = RequestState::of(request);
        state.cookies.add([cookie]);
        let _ = state.kept_form.set(page);
        Ok(())
    }
}

fn not_kept(why: &str) {
    tracing::debug!(
        reason = "form_not_kept",
        "a form whose session has ended was not kept: {why}"
    );
}

/// The page that sends a kept form, in Rocket. If it is not kept any more, the browser goes to `next`.
fn page(rp: &RelyingParty, next: Option<&str>) -> String {
    let path = rp.routed_path(KEPT_FORM);
    let Some(next) = next else { return path };
    let next: String = byte_serialize(next.as_bytes()).collect();
    let page = format!("{path}?next={next}");
    // Longer than an address to which a sign-in returns.
    let is_home = rp.page(&page) == rp.home();
    if is_home { path } else { page }
}

/// The user whose session has ended, by the record of it that can still be decrypted; or who must authenticate again.
async fn user_of_ended_session(request: &Request<'_>) -> Option<UserKey> {
    let state = RequestState::of(request);
    match current_session(request).await {
        Ok(session) => state.step_up.get().map(|_| session.user_key()),
        Err(
            NoSession::Idle
            | NoSession::LifetimeEnded
            | NoSession::Ended
            | NoSession::Superseded
            | NoSession::RefreshRefused
            | NoSession::SignInRequired,
        ) => match state.ended_user.get() {
            Some(user) => Some(user.clone()),
            None => {
                let rp = state.relying_party(request)?;
                rp.sessions.user_of_ended(request.cookies()).await
            }
        },
        Err(_) => None,
    }
}

/// The page with the form, by `Referer`, if it is one of this app.
fn form_page(request: &Request<'_>, rp: &RelyingParty) -> Option<String> {
    let referer = Url::parse(request.headers().get_one("Referer")?).ok()?;
    if !is_own_origin(rp, request, &referer.origin().ascii_serialization()) {
        return None;
    }
    let address = if referer.path() == rp.route_path(KEPT_FORM) {
        // A session has ended once more, before the button was pressed.
        let mut parameters = referer.query_pairs();
        parameters.find(|(name, _)| name == "next")?.1.into_owned()
    } else {
        referer[Position::BeforePath..Position::AfterQuery].to_owned()
    };
    let is_own = rp.local_address(&address).as_str() == address;
    is_own.then_some(address)
}

/// The kept form of the signed-in user of a request, from this browser.
///
/// Fails if the store is not reachable, which is logged.
pub(crate) async fn form_of_user<'r>(
    request: &'r Request<'_>,
) -> Result<Option<(FoundForm, &'r RelyingParty)>, StoreError> {
    let Some(app) = request.rocket().state::<RelyingParty>() else {
        return Ok(None);
    };
    let Ok(rp) = relying_party(request, app).await else {
        return Ok(None);
    };
    // Most requests have no such cookie.
    if rp.kept_form_cookie().read(request.cookies()).is_none() {
        return Ok(None);
    }
    let Ok(session) = current_session(request).await else {
        return Ok(None);
    };
    let (user, host) = (session.user_key(), host_of(request));
    let found = rp.kept_form(&user, host.as_deref(), request.cookies(), rp.clock.now());
    let found = found.await.inspect_err(log_outage)?;
    Ok(found.map(|found| (found, rp)))
}

/// Drops the kept form of this user, if this request has sent it.
pub(crate) async fn drop_sent_form(request: &Request<'_>) {
    if let Ok(Some((found, rp))) = form_of_user(request).await
        && found.form.has_path(rp.page_of(request).as_str())
    {
        let removal = rp.drop_kept_form(&found).await;
        RequestState::of(request).cookies.add([removal]);
    }
}

fn log_outage(error: &StoreError) {
    tracing::error!(reason = "store_unavailable", "{error}");
    tracing::info!("{}", error.remedy());
}

fn host_of(request: &Request<'_>) -> Option<String> {
    request.host().map(|host| host.to_string())
}
