//! The fuzz targets on any toolchain: each on its corpus, and on what a fixed random walk makes of it.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::{fs, path::Path};

/// Inputs that are tried beside the corpus.
const TRIES: usize = 3_000;

/// Runs a target on everything in its corpus, and on changes of it.
fn holds(name: &str, target: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let corpus: Vec<Vec<u8>> = fs::read_dir(corpus)
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    for input in &corpus {
        target(input);
    }
    target(b"");

    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..TRIES {
        let mut input = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(4) {
            change(&mut input, &corpus, &mut random);
        }
        target(&input);
    }
}

/// Changes a byte, a piece, or a word that parsers care about.
fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    const WORDS: [&[u8]; 12] = [
        b"\"",
        b"{",
        b"}",
        b"[[[[[[[[",
        b"null",
        b"-1e999",
        b"\\u0000",
        b"%00",
        b"; ",
        b"=",
        b"..",
        b"\xff",
    ];
    let at = random.below(input.len() + 1);
    let end = at + random.below(input.len() - at + 1).min(16);
    match random.below(5) {
        0 if at < input.len() => input[at] = random.below(256) as u8,
        1 => drop(input.drain(at..end)),
        2 => {
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        3 => {
            let word = WORDS[random.below(WORDS.len())];
            input.splice(at..at, word.iter().copied());
        }
        _ => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            input.splice(at.., other[from..].iter().copied());
        }
    }
}

/// xorshift64: the same walk on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

macro_rules! targets {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            holds(stringify!($name), targets::$name);
        }
    )*};
}

/// The corpus begins with a record that is one.
#[test]
fn the_session_in_the_corpus_is_read() {
    let record = include_bytes!("../fuzz/corpus/sealed_text/session");
    assert!(targets::session_cookies().reads(record));
}

targets! {
    authorization_header authorization_response certificate_header challenge cookie_header github_user introspection json jwt key_set
    logout_token metadata proof redis_url return_to sealed_text sign_in_attempt token_response user_info
}
