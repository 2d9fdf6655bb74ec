//! The `pyalloc` command.

fn main() -> std::process::ExitCode {
    pyalloc::cli::main()
}
