//! The question before letters are dropped, on a terminal.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::scene::{Letter, scene, taken_ids};
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that, within};

/// A command on a terminal of its own.
struct OnTerminal {
    child: Child,
    terminal: std::fs::File,
    shown: Arc<Mutex<String>>,
}

impl OnTerminal {
    /// Starts `tidegate dead drop orders`, and waits until it asks.
    async fn asked_to_drop(vhost: &Vhost) -> Self {
        let pty = openpty(None, None).unwrap();
        let end = |descriptor: &OwnedFd| Stdio::from(descriptor.try_clone().unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["dead", "drop", "orders", "--url", vhost.url().as_str()])
            .stdin(end(&pty.slave))
            .stdout(Stdio::null())
            .stderr(end(&pty.slave))
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        drop(pty.slave);
        let terminal = std::fs::File::from(pty.master);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut reader, text) = (terminal.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 512];
            // The read fails once the command has ended.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                let read = String::from_utf8_lossy(&bytes[..count]);
                text.lock().unwrap().push_str(&read);
            }
        });
        let on_terminal = Self {
            child,
            terminal,
            shown,
        };
        on_terminal.until_shown("[y/N]").await;
        on_terminal
    }

    async fn until_shown(&self, wanted: &str) {
        eventually(format_args!("the terminal shows {wanted:?}"), async || {
            let shown = self.shown.lock().unwrap().clone();
            expect_that(shown.contains(wanted), || shown.clone())
        })
        .await;
    }

    async fn ended(mut self) -> Option<i32> {
        let status = within("the command to end", self.child.wait()).await;
        status.unwrap().code()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_at_the_question_drops_nothing_and_ends_the_command() {
    let vhost = scene("quorum").await;
    let letters = ["a", "b"].map(|id| Letter::new(id).message());
    vhost.publish_messages("orders.dead", letters).await;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let asked = OnTerminal::asked_to_drop(&vhost).await;
        let pid = asked.child.id().unwrap().cast_signed();
        kill(Pid::from_raw(pid), signal).unwrap();
        asked.until_shown("nothing was dropped").await;
        assert_eq!(asked.ended().await, Some(1), "{signal}");
    }
    assert_eq!(taken_ids(&vhost, "orders.dead").await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn yes_at_the_question_drops_what_was_counted() {
    let vhost = scene("quorum").await;
    let letters = ["a", "b"].map(|id| Letter::new(id).message());
    vhost.publish_messages("orders.dead", letters).await;
    let mut asked = OnTerminal::asked_to_drop(&vhost).await;
    asked
        .until_shown("drop 2 dead letters of orders for good?")
        .await;
    asked.terminal.write_all(b"y\n").unwrap();
    assert_eq!(asked.ended().await, Some(0));
    assert_eq!(vhost.ready("orders.dead").await, 0);
}
