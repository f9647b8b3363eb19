//! The command-line tool of `rocket_openidconnect`; see `rocket-oidc help`.

fn main() -> std::process::ExitCode {
    rocket_openidconnect::__private::main()
}
