//! Everybody's to-dos, in memory.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rocket::serde::Serialize;

/// So many may a person have …
const MAX_TODOS: usize = 50;
/// … each of so many bytes.
const MAX_LEN: usize = 200;

/// One of them.
#[derive(Clone, Serialize)]
#[serde(crate = "rocket::serde")]
pub struct Todo {
    id: u64,
    text: String,
}

/// All of them, by owner.
#[derive(Default)]
pub struct Todos(Mutex<Lists>);

#[derive(Default)]
struct Lists {
    last_id: u64,
    by_owner: HashMap<String, Vec<Todo>>,
}

impl Todos {
    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn of(&self, owner: &str) -> Vec<Todo> {
        let lists = self.lock();
        lists.by_owner.get(owner).cloned().unwrap_or_default()
    }

    /// `None` when it is empty or too long, or there are too many.
    pub fn add(&self, owner: &str, text: &str) -> Option<Todo> {
        let mut lists = self.lock();
        let id = lists.last_id + 1;
        let list = lists.by_owner.entry(owner.to_owned()).or_default();
        if text.is_empty() || text.len() > MAX_LEN || list.len() == MAX_TODOS {
            return None;
        }
        let text = text.to_owned();
        let todo = Todo { id, text };
        list.push(todo.clone());
        lists.last_id = id;
        Some(todo)
    }

    /// `false` when the owner has none of this id.
    pub fn remove(&self, owner: &str, id: u64) -> bool {
        let mut lists = self.lock();
        let Some(list) = lists.by_owner.get_mut(owner) else {
            return false;
        };
        let before = list.len();
        list.retain(|todo| todo.id != id);
        list.len() < before
    }
}
