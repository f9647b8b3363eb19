//! A text that is divided over several cookies, and put together again from those of one session.

use std::{borrow::Cow, time::Duration};

use rocket::http::CookieJar;
use time::OffsetDateTime;

use super::cookie::{CookieSeal, SetCookie};

/// The plain text that one cookie holds, in bytes: about 3,750 on the wire, below the 4,096 that
/// browsers keep (RFC 6265 §6.1).
pub(super) const PIECE: usize = 2_700;
/// A piece that another one follows is full, but for three bytes where a character would be cut: it is no
/// shorter than this when it is sealed, in base64.
const SEALED_PIECE: usize = (PIECE - 3) / 3 * 4;
/// More pieces than any setting allows are not even looked for.
const MOST_PIECES: usize = 5;

/// The pieces of this cookie that a request carries, none of them opened yet: one after the other, with a
/// space between them.
pub(super) fn read<'r>(
    seal: &CookieSeal,
    jar: &'r CookieJar<'_>,
    cookie: &str,
) -> Option<Cow<'r, str>> {
    let mut last = seal.sealed(jar, cookie)?;
    let mut sealed = Cow::from(last);
    for i in 1..MOST_PIECES {
        if last.len() < SEALED_PIECE {
            break;
        }
        let Some(next) = seal.sealed(jar, &name(cookie, i)) else {
            break;
        };
        let all = sealed.to_mut();
        all.push(' ');
        all.push_str(next);
        last = next;
    }
    Some(sealed)
}

/// What was read from pieces.
pub(super) struct Read<T> {
    pub(super) value: T,
    /// The length of those that it was read from. What stands behind them was not looked at.
    pub(super) length: usize,
}

/// Opens pieces that belong together; `read` gets their id and their text, and may refuse them.
pub(super) fn open<T>(
    seal: &CookieSeal,
    cookie: &str,
    sealed: &str,
    read: impl FnOnce(&str, &str) -> Option<T>,
) -> Option<Read<T>> {
    let mut length = 0;
    let mut pieces = sealed.split(' ').enumerate();
    let mut open = || {
        let (i, sealed) = pieces.next()?;
        length += usize::from(i > 0) + sealed.len();
        seal.open_text(&seal.full_name(&name(cookie, i), "/"), sealed)
    };
    let first = open()?;
    let (id, count, start) = piece(&first, 0)?;
    let mut text = Cow::from(start);
    for i in 1..count {
        let next = open()?;
        let (next_id, next_count, part) = piece(&next, i)?;
        if next_id != id || next_count != count {
            return None;
        }
        text.to_mut().push_str(part);
    }
    let value = read(id, &text)?;
    Some(Read { value, length })
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

fn name(cookie: &str, piece: usize) -> Cow<'_, str> {
    match piece {
        0 => cookie.into(),
        i => format!("{cookie}_{i}").into(),
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
    fn a_piece_that_another_one_follows_is_long_enough_to_tell() {
        let seal = CookieSeal::new(::cookie::Key::from(&[7; 64]), false);
        for (start, character) in [("", "x"), ("x", "é"), ("x", "€"), ("xxx", "😀")] {
            let text = format!("{start}{}", character.repeat(PIECE));
            let pieces = split(&text);
            let (_, followed) = pieces.split_last().unwrap();
            for piece in followed {
                assert!(seal.seal_text("c", piece).len() >= SEALED_PIECE);
            }
        }
    }

    #[test]
    fn pieces_open_together() {
        let seal = CookieSeal::new(::cookie::Key::from(&[7; 64]), false);
        let sealed = |name: &str, text: &str| seal.seal_text(name, text);
        let (first, second) = (sealed("c", "id:0:2:a"), sealed("c_1", "id:1:2:b"));
        let alone = sealed("c", "id:0:1:a");
        let open = |sealed: &str| {
            let read = open(&seal, "c", sealed, |_, text| Some(text.to_owned()))?;
            Some((read.value, read.length))
        };
        let both = format!("{first} {second}");
        for behind in ["", " ", " x", &format!(" {second}")] {
            let opened = |text: &str, sealed: &str| Some((text.to_owned(), sealed.len()));
            assert_eq!(open(&format!("{both}{behind}")), opened("ab", &both));
            assert_eq!(open(&format!("{alone}{behind}")), opened("a", &alone));
        }
        for text in [
            first.clone(),
            format!("{second} {first}"),
            format!("{first}  {second}"),
            format!("{first} {}", sealed("c_1", "other:1:2:b")),
            format!("{first} {}", sealed("c_1", "id:1:3:b")),
            format!("{first} {}", sealed("c_2", "id:1:2:b")),
            format!(" {alone}"),
            String::new(),
        ] {
            assert_eq!(open(&text), None, "{text}");
        }
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
