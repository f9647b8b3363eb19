//! The debug page for developers.

use std::borrow::Cow;

use time::{OffsetDateTime, macros::format_description};

use super::escape;
use crate::relying_party::{Attempt, Failure, Refusal};

/// Renders the latest sign-in attempts, then the sections of preformatted text, each with its title.
pub(crate) fn page(attempts: &[Attempt], refusals: &[Refusal], sections: &[(Cow<'_, str>, String)]) -> String {
    let mut body = String::from("<h1>OpenID Connect</h1><h2>Latest sign-ins</h2>");
    if attempts.is_empty() {
        body.push_str("<p class=\"quiet\">No sign-ins since the app started.</p>");
    }
    body.extend(attempts.iter().map(timeline));
    if !refusals.is_empty() {
        body.push_str("<h2>Latest refusals by policies</h2>");
    }
    body.extend(refusals.iter().map(refusal));
    for (title, text) in sections {
        let (title, text) = (escape(title), escape(text));
        body.push_str(&format!(
            "<details open><summary>{title}</summary><pre>{text}</pre></details>"
        ));
    }
    format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>OpenID Connect</title><style>{}{STYLE}</style></head><body><main>{body}</main></body></html>",
        super::STYLE
    )
}

fn timeline(attempt: &Attempt) -> String {
    let state = match (&attempt.failure, attempt.is_signed_in) {
        (Some(_), _) => "failed",
        (None, true) => "signed-in",
        (None, false) => "under-way",
    };
    let steps = attempt
        .steps
        .iter()
        .map(|(at, step)| format!("<li><time>{}</time> {}</li>", time_of_day(*at), escape(step)));
    format!(
        "<section class=\"{}\"><h3>to <code>{}</code></h3><ol>{}{}</ol></section>",
        state,
        escape(&attempt.return_to),
        steps.collect::<String>(),
        attempt.failure.as_ref().map(failure).unwrap_or_default(),
    )
}

/// A request that a policy refused, and the claims that it looked for in vain.
fn refusal(refusal: &Refusal) -> String {
    let missed = refusal.missed.iter();
    let missed = missed.map(|(cause, remedy)| format!("<li>{} <p>Remedy: {}.</p></li>", escape(cause), escape(remedy)));
    format!(
        "<section class=\"failed\"><h3><time>{}</time> <code>{}</code> by <code>{}</code></h3><ol>{}</ol></section>",
        time_of_day(refusal.at),
        escape(&refusal.path),
        escape(refusal.policy),
        missed.collect::<String>()
    )
}

fn failure(failure: &Failure) -> String {
    format!(
        "<li class=\"failure\"><time>{}</time> <code>{}</code> {} \
         <p>Remedy: {}.</p><p class=\"quiet\">Error id: <code>{}</code></p></li>",
        time_of_day(failure.at),
        escape(failure.reason),
        escape(&failure.cause),
        escape(&failure.remedy),
        escape(&failure.id)
    )
}

fn time_of_day(time: OffsetDateTime) -> String {
    let format = format_description!("[hour]:[minute]:[second]");
    time.format(format).unwrap_or_default()
}

const STYLE: &str = "\
main{max-width:60rem;width:calc(100% - 6rem)}body{place-items:start center}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}\
h3{font-size:1rem;font-weight:600;margin:0}section{border-left:4px solid var(--soft);padding:.5rem 1rem;margin:.75rem 0;\
background:var(--ground);border-radius:0 8px 8px 0}section.signed-in{border-color:#2e9e6b}section.failed{border-color:#d64545}:root{--bad:#b42323}@media(prefers-color-scheme:dark){:root{--bad:#f58a8a}}ol{list-style:none;margin:.4rem 0 0;\
padding:0}time{color:var(--soft);font-variant-numeric:tabular-nums;margin-right:.5rem}.failure p{margin:.3rem 0 0}\
.failure>code{color:var(--bad);font-weight:600}summary{font-size:1.1rem;font-weight:600;cursor:pointer;margin-top:1.5rem}\
pre{background:var(--ground);padding:1rem;border-radius:8px;overflow:auto;font-size:.8rem;white-space:pre-wrap;\
overflow-wrap:anywhere}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_is_escaped() {
        let evil = "<script>alert(1)</script>".to_owned();
        let attempts = crate::relying_party::Attempts::new(true);
        let now = OffsetDateTime::UNIX_EPOCH;
        attempts.begin("name", &evil, now);
        let error = crate::code_flow::ResponseError::Provider {
            error: evil.clone(),
            description: evil.clone(),
        };
        let error = error.into();
        attempts.failed(Some("name"), &evil, (&evil, &error), now);
        let page = page(&attempts.list(), &[], &[("Session".into(), evil)]);
        assert!(!page.contains("<script>"));
        assert_eq!(page.matches("&lt;script&gt;").count(), 5);
    }
}
