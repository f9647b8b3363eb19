//! What a guard costs a request: CPU time, and instructions by `valgrind`.
//!
//! ```sh
//! cargo bench --bench requests                    # both tables, and how they grow
//! cargo bench --bench requests -- instructions    # fails when a limit is exceeded
//! cargo bench --bench requests -- cpu             # or some: `-- cpu session`
//! cargo bench --bench requests -- growth
//! cargo bench --bench requests -- sessions        # or a part: `-- sessions stores`
//! cargo bench --bench requests -- load
//! ```

mod app;
mod client;
mod cpu;
mod floor;
mod growth;
mod instructions;
mod issuer;
mod load;
mod proof;
#[path = "../../tests/servers/mod.rs"]
#[allow(dead_code, reason = "tests use it too")]
mod servers;
mod sessions;
mod stores;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let is_good = match arguments[..] {
        ["serve", server, issuer] => {
            rocket::execute(cpu::serve(server, issuer));
            true
        }
        ["serve-with-store", url, issuer] => {
            rocket::execute(cpu::serve_with_store(url, issuer));
            true
        }
        ["hold", count] => {
            rocket::execute(sessions::hold(count.parse().unwrap()));
            true
        }
        ["count"] => {
            instructions::count();
            true
        }
        ["instructions"] => instructions::table(),
        ["cpu"] | ["cpu", _] => {
            rocket::execute(cpu::table(arguments.get(1).copied().unwrap_or_default()));
            true
        }
        ["growth"] => {
            growth::table();
            true
        }
        ["load"] => rocket::execute(load::run()),
        ["sessions"] | ["sessions", _] => {
            rocket::execute(sessions::tables(arguments.get(1).copied().unwrap_or_default()));
            true
        }
        [] => {
            rocket::execute(cpu::table(""));
            growth::table();
            rocket::execute(sessions::tables(""));
            instructions::table()
        }
        _ => {
            eprintln!("instructions, cpu, growth, sessions or load");
            false
        }
    };
    if is_good {
        std::process::ExitCode::SUCCESS
    } else {
        std::process::ExitCode::FAILURE
    }
}
