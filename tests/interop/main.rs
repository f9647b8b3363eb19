//! Against real counterparts: npm `oidc-provider`, Keycloak, Chromium, Redis, PostgreSQL, nginx and Prometheus. `scripts/interop`
//! installs them and runs these tests.

mod access_tokens;
mod api_docs;
mod base_path;
mod bound_sessions;
mod bound_tokens;
mod browser;
mod browser_sign_in;
mod browser_step_up;
mod client_certificates;
mod client_keys;
mod command_line;
mod example;
mod issuer_recipes;
mod issuer_shapes;
mod keycloak;
mod keycloak_server;
#[path = "../behaviour/keycloak_shape.rs"]
mod keycloak_shape;
mod live;
mod mcp;
mod nginx;
mod node_provider;
#[path = "../behaviour/numbers.rs"]
#[allow(dead_code, reason = "it has more than these tests use")]
mod numbers;
mod other_apis;
mod pages;
mod patience;
mod prometheus;
mod redis_failover;
mod scripts;
mod second_factor;
#[path = "../servers/mod.rs"]
#[allow(dead_code, reason = "benchmarks use it too")]
mod servers;
mod sessions;
mod several_providers;
mod sign_in;
mod silent;
mod slow_node;
mod sql_sessions;
mod step_up;
mod step_up_at_keycloak;
#[path = "../behaviour/support/mod.rs"]
mod support;
mod team;
#[path = "../cli/tool.rs"]
mod tool;
mod two_nodes;
mod visitor;

mod walker;
