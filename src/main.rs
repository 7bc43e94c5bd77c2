//! The one executable, `bursar`. Everything it does is in the library; here it only starts.

fn main() -> std::process::ExitCode {
    bursar::cli::main()
}
