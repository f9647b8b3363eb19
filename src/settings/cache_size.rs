//! How much is cached.

use figment::value::Value;

use super::{
    declaration::{Invalid, Parser, SettingType},
    syntax::{self, Syntax},
};

/// How large a cache is: the settings `token_cache` and `session.cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheSize {
    /// Whether there is a cache; `true` is 10,000 entries.
    Flag(bool),
    /// How many entries it has.
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
    /// How many entries the cache has; 0 is none.
    pub(crate) fn entries(self) -> u64 {
        match self {
            CacheSize::Flag(true) => 10_000,
            CacheSize::Flag(false) => 0,
            CacheSize::Entries(entries) => entries.into(),
        }
    }
}
