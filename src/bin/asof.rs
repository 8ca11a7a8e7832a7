//! The program `asof`; see [`asof::cli`].

/// A mount runs for weeks: what is freed goes back (see `.cargo/config.toml`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    asof::cli::main()
}
