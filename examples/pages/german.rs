//! The pages in German, for browsers that prefer it to English.

use std::borrow::Cow;

use rocket::{
    Request,
    http::RawStr,
    response::{self, Responder, content::RawHtml},
};
use rocket_openidconnect::{
    BuiltInPages, HiddenField, Pages, ProviderChoice, RefusedRequest, SignInConfirmation, SignInFailure,
    SignInFailureKind, SignOutConfirmation, UnrecordedSignOut,
};

/// German or, by the built-in pages, English.
pub struct InTheirLanguage;

impl Pages for InTheirLanguage {
    fn sign_in_failed(&self, request: &Request<'_>, failure: &SignInFailure) -> response::Result<'static> {
        if !prefers_german(request) {
            return BuiltInPages.sign_in_failed(request, failure);
        }
        let body = format!(
            "<p>{}</p><p><a class=\"button\" href=\"{}\">Noch einmal versuchen</a> <a href=\"{}\">Startseite</a></p>\
             <p class=\"quiet\">Fehlernummer: <code>{}</code></p>",
            explanation(failure.kind()),
            escape(&failure.try_again),
            escape(&failure.start_page),
            escape(&failure.id),
        );
        page("Anmeldung fehlgeschlagen", &body, request)
    }

    fn choose_provider(&self, request: &Request<'_>, choice: &ProviderChoice) -> response::Result<'static> {
        if !prefers_german(request) {
            return BuiltInPages.choose_provider(request, choice);
        }
        let buttons = choice.providers.iter().map(|provider| {
            let (url, label) = (escape(&provider.url), escape(&provider.label));
            format!("<li><a class=\"button\" href=\"{url}\">Mit {label} anmelden</a></li>")
        });
        let buttons: String = buttons.collect();
        page("Anmelden", &format!("<ul role=\"list\">{buttons}</ul>"), request)
    }

    fn confirm_sign_in(&self, request: &Request<'_>, sign_in: &SignInConfirmation) -> response::Result<'static> {
        if !prefers_german(request) {
            return BuiltInPages.confirm_sign_in(request, sign_in);
        }
        let signed_in = sign_in.signed_in.as_ref().map(|user| {
            format!(
                "<p>Sie sind als <strong><bdi>{}</bdi></strong> angemeldet. Eine neue Anmeldung beendet diese Sitzung. \
                 Wenn Sie sie nicht begonnen haben, brechen Sie ab.</p>",
                escape(&user.name)
            )
        });
        let button = format!("Mit {} anmelden", escape(&sign_in.provider));
        let form = form(
            &sign_in.action,
            &sign_in.fields,
            &button,
            (&sign_in.cancel, "Abbrechen"),
        );
        let body = format!(
            "<p>Eine andere Website möchte Sie hier anmelden.</p>{}{form}",
            signed_in.unwrap_or_default()
        );
        page("Anmelden?", &body, request)
    }

    fn confirm_sign_out(&self, request: &Request<'_>, sign_out: &SignOutConfirmation) -> response::Result<'static> {
        if !prefers_german(request) {
            return BuiltInPages.confirm_sign_out(request, sign_out);
        }
        let stay = (&*sign_out.cancel, "Angemeldet bleiben");
        let form = form(&sign_out.action, &sign_out.fields, "Abmelden", stay);
        match &sign_out.rejected {
            Some(_) => page(
                "Nicht abgemeldet",
                &format!("<p>Nicht diese Website wollte Sie abmelden. Zum Abmelden drücken Sie den Knopf.</p>{form}"),
                request,
            ),
            None => page("Abmelden?", &form, request),
        }
    }

    fn sign_out_unrecorded(&self, request: &Request<'_>, sign_out: &UnrecordedSignOut) -> response::Result<'static> {
        if !prefers_german(request) {
            return BuiltInPages.sign_out_unrecorded(request, sign_out);
        }
        let there = sign_out.at_provider.as_deref().map(|url| {
            let url = escape(url);
            format!("<a class=\"button\" href=\"{url}\">Auch beim Anmeldedienst abmelden</a> ")
        });
        let body = format!(
            "<p>Diese Website konnte Ihre Abmeldung noch nicht speichern und versucht es weiter. Bis dahin kann eine \
             Kopie Ihrer Sitzung gelten.</p><p>{}<a href=\"{}\">Weiter</a></p>",
            there.unwrap_or_default(),
            escape(&sign_out.next)
        );
        page("In diesem Browser abgemeldet", &body, request)
    }

    fn request_refused(&self, request: &Request<'_>, refused: &RefusedRequest) -> response::Result<'static> {
        if !prefers_german(request) {
            return BuiltInPages.request_refused(request, refused);
        }
        let start_page = escape(&refused.start_page);
        let body = format!(
            "<p>Die Anmeldung geht nur auf einer eigenen Seite.</p><p><a href=\"{start_page}\">Startseite</a></p>"
        );
        page("Keine eigene Seite", &body, request)
    }
}

/// What a user can do about it. A kind that a later version adds has the last text.
pub fn explanation(kind: SignInFailureKind) -> &'static str {
    match kind {
        SignInFailureKind::Cancelled => "Sie haben die Anmeldung abgebrochen.",
        SignInFailureKind::StartAgain => {
            "Diese Anmeldung ist abgelaufen, schon benutzt oder in einem anderen Browser begonnen. Bitte melden Sie sich \
             noch einmal an."
        }
        SignInFailureKind::CookiesBlocked => {
            "Ihr Browser behält die Anmeldung nicht. Bitte erlauben Sie Cookies für diese Website."
        }
        SignInFailureKind::NotAllowed => "Sie haben hier mit diesem Konto keinen Zugang.",
        SignInFailureKind::TryLater => {
            "Die Anmeldung ist gerade nicht möglich. Bitte versuchen Sie es in einigen Minuten."
        }
        SignInFailureKind::NotSetUp => "Die Anmeldung ist nicht richtig eingerichtet. Bitte wenden Sie sich an uns.",
        SignInFailureKind::Mismatch => "Die Antwort des Anmeldedienstes gehört nicht zu dieser Anmeldung.",
        _ => "Die Antwort des Anmeldedienstes konnte nicht geprüft werden. Bitte wenden Sie sich an uns.",
    }
}

/// Whether the browser names German before English.
fn prefers_german(request: &Request<'_>) -> bool {
    let languages = request.headers().get_one("Accept-Language").unwrap_or_default();
    let mut ours = languages
        .split(',')
        .filter_map(|language| match language.trim().get(..2)? {
            "de" => Some(true),
            "en" => Some(false),
            _ => None,
        });
    ours.next().unwrap_or(false)
}

fn form(action: &str, fields: &[HiddenField], button: &str, (href, stay): (&str, &str)) -> String {
    let fields = fields.iter().map(|field| {
        let (name, value) = (escape(&field.name), escape(&field.value));
        format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">")
    });
    format!(
        "<form method=\"post\" action=\"{}\">{}<p><button class=\"button\">{button}</button> <a href=\"{}\">{stay}</a></p></form>",
        escape(action),
        fields.collect::<String>(),
        escape(href),
    )
}

fn page(title: &str, body: &str, request: &Request<'_>) -> response::Result<'static> {
    RawHtml(format!(
        "<!DOCTYPE html><html lang=\"de\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
         <style>:root {{ color-scheme: light dark }} body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; \
         max-width: 30rem; padding: 0 1rem; overflow-wrap: anywhere }} .button {{ font: inherit; padding: .5rem 1rem; \
         margin: 0 .75rem .5rem 0; display: inline-block; border: 1px solid; border-radius: 8px }}</style></head>\
         <body><main><h1>{title}</h1>{body}</main></body></html>"
    ))
    .respond_to(request)
}

fn escape(text: &str) -> Cow<'_, str> {
    RawStr::new(text).html_escape()
}
