//! Reason codes of what is the same in every token: which token it was, then which check.

/// A token that is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TokenKind {
    AccessToken,
    IdToken,
    LogoutToken,
    UserInfo,
}

/// The code of a check for a kind of token: `reason_of!(kind, "expired")` is `id_token_expired`.
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
