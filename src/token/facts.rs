//! The reason codes and remedies of token errors.

/// The kind of a token.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TokenKind {
    AccessToken,
    IdToken,
    LogoutToken,
    UserInfo,
}

/// The reason code of a token error, and how to fix it. The HTTP status depends on who sent the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenFacts {
    /// The reason code, as the manual lists them.
    pub(crate) reason: &'static str,
    pub(crate) remedy: &'static str,
}

impl TokenFacts {
    pub(super) fn new(reason: &'static str, remedy: &'static str) -> TokenFacts {
        TokenFacts { reason, remedy }
    }
}

/// The reason code of a check that all kinds of token share: `reason_of!(kind, "expired")` is `id_token_expired`.
macro_rules! reason_of {
    ($kind:expr, $check:literal) => {
        match $kind {
            $crate::token::facts::TokenKind::AccessToken => concat!("access_token_", $check),
            $crate::token::facts::TokenKind::IdToken => concat!("id_token_", $check),
            $crate::token::facts::TokenKind::LogoutToken => concat!("logout_token_", $check),
            $crate::token::facts::TokenKind::UserInfo => concat!("user_info_", $check),
        }
    };
}

pub(super) use reason_of;
