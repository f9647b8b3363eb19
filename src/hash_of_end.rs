//! Finds long texts by their ends, in a table whose keys only the holder of a key can make.

use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};

/// How much of a text's end its hash is made of: 24 bytes, in base64.
const HASHED_END: usize = 32;

/// Hashes the end of a text, with a random key. For texts that end with a signature or a seal's tag, and
/// come into a table only when that is good: nobody else could make many that end alike. Two texts are
/// the same when all of both is.
#[derive(Clone, Default)]
pub(crate) struct HashOfEnd(RandomState);

pub(crate) struct EndHasher(DefaultHasher);

impl BuildHasher for HashOfEnd {
    type Hasher = EndHasher;

    fn build_hasher(&self) -> EndHasher {
        EndHasher(self.0.build_hasher())
    }
}

impl Hasher for EndHasher {
    fn write(&mut self, bytes: &[u8]) {
        let end = bytes.len().saturating_sub(HASHED_END);
        self.0.write(&bytes[end..]);
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_and_a_random_key_make_the_hash() {
        let hash = HashOfEnd::default();
        let end = "x".repeat(HASHED_END);
        let one = hash.hash_one(format!("one{end}"));
        assert_eq!(one, hash.hash_one(format!("other{end}")));
        assert_ne!(one, HashOfEnd::default().hash_one(format!("one{end}")));
        for place in 0..HASHED_END {
            let mut other = end.clone();
            other.replace_range(place..=place, "y");
            assert_ne!(one, hash.hash_one(format!("one{other}")), "{place}");
        }
        assert_ne!(hash.hash_one("short"), hash.hash_one("shirt"));
    }
}
