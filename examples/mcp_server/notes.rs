//! The newest notes, and whose they are.

use std::sync::{Mutex, PoisonError};

/// The longest note, in characters.
pub const MAX_LEN: usize = 500;
const MAX_NOTES: usize = 100;

struct Note {
    owner: String,
    text: String,
}

#[derive(Default)]
pub struct Notes(Mutex<Vec<Note>>);

impl Notes {
    pub fn of(&self, owner: &str) -> Vec<String> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = notes.iter().filter(|note| note.owner == owner);
        own.map(|note| note.text.clone()).collect()
    }

    pub fn add(&self, owner: &str, text: &str) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() == MAX_NOTES {
            notes.remove(0);
        }
        notes.push(Note {
            owner: owner.to_owned(),
            text: text.to_owned(),
        });
    }
}
