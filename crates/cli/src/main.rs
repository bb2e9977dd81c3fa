//! The `tidegate` program.

mod check;
mod commands;
mod declare;
mod output;
mod publish;
mod simulate;
mod telemetry;

fn main() -> std::process::ExitCode {
    commands::main()
}
