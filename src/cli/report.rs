//! A list of check results, for `doctor` and `token`, written as a table or as JSON.

use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use super::{Failure, terminal::Terminal};

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    /// It may work, but should be reviewed.
    Warning,
    Failure,
}

/// One result in a report.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    pub check: String,
    pub verdict: Verdict,
    /// The finding, in one sentence without a full stop.
    pub finding: String,
    /// The remedy, if one is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The expected value, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The actual value, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
}

/// Check results, in order.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub checks: Vec<Check>,
    not_checked: Vec<String>,
    /// Precedes the name of each check: the provider among several.
    prefix: String,
}

impl Report {
    /// From here on, the checks are about this provider.
    pub(super) fn about_provider(&mut self, name: &str) {
        self.prefix = format!("{name}: ");
    }

    /// From here on, the checks are about the app.
    pub(super) fn about_app(&mut self) {
        self.prefix.clear();
    }

    pub(super) fn ok(&mut self, check: &str, finding: impl Into<String>) {
        self.push(check, Verdict::Ok, finding.into(), None);
    }

    pub(super) fn warning(&mut self, check: &str, finding: impl Into<String>, remedy: impl Into<String>) {
        self.push(check, Verdict::Warning, finding.into(), Some(remedy.into()));
    }

    pub(super) fn failure(&mut self, check: &str, finding: impl Into<String>, remedy: impl Into<String>) {
        self.push(check, Verdict::Failure, finding.into(), Some(remedy.into()));
    }

    pub(super) fn error(&mut self, check: &str, error: impl Into<Failure>) {
        let Failure { cause, remedy } = error.into();
        self.failure(check, cause, remedy);
    }

    /// Lists checks that were skipped because of an earlier failure.
    pub(super) fn not_checked(&mut self, checks: &[&'static str]) {
        let names = checks.iter().map(|check| format!("{}{check}", self.prefix));
        self.not_checked.extend(names);
    }

    fn push(&mut self, check: &str, verdict: Verdict, finding: String, remedy: Option<String>) {
        self.checks.push(Check {
            check: format!("{}{check}", self.prefix),
            verdict,
            finding,
            remedy,
            expected: None,
            actual: None,
        });
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }

    /// Writes the report. The exit code is a failure if a check failed.
    pub(super) fn write(&self, terminal: &Terminal, as_json: bool) -> ExitCode {
        if as_json {
            self.write_json(terminal);
        } else {
            self.write_table(terminal);
        }
        ExitCode::from(u8::from(self.count(Verdict::Failure) > 0))
    }

    fn write_json(&self, terminal: &Terminal) {
        let report = json!({
            "ok": self.count(Verdict::Failure) == 0,
            "checks": self.checks,
            "not_checked": self.not_checked,
        });
        terminal.line(format!("{report:#}"));
    }

    fn write_table(&self, terminal: &Terminal) {
        let widths = self.checks.iter().map(|check| check.check.chars().count());
        let width = widths.max().unwrap_or_default();
        for check in &self.checks {
            // Green, yellow and red.
            let (colour, mark) = match check.verdict {
                Verdict::Ok => (32, "✓"),
                Verdict::Warning => (33, "!"),
                Verdict::Failure => (31, "✗"),
            };
            let mark = terminal.paint(colour, mark);
            terminal.line(format!("{mark} {:width$}  {}", check.check, check.finding));
            if let Some(remedy) = &check.remedy {
                terminal.line(format!("  {:width$}  → {remedy}", ""));
            }
        }
        if !self.not_checked.is_empty() {
            let names = self.not_checked.join(", ");
            terminal.line(format!("  not checked because of the failures above: {names}"));
        }
        let [ok, warnings, failures] = [Verdict::Ok, Verdict::Warning, Verdict::Failure].map(|it| self.count(it));
        terminal.line(format!("{ok} ok, warnings: {warnings}, failures: {failures}"));
    }
}
