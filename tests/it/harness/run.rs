//! One run of a command of the program, from its start to what it wrote.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::{Child, Command};

use super::wait::within;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Run {
    /// Its one JSON object.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Its JSON lines.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let lines = self.stdout.lines().map(serde_json::from_str);
        let lines: Result<_, _> = lines.collect();
        lines.unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Starts the program with these arguments, and with no broker but the one that they name.
pub(crate) fn spawn(arguments: &[&str]) -> Child {
    spawn_other(env!("CARGO_BIN_EXE_tidegate").as_ref(), arguments)
}

/// Starts another build of the program as [`spawn`] does.
pub(crate) fn spawn_other(program: &Path, arguments: &[&str]) -> Child {
    Command::new(program)
        .args(arguments)
        .env_remove("TIDEGATE__BROKER__URL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Waits for its end.
pub(crate) async fn ended(child: Child) -> Run {
    let output = within("the command to end", child.wait_with_output())
        .await
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Run {
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}
