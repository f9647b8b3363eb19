//! A text that is divided over several cookies, and put together again from those of one session.

use std::time::Duration;

use rocket::http::CookieJar;
use time::OffsetDateTime;

use super::cookie::{CookieSeal, SetCookie};

/// The plain text that one cookie holds, in bytes: about 3,750 on the wire, below the 4,096 that
/// browsers keep (RFC 6265 §6.1).
pub(super) const PIECE: usize = 2_700;
/// More pieces than any setting allows are not even looked for.
const MOST_PIECES: usize = 5;

/// One cookie as it came, not opened yet.
#[derive(Clone)]
pub(super) struct SealedPiece {
    name: String,
    pub(super) value: String,
}

/// The pieces of this cookie that a request carries, from the first to the first that is missing.
pub(super) fn read(seal: &CookieSeal, jar: &CookieJar<'_>, cookie: &str) -> Vec<SealedPiece> {
    (0..MOST_PIECES)
        .map_while(|i| {
            let name = seal.full_name(&name(cookie, i), "/");
            let value = jar.get(&name)?.value().to_owned();
            Some(SealedPiece { name, value })
        })
        .collect()
}

/// The id and the text of pieces that are all there and belong together.
pub(super) fn open(seal: &CookieSeal, pieces: &[SealedPiece]) -> Option<(String, String)> {
    let open = |i: usize| {
        let piece: &SealedPiece = pieces.get(i)?;
        seal.open_text(&piece.name, &piece.value)
    };
    let first = open(0)?;
    let (id, count, start) = piece(&first, 0)?;
    let mut text = start.to_owned();
    for i in 1..count {
        let next = open(i)?;
        let (next_id, next_count, part) = piece(&next, i)?;
        if next_id != id || next_count != count {
            return None;
        }
        text.push_str(part);
    }
    Some((id.to_owned(), text))
}

/// Divides a text over cookies, if it needs no more than `most`, and removes the further ones that the
/// browser has.
pub(super) fn write(
    seal: &CookieSeal,
    jar: &CookieJar<'_>,
    cookie: &str,
    (id, text): (&str, &str),
    most: usize,
    (life, now): (Duration, OffsetDateTime),
) -> Option<Vec<SetCookie>> {
    let pieces = split(text);
    let count = pieces.len();
    if count > most {
        return None;
    }
    let mut cookies: Vec<_> = pieces
        .iter()
        .enumerate()
        .map(|(i, piece)| {
            let value = format!("{id}:{i}:{count}:{piece}");
            seal.set(&name(cookie, i), &value, "/", life, now)
        })
        .collect();
    cookies.extend(removals(seal, jar, cookie, count));
    Some(cookies)
}

/// Removes the pieces that the browser has, from the `first` on.
pub(super) fn removals(
    seal: &CookieSeal,
    jar: &CookieJar<'_>,
    cookie: &str,
    first: usize,
) -> Vec<SetCookie> {
    (first..MOST_PIECES)
        .map(|i| name(cookie, i))
        .filter(|name| seal.is_there(jar, name))
        .map(|name| seal.remove(&name, "/"))
        .collect()
}

fn name(cookie: &str, piece: usize) -> String {
    match piece {
        0 => cookie.to_owned(),
        i => format!("{cookie}_{i}"),
    }
}

/// Cuts a text into pieces of at most [`PIECE`] bytes, between characters.
fn split(text: &str) -> Vec<&str> {
    let mut rest = text;
    let mut pieces = vec![];
    while rest.len() > PIECE {
        let (piece, tail) = rest.split_at(boundary(rest));
        pieces.push(piece);
        rest = tail;
    }
    pieces.push(rest);
    pieces
}

/// The last place between characters within the first [`PIECE`] bytes.
fn boundary(text: &str) -> usize {
    (0..=PIECE)
        .rev()
        .find(|i| text.is_char_boundary(*i))
        .unwrap_or(PIECE)
}

/// Takes a piece apart: the session's id, how many pieces there are, and its text.
fn piece(text: &str, expected: usize) -> Option<(&str, usize, &str)> {
    let mut parts = text.splitn(4, ':');
    let (id, i, count, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (i, count): (usize, usize) = (i.parse().ok()?, count.parse().ok()?);
    (i == expected && count <= MOST_PIECES).then_some((id, count, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_between_characters() {
        let text = "é".repeat(PIECE);
        let pieces = split(&text);
        assert_eq!(pieces.concat(), text);
        assert_eq!(
            pieces.iter().map(|p| p.len()).collect::<Vec<_>>(),
            [2700, 2700]
        );
        let text = format!("a{text}");
        assert_eq!(split(&text).concat(), text);
        assert_eq!(split(&text)[0].len(), 2699);
    }

    #[test]
    fn pieces_out_of_place_are_refused() {
        assert_eq!(piece("id:1:2:x:y", 1), Some(("id", 2, "x:y")));
        assert_eq!(piece("id:4:5:x", 4), Some(("id", 5, "x")));
        for (text, i) in [
            ("id:1:2:x", 0),
            ("id:0:6:x", 0),
            ("id:0:2", 0),
            ("", 0),
            ("id:a:b:x", 0),
        ] {
            assert_eq!(piece(text, i), None, "{text}");
        }
    }
}
