//! The to-dos of the team, in memory.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rocket::{serde::Serialize, tokio::sync::broadcast};

#[derive(Clone, Debug, Serialize)]
#[serde(crate = "rocket::serde")]
pub struct Todo {
    by: String,
    text: String,
}

impl fmt::Display for Todo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.by)
    }
}

/// The newest to-dos, and the pages that show them.
pub struct Todos {
    todos: Mutex<Vec<Todo>>,
    added: broadcast::Sender<Todo>,
}

impl Default for Todos {
    fn default() -> Todos {
        Todos {
            todos: Mutex::default(),
            added: broadcast::channel(16).0,
        }
    }
}

impl Todos {
    const MAX_TODOS: usize = 100;
    /// The maximum length of the text of one, in bytes.
    pub const MAX_LEN: usize = 200;

    pub fn all(&self) -> Vec<Todo> {
        self.lock().clone()
    }

    pub fn add(&self, by: &str, text: &str) {
        let todo = Todo {
            by: by.to_owned(),
            text: text.to_owned(),
        };
        let mut todos = self.lock();
        if todos.len() == Self::MAX_TODOS {
            todos.remove(0);
        }
        todos.push(todo.clone());
        // Fails when no page is open.
        let _ = self.added.send(todo);
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    /// The to-dos that are added from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Todo> {
        self.added.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Todo>> {
        self.todos.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
