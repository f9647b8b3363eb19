//! A mistake in the settings: the key of the setting, its cause and its remedy.

/// A setting that breaks a rule.
#[derive(Clone, Debug)]
pub(super) struct Mistake {
    /// The key, relative to the value that is validated; empty for that value itself.
    pub(super) key: String,
    pub(super) cause: String,
    pub(super) remedy: String,
}

impl Mistake {
    pub(super) fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Mistake {
        Mistake {
            key: String::new(),
            cause: cause.into(),
            remedy: remedy.into(),
        }
    }

    /// The same mistake in the setting `key`.
    pub(super) fn at(self, key: impl Into<String>) -> Mistake {
        Mistake {
            key: key.into(),
            ..self
        }
    }
}

/// A rule for the setting `key`: `rule("scopes", is_met).cause("…").remedy("…")?`.
pub(super) fn rule(key: impl Into<String>, is_met: bool) -> Rule {
    Rule {
        is_met,
        mistake: Mistake::new("", "").at(key),
    }
}

/// See [`rule`].
pub(super) struct Rule {
    is_met: bool,
    mistake: Mistake,
}

impl Rule {
    /// What is wrong if the rule is broken.
    pub(super) fn cause(mut self, cause: impl Into<String>) -> Rule {
        self.mistake.cause = cause.into();
        self
    }

    /// Applies the rule.
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Result<(), Mistake> {
        self.mistake.remedy = remedy.into();
        if self.is_met { Ok(()) } else { Err(self.mistake) }
    }
}
