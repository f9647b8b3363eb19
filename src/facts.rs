//! What every error says beside its text.

use std::borrow::Cow;

/// What an error says beside its text, in one place for each of its variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The reason code, as the manual lists them.
    pub(crate) reason: &'static str,
    /// The HTTP status of the response.
    pub(crate) status: u16,
    /// What to do about it.
    pub(crate) remedy: Cow<'static, str>,
}

impl Facts {
    pub(crate) fn new(
        reason: &'static str,
        status: u16,
        remedy: impl Into<Cow<'static, str>>,
    ) -> Facts {
        Facts {
            reason,
            status,
            remedy: remedy.into(),
        }
    }
}
