//! Audit events: one JSON object each, under the log target `oidc::audit`. The manual's page on the audit log has the
//! contract; a field or an event is added, and never renamed.

use std::{fmt::Write, net::IpAddr};

use time::{OffsetDateTime, macros::format_description};

/// The maximum length of a value from outside in bytes, escaped.
const MAX_VALUE_LEN: usize = 256;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuditEvent {
    SignInBegun,
    SignInSucceeded,
    SignInFailed,
    /// By the app.
    SignInRefused,
    AccountLinked,
    StepUpRequired,
    AccessDenied,
    SessionEnded,
    /// Of the provider.
    LogoutAccepted,
    LogoutRejected,
}

impl AuditEvent {
    fn name(self) -> &'static str {
        match self {
            AuditEvent::SignInBegun => "sign_in_begun",
            AuditEvent::SignInSucceeded => "sign_in_succeeded",
            AuditEvent::SignInFailed => "sign_in_failed",
            AuditEvent::SignInRefused => "sign_in_refused",
            AuditEvent::AccountLinked => "account_linked",
            AuditEvent::StepUpRequired => "step_up_required",
            AuditEvent::AccessDenied => "access_denied",
            AuditEvent::SessionEnded => "session_ended",
            AuditEvent::LogoutAccepted => "logout_accepted",
            AuditEvent::LogoutRejected => "logout_rejected",
        }
    }
}

/// Whom an event is about, as far as it is known and verified.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Who<'a> {
    /// Its name in the settings.
    pub(crate) provider: Option<&'a str>,
    pub(crate) issuer: Option<&'a str>,
    pub(crate) subject: Option<&'a str>,
    /// The session's name, which is of no use for signing in.
    pub(crate) session: Option<&'a str>,
}

/// An audit event that is not logged yet.
#[must_use]
#[derive(Debug)]
pub(crate) struct AuditLine(String);

impl AuditLine {
    /// Every event begins with the same fields; what is not known is `null`.
    pub(crate) fn new(
        event: AuditEvent,
        reason: &str,
        who: Who<'_>,
        address: Option<IpAddr>,
        now: OffsetDateTime,
    ) -> AuditLine {
        let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
        let time = now.to_offset(time::UtcOffset::UTC).format(format);
        let address = address.map(|address| address.to_canonical().to_string());
        AuditLine(String::with_capacity(384))
            .with("time", time.ok().as_deref())
            .with("event", Some(event.name()))
            .with("reason", Some(reason))
            .with("provider", who.provider)
            .with("issuer", who.issuer)
            .with("sub", who.subject)
            .with("session", who.session)
            .with("address", address.as_deref())
    }

    /// Adds a field of this event.
    pub(crate) fn with(mut self, name: &'static str, value: Option<&str>) -> AuditLine {
        let start = if self.0.is_empty() { '{' } else { ',' };
        let _ = write!(self.0, "{start}\"{name}\":");
        match value {
            Some(value) => {
                self.0.push('"');
                push_escaped(&mut self.0, value);
                self.0.push('"');
            }
            None => self.0.push_str("null"),
        }
        self
    }

    /// Adds a number.
    pub(crate) fn with_number(mut self, name: &'static str, value: Option<usize>) -> AuditLine {
        let _ = match value {
            Some(value) => write!(self.0, ",\"{name}\":{value}"),
            None => write!(self.0, ",\"{name}\":null"),
        };
        self
    }

    /// Logs the event. The message is the object and nothing else, so that every log sink keeps it whole.
    pub(crate) fn log(self) {
        tracing::info!(target: "oidc::audit", "{}}}", self.0);
    }
}

/// Appends a text as the inside of a JSON string, truncated between two characters. Beside what JSON requires, escapes
/// what a terminal or a log viewer acts on: other controls, line separators, and marks of the text's direction.
fn push_escaped(line: &mut String, text: &str) {
    let max_len = line.len() + MAX_VALUE_LEN;
    for c in text.chars() {
        let before = line.len();
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            // Neither printable nor a combining mark that `escape_debug` escapes at the start of a text.
            _ if c.is_control() || is_format(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(line, "\\u{unit:04x}");
                }
            }
            _ => line.push(c),
        }
        if line.len() > max_len {
            line.truncate(before);
            return;
        }
    }
}

/// Whether a character is invisible, or moves others.
fn is_format(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn line(subject: &str) -> String {
        let who = Who {
            provider: Some("default"),
            issuer: Some("https://op.example"),
            subject: Some(subject),
            session: None,
        };
        let address = "::ffff:192.0.2.1".parse().ok();
        let line = AuditLine::new(
            AuditEvent::SessionEnded,
            "signed_out",
            who,
            address,
            OffsetDateTime::UNIX_EPOCH,
        );
        format!("{}}}", line.with_number("sessions", Some(2)).0)
    }

    fn subject_of(line: &str) -> String {
        let object: Value = serde_json::from_str(line).unwrap();
        object["sub"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_line_is_one_object() {
        assert_eq!(
            line("alice"),
            "{\"time\":\"1970-01-01T00:00:00Z\",\"event\":\"session_ended\",\"reason\":\"signed_out\",\
             \"provider\":\"default\",\"issuer\":\"https://op.example\",\"sub\":\"alice\",\"session\":null,\
             \"address\":\"192.0.2.1\",\"sessions\":2}"
        );
    }

    /// The value is what it was, and nothing in the line acts on a terminal, a log or a viewer.
    #[test]
    fn a_value_is_escaped() {
        let text = "a\r\n\"}\\{\0\u{7f}\u{9b}2K\u{1b}[31m\u{2028}\u{2029}\u{202e}\u{200b}\u{feff}\u{e0041}é漢🦀\u{301}";
        let line = line(text);
        assert_eq!(subject_of(&line), text);
        assert!(!line.contains(|c: char| c.is_control() || is_format(c)), "{line}");
        assert!(
            line.contains("\\u2028\\u2029\\u202e") && line.contains("é漢🦀"),
            "{line}"
        );
        assert!(line.contains("\\udb40\\udc41"), "{line}");
    }

    #[test]
    fn a_value_is_cut_between_two_characters() {
        for (text, kept) in [
            ("a".repeat(256), 256),
            ("a".repeat(257), 256),
            ("é".repeat(200), 128),
            ("🦀".repeat(100), 64),
            (format!("a{}", "🦀".repeat(100)), 64),
            ("\n".repeat(100), 42),
            ("\"".repeat(200), 128),
        ] {
            let line = line(&text);
            let expected: String = text.chars().take(kept).collect();
            assert_eq!(subject_of(&line), expected);
        }
    }
}
