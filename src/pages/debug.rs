//! The debug page for developers.

use std::borrow::Cow;

use time::{OffsetDateTime, macros::format_description};

use super::escape;
use crate::relying_party::{Attempt, Failure, Step};

/// The number of sign-ins that are shown at first.
const MAX_OPEN: usize = 3;

/// A part of the page.
pub(crate) struct Section<'a> {
    pub(crate) title: Cow<'a, str>,
    pub(crate) content: Content,
    pub(crate) is_open: bool,
}

pub(crate) enum Content {
    /// Preformatted text.
    Text(String),
    /// The first column names its row.
    Table {
        head: Vec<&'static str>,
        rows: Vec<Vec<String>>,
        /// In place of no rows.
        empty: &'static str,
    },
}

impl<'a> Section<'a> {
    pub(crate) fn text(title: impl Into<Cow<'a, str>>, text: String) -> Section<'a> {
        Section {
            title: title.into(),
            content: Content::Text(text),
            is_open: true,
        }
    }

    pub(crate) fn table<const N: usize>(
        title: impl Into<Cow<'a, str>>,
        head: [&'static str; N],
        rows: impl IntoIterator<Item = [String; N]>,
        empty: &'static str,
    ) -> Section<'a> {
        Section {
            title: title.into(),
            content: Content::Table {
                head: head.to_vec(),
                rows: rows.into_iter().map(Vec::from).collect(),
                empty,
            },
            is_open: true,
        }
    }

    pub(crate) fn closed(self) -> Section<'a> {
        Section { is_open: false, ..self }
    }
}

/// Renders the latest sign-in attempts, then the sections.
pub(crate) fn page(attempts: &[Attempt], sections: &[Section<'_>]) -> String {
    let mut body = String::from("<h1>OpenID Connect</h1><h2>Latest sign-ins</h2>");
    if attempts.is_empty() {
        body.push_str("<p class=\"quiet\">No sign-ins since the app started.</p>");
    }
    let (latest, earlier) = attempts.split_at(attempts.len().min(MAX_OPEN));
    body.extend(latest.iter().map(timeline));
    if !earlier.is_empty() {
        let timelines: String = earlier.iter().map(timeline).collect();
        body.push_str(&format!(
            "<details><summary>{} earlier ones</summary>{timelines}</details>",
            earlier.len()
        ));
    }
    for section in sections {
        let (title, open) = (escape(&section.title), if section.is_open { " open" } else { "" });
        let content = match &section.content {
            Content::Text(text) => format!("<pre>{}</pre>", escape(text)),
            Content::Table { rows, empty, .. } if rows.is_empty() => format!("<p class=\"quiet\">{empty}</p>"),
            Content::Table { head, rows, .. } => table(head, rows),
        };
        body.push_str(&format!("<details{open}><summary>{title}</summary>{content}</details>"));
    }
    format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>OpenID Connect</title><style>{}{STYLE}</style></head><body><main>{body}</main></body></html>",
        super::STYLE
    )
}

/// On a phone each row is a block, whose cells name their column.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let names = head
        .iter()
        .map(|name| format!("<th scope=\"col\">{}</th>", escape(name)));
    let names: String = names.collect();
    let rows = rows.iter().map(|row| {
        let cells = row.iter().zip(head).enumerate().map(|(index, (cell, name))| {
            let (cell, name) = (escape(cell), escape(name));
            match index {
                0 => format!("<th scope=\"row\">{cell}</th>"),
                _ => format!("<td data-name=\"{name}\">{cell}</td>"),
            }
        });
        format!("<tr>{}</tr>", cells.collect::<String>())
    });
    format!(
        "<table><thead><tr>{names}</tr></thead><tbody>{}</tbody></table>",
        rows.collect::<String>()
    )
}

fn timeline(attempt: &Attempt) -> String {
    let state = match (&attempt.failure, attempt.is_signed_in) {
        (Some(_), _) => "failed",
        (None, true) => "signed-in",
        (None, false) => "under-way",
    };
    let starts = attempt.steps.iter().map(|step| step.at);
    let before = std::iter::once(None).chain(starts.clone().map(Some));
    let steps = attempt.steps.iter().zip(before);
    let steps: String = steps.map(|(step, before)| self::step(step, before)).collect();
    let last = starts.clone().next_back();
    let end = attempt.failure.as_ref().map(|failure| failure.at).or(last);
    let took = starts.clone().next().zip(end).map(|(start, end)| duration(start, end));
    format!(
        "<section class=\"{state}\"><h3>to <code>{}</code>{}</h3><ol>{steps}{}</ol></section>",
        escape(&attempt.return_to),
        took.map(|took| format!(" <span class=\"took\">in {took}</span>"))
            .unwrap_or_default(),
        attempt.failure.as_ref().map(|it| failure(it, last)).unwrap_or_default(),
    )
}

