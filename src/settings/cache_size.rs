//! The size of a cache.

use figment::value::Value;

use super::{
    declaration::{Invalid, Parser, SettingType},
    syntax::{self, Syntax},
};

/// The size of a cache: the settings `token_cache` and `session.cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheSize {
    /// Whether there is a cache; `true` is 10,000 entries.
    Flag(bool),
    /// The maximum number of entries.
    Entries(u32),
}

impl SettingType for CacheSize {
    type Value = CacheSize;
    const SYNTAX: Syntax = syntax::FLAG_OR_COUNT;

    fn parse(value: &Value, _: &mut Parser<'_>) -> Result<CacheSize, Invalid> {
        let flag = value.to_bool().map(CacheSize::Flag);
        let size = flag.or_else(|| value.deserialize().ok().map(CacheSize::Entries));
        size.ok_or_else(|| Invalid::Type(value.to_actual()))
    }
}

impl CacheSize {
    /// The maximum number of entries; 0 means no cache.
    pub(crate) fn entries(self) -> u64 {
        match self {
            CacheSize::Flag(true) => 10_000,
            CacheSize::Flag(false) => 0,
            CacheSize::Entries(entries) => entries.into(),
        }
    }
}
