//! The to-dos of the team, in memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rocket::{serde::Serialize, tokio::sync::broadcast};

#[derive(Clone, Serialize)]
#[serde(crate = "rocket::serde")]
pub struct Todo {
    by: String,
    text: String,
}

/// The newest to-dos, and the pages that show them.
pub struct Todos {
    todos: Mutex<Vec<Todo>>,
    added: broadcast::Sender<String>,
}

impl Todos {
    const MAX_TODOS: usize = 100;
    /// The maximum length of the text of one, in bytes.
    pub const MAX_LEN: usize = 200;

    pub fn new() -> Todos {
        let (todos, added) = (Mutex::default(), broadcast::channel(16).0);
        Todos { todos, added }
    }

    pub fn all(&self) -> Vec<Todo> {
        self.lock().clone()
    }

    pub fn add(&self, by: &str, text: &str) {
        // Fails when no page is open.
        let _ = self.added.send(format!("{text} ({by})"));
        let (by, text) = (by.to_owned(), text.to_owned());
        let mut todos = self.lock();
        if todos.len() == Self::MAX_TODOS {
            todos.remove(0);
        }
        todos.push(Todo { by, text });
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    /// The to-dos that are added from now on, as a page shows them.
    pub fn subscribe(&self) -> broadcast::Receiver<String> {
        self.added.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Todo>> {
        self.todos.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