fn step(step: &Step, before: Option<OffsetDateTime>) -> String {
    let checks = step.checks.iter().map(|check| format!("<li>{}</li>", escape(check)));
    let checks: String = checks.collect();
    let checks = match &*checks {
        "" => String::new(),
        checks => format!("<details><summary>checks</summary><ul>{checks}</ul></details>"),
    };
    format!(
        "<li><time>{}</time> {}{}{checks}</li>",
        time_of_day(step.at),
        escape(&step.text),
        since(before, step.at)
    )
}

fn failure(failure: &Failure, before: Option<OffsetDateTime>) -> String {
    format!(
        "<li class=\"failure\"><time>{}</time> <code>{}</code> {}{} \
         <p>Remedy: {}.</p><p class=\"quiet\">Error id: <code>{}</code></p></li>",
        time_of_day(failure.at),
        escape(failure.reason),
        escape(&failure.cause),
        since(before, failure.at),
        escape(&failure.remedy),
        escape(&failure.id)
    )
}

/// How long a step took: the time since the one before.
fn since(before: Option<OffsetDateTime>, at: OffsetDateTime) -> String {
    before
        .map(|before| format!(" <span class=\"took\">+{}</span>", duration(before, at)))
        .unwrap_or_default()
}

fn duration(from: OffsetDateTime, to: OffsetDateTime) -> String {
    let ms = (to - from).whole_milliseconds();
    match ms {
        ..10_000 => format!("{ms} ms"),
        _ => format!("{} s", ms / 1000),
    }
}

fn time_of_day(time: OffsetDateTime) -> String {
    let format = format_description!("[hour]:[minute]:[second]");
    time.format(format).unwrap_or_default()
}

const STYLE: &str = "\
*{box-sizing:border-box}main{max-width:64rem;width:100%;margin:0 auto;min-height:100vh;border-radius:0}\
body{place-items:start center}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}\
h3{font-size:1rem;font-weight:600;margin:0}section{border-left:4px solid var(--soft);padding:.5rem 1rem;margin:.75rem 0;\
background:var(--ground);border-radius:0 8px 8px 0}section.signed-in{border-color:#2e9e6b}section.failed{border-color:#d64545}:root{--bad:#b42323}@media(prefers-color-scheme:dark){:root{--bad:#f58a8a}}ol{list-style:none;margin:.4rem 0 0;\
padding:0}time,.took{color:var(--soft);font-variant-numeric:tabular-nums}time{margin-right:.5rem}.took{font-size:.85rem;\
font-weight:400;white-space:nowrap}.failure p{margin:.3rem 0 0}\
.failure>code{color:var(--bad);font-weight:600}summary{font-size:1.1rem;font-weight:600;cursor:pointer;margin-top:1.5rem}\
li summary{font-size:.85rem;font-weight:400;margin:0;color:var(--soft)}li ul{margin:.2rem 0 .4rem;font-size:.85rem}\
pre{background:var(--ground);padding:1rem;border-radius:8px;overflow:auto;font-size:.8rem;white-space:pre-wrap;\
overflow-wrap:anywhere}table{border-collapse:collapse;width:100%;margin-top:.5rem;font-size:.85rem}\
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid var(--ground)}\
th[scope=row],td{overflow-wrap:anywhere;min-width:9rem}th[scope=row]{font-weight:600;font-family:ui-monospace,monospace}\
thead th{color:var(--soft);font-weight:600}\
@media(max-width:40rem){main{padding:1.25rem 1rem}thead{display:none}table,tbody,tr,th,td{display:block}\
tr{padding:.5rem 0;border-bottom:1px solid var(--ground)}th,td{padding:.1rem 0;border:0}\
td::before{content:attr(data-name) \": \";color:var(--soft)}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_is_escaped() {
        let evil = "<script>alert(1)</script>".to_owned();
        let attempts = crate::relying_party::Attempts::new(true);
        let now = OffsetDateTime::UNIX_EPOCH;
        attempts.begin("name", &evil, now);
        attempts.checked("name", &evil, || vec![evil.clone()], now);
        let error = crate::code_flow::ResponseError::Provider {
            error: evil.clone(),
            description: evil.clone(),
        };
        let error = error.into();
        attempts.failed(Some("name"), &evil, (&evil, &error), now);
        let sections = [
            Section::text(evil.clone(), evil.clone()),
            Section::table("Table", ["a", "b"], [[evil.clone(), evil]], ""),
        ];
        let page = page(&attempts.list(), &sections);
        assert!(!page.contains("<script>"));
        assert_eq!(page.matches("&lt;script&gt;").count(), 10);
    }

    #[test]
    fn a_step_shows_how_long_it_took() {
        let at = |ms| OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(ms);
        for (ms, expected) in [(0, "0 ms"), (1_234, "1234 ms"), (9_999, "9999 ms"), (12_345, "12 s")] {
            assert_eq!(duration(at(0), at(ms)), expected);
        }
    }
}
