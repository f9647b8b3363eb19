//! How much is remembered, so that it is not worked out at each request.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use super::key::Form;

/// How large a cache is: the settings `token_cache` and `session.cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheSize {
    /// Whether there is a cache; `true` is 10,000 entries.
    Flag(bool),
    /// How many entries it has.
    Entries(u32),
}

impl<'de> Deserialize<'de> for CacheSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CacheSize, D::Error> {
        struct CacheSizeVisitor;

        impl Visitor<'_> for CacheSizeVisitor {
            type Value = CacheSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Form::FlagOrCount.expectation())
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<CacheSize, E> {
                Ok(CacheSize::Flag(flag))
            }

            fn visit_u64<E: Error>(self, entries: u64) -> Result<CacheSize, E> {
                u32::try_from(entries)
                    .map(CacheSize::Entries)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(entries), &self))
            }

            fn visit_i64<E: Error>(self, entries: i64) -> Result<CacheSize, E> {
                u64::try_from(entries)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(entries), &self))
                    .and_then(|entries| self.visit_u64(entries))
            }
        }

        deserializer.deserialize_any(CacheSizeVisitor)
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

impl Default for CacheSize {
    fn default() -> CacheSize {
        CacheSize::Flag(true)
    }
}
