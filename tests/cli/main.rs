//! The command-line tool, as the binary that people run, against a scripted provider on loopback.

mod doctor;
mod keys;
mod posture;
mod redirects;
mod register;
mod several_providers;
#[path = "../behaviour/support/mod.rs"]
mod support;
mod token;
mod tool;
