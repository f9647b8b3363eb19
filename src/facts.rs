//! The reason code, status and remedy of an error.

use std::borrow::Cow;

/// The reason code, status and remedy of an error, declared in one place per variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts<R = Cow<'static, str>> {
    /// The reason code, as the manual lists them.
    pub(crate) reason: &'static str,
    /// The HTTP status of the response.
    pub(crate) status: u16,
    /// How to fix it.
    pub(crate) remedy: R,
}

impl Facts {
    pub(crate) fn new(reason: &'static str, status: u16, remedy: impl Into<Cow<'static, str>>) -> Facts {
        Facts {
            reason,
            status,
            remedy: remedy.into(),
        }
    }
}
