//! Against real counterparts: npm `oidc-provider` and a real Chromium. `scripts/interop` installs
//! them and runs these tests.

mod access_tokens;
mod browser;
mod browser_sign_in;
mod command_line;
mod example;
mod mcp;
mod node_provider;
mod redis_server;
#[path = "../behaviour/support/return_addresses.rs"]
mod return_addresses;
mod sessions;
mod sign_in;
#[path = "../cli/tool.rs"]
mod tool;
mod two_nodes;
mod visitor;

mod walker;
