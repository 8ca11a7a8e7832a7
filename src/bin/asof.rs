//! The program `asof`; see [`asof::cli`].

fn main() -> std::process::ExitCode {
    asof::cli::main()
}
