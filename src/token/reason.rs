//! Reason codes of the checks that all kinds of token share: the kind of token, then the check.

/// The kind of a token.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TokenKind {
    AccessToken,
    IdToken,
    LogoutToken,
    UserInfo,
}

/// The reason code of a check for a kind of token: `reason_of!(kind, "expired")` is `id_token_expired`.
macro_rules! reason_of {
    ($kind:expr, $check:literal) => {
        match $kind {
            $crate::token::TokenKind::AccessToken => concat!("access_token_", $check),
            $crate::token::TokenKind::IdToken => concat!("id_token_", $check),
            $crate::token::TokenKind::LogoutToken => concat!("logout_token_", $check),
            $crate::token::TokenKind::UserInfo => concat!("user_info_", $check),
        }
    };
}

pub(super) use reason_of;
