//! The one executable, `bursar`. Everything it does is in the library; here it only starts.

/// Batches allocate and free many small texts on several threads at once; with the system's allocator that took more
/// time than anything else in the process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    bursar::cli::main()
}
