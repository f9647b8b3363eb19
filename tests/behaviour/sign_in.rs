//! The sign-in as a browser sees it.
