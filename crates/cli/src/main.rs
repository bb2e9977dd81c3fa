//! The `tidegate` program.

mod check;
mod commands;
mod declare;
mod output;
mod publish;
mod simulate;
mod telemetry;

/// A connection has buffers of 8 MiB, most of which is never touched. glibc's allocator gives them back to the system, but
/// takes the next connection's from memory that it has to clear, so that all of it stays resident.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    commands::main()
}
