//! A list of check results, for `doctor` and `token`, written as a table or as JSON.

use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use super::terminal::{Colour, Terminal};

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
    checks: Vec<Check>,
    not_checked: Vec<&'static str>,
}

impl Report {
    pub(super) fn ok(&mut self, check: &str, finding: impl Into<String>) {
        self.push(check, Verdict::Ok, finding.into(), None);
    }

    pub(super) fn warning(&mut self, check: &str, finding: impl Into<String>, remedy: impl Into<String>) {
        self.push(check, Verdict::Warning, finding.into(), Some(remedy.into()));
    }

    pub(super) fn failure(&mut self, check: &str, finding: impl Into<String>, remedy: impl Into<String>) {
        self.push(check, Verdict::Failure, finding.into(), Some(remedy.into()));
    }

    /// Lists checks that were skipped because of an earlier failure.
    pub(super) fn not_checked(&mut self, checks: &[&'static str]) {
        self.not_checked.extend(checks);
    }

    fn push(&mut self, check: &str, verdict: Verdict, finding: String, remedy: Option<String>) {
        self.add(Check {
            check: check.to_owned(),
            verdict,
            finding,
            remedy,
            expected: None,
            actual: None,
        });
    }

    pub(super) fn add(&mut self, check: Check) {
        self.checks.push(check);
    }

    fn count(&self, verdict: Verdict) -> usize {
        let of = |check: &&Check| check.verdict == verdict;
        self.checks.iter().filter(of).count()
    }

    /// Writes the report. The exit code is a failure if a check failed.
    pub(super) fn write(&self, terminal: &Terminal, as_json: bool) -> ExitCode {
        if as_json {
            self.write_json(terminal);
        } else {
            self.write_table(terminal);
        }
        match self.count(Verdict::Failure) {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
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
        let width = self.checks.iter().map(|check| check.check.chars().count());
        let width = width.max().unwrap_or_default();
        for check in &self.checks {
            let mark = match check.verdict {
                Verdict::Ok => terminal.paint(Colour::Green, "✓"),
                Verdict::Warning => terminal.paint(Colour::Yellow, "!"),
                Verdict::Failure => terminal.paint(Colour::Red, "✗"),
            };
            terminal.line(format!("{mark} {:width$}  {}", check.check, check.finding));
            if let Some(remedy) = &check.remedy {
                terminal.line(format!("  {:width$}  → {remedy}", ""));
            }
        }
        if !self.not_checked.is_empty() {
            let names = self.not_checked.join(", ");
            terminal.line(format!("  not checked because of the failures above: {names}"));
        }
        let (failures, warnings) = (self.count(Verdict::Failure), self.count(Verdict::Warning));
        let ok = self.count(Verdict::Ok);
        terminal.line(format!("{ok} ok, warnings: {warnings}, failures: {failures}"));
    }
}
