//! The program `repo`. Everything it does is in the library.

fn main() -> std::process::ExitCode {
    kluis::cli::main()
}
