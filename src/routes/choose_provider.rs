//! The choice among several providers, and the confirmation of a sign-in that another site began.

use std::sync::Arc;

use rocket::{http::Status, request::FromRequest, route::Outcome};

use super::{RouteContext, button_page, logout::Sender, sign_in::query};
use crate::{
    code_flow::{ReturnTo, SignInParameters},
    guard::OptionalUser,
    pages::{ProviderChoice, ProviderLink, SignInConfirmation, UserLabel},
    relying_party::{PARAMETERS, RelyingParty},
    request::RequestState,
    session::EarlierEnds,
};

impl<'r> RouteContext<'r, '_> {
    /// Begins a sign-in, after the user confirmed it if another site may have begun it.
    pub(super) async fn begin_here(&self, next: ReturnTo, parameters: SignInParameters) -> Outcome<'r> {
        if self.is_to_be_confirmed() {
            return self.confirm(self.rp, &next).await;
        }
        self.begin(EarlierEnds::default(), next, parameters, false).await
    }

    /// Whether the user must confirm this sign-in: another site began it, and there are several providers or the setting
    /// `profile` demands it. For the latter, a browser that does not say which site began it needs a confirmation too.
    fn is_to_be_confirmed(&self) -> bool {
        let mut sites = self.request.headers().get("Sec-Fetch-Site").peekable();
        let is_known = sites.peek().is_some();
        let is_elsewhere = sites.any(|site| !["same-origin", "none"].iter().any(|own| site.eq_ignore_ascii_case(own)));
        if self.confirms_sign_ins() {
            return is_elsewhere || !is_known;
        }
        let app = self.request.rocket().state::<RelyingParty>();
        let providers = app.and_then(RelyingParty::providers);
        is_elsewhere && self.of_provider.is_some() && providers.is_some_and(|providers| providers.are_several())
    }

    /// Whether the setting `profile` demands that the user begins or confirms each sign-in.
    pub(super) fn confirms_sign_ins(&self) -> bool {
        self.rp.is_enabled() && self.rp.settings.confirms_sign_ins()
    }

    /// `POST {mount}/login` and `POST {mount}/login/{provider}`: the user pressed the button of [`confirm`](Self::confirm).
    pub(super) async fn login_confirmed(&self) -> Outcome<'r> {
        let _ = RequestState::of(self.request).has_own_sender_rule.set(());
        let named = match self.named_provider().await {
            Ok(named) => named,
            Err(status) => return Outcome::Error(status),
        };
        let next = self.next();
        let parameters = match self.parameters(named.map_or(self.rp, |rp| &**rp)) {
            Ok(parameters) => parameters,
            Err(error) => return self.failed(error, &next).await,
        };
        match (named, self.sender()) {
            (Some(rp), Sender::ThisApp) => self.at(rp).begin(EarlierEnds::default(), next, parameters, false).await,
            (Some(rp), _) => self.confirm(rp, &next).await,
            (None, sender) if self.confirms_sign_ins() && !matches!(sender, Sender::ThisApp) => {
                self.confirm(self.rp, &next).await
            }
            (None, _) => self.begin(EarlierEnds::default(), next, parameters, false).await,
        }
    }

    /// The page on which the user chooses a provider, for this sign-in.
    pub(super) fn choose(&self, providers: &[Arc<RelyingParty>], next: &ReturnTo) -> Outcome<'r> {
        let link = |rp: &Arc<RelyingParty>| ProviderLink {
            name: rp.provider_name().to_owned(),
            label: rp.label().to_owned(),
            logo: rp.settings.logo.clone(),
            url: self.url_at(rp, next),
        };
        let choice = ProviderChoice {
            providers: providers.iter().map(link).collect(),
            next: next.to_string(),
        };
        button_page(Status::Ok, self.pages().choose_provider(self.request, &choice))
    }

    /// The page that asks the user whether to begin a sign-in that another site began.
    pub(super) async fn confirm(&self, rp: &RelyingParty, next: &ReturnTo) -> Outcome<'r> {
        let user: Option<OptionalUser> = OptionalUser::from_request(self.request).await.succeeded();
        let user = user.and_then(OptionalUser::into_user);
        let confirmation = SignInConfirmation {
            action: self.url_at(rp, next),
            fields: vec![],
            provider: rp.label().to_owned(),
            cancel: rp.site.paths.home(),
            signed_in: user.map(|user| UserLabel {
                name: user.name().unwrap_or(user.subject()).to_owned(),
                subject: user.subject().to_owned(),
                provider: user.provider_label().to_owned(),
            }),
        };
        button_page(Status::Ok, self.pages().confirm_sign_in(self.request, &confirmation))
    }

    /// The URL of this sign-in at one of several providers, with what its query asks for.
    fn url_at(&self, rp: &RelyingParty, next: &ReturnTo) -> String {
        let asked = [PARAMETERS, "login_hint"].into_iter().filter_map(|name| {
            let value = self.request.query_value::<String>(name)?.ok()?;
            Some((name.to_owned(), value))
        });
        let asked: Vec<_> = asked.collect();
        let url = rp.login_url_to(next);
        if asked.is_empty() {
            url
        } else {
            format!("{url}&{}", query(&asked))
        }
    }
}
