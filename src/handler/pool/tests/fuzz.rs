//! Whatever a child writes.

use bytes::Bytes;
use tokio::net::unix::pipe;

use super::super::children::read_answer;
use super::super::lines::{LineError, Lines};
use super::super::protocol::Reply;
use crate::handler::ERROR_LIMIT;

/// The longest line that is read here.
const LIMIT: usize = 512;

#[test]
fn whatever_a_child_answers_is_an_outcome_or_rubbish() {
    let words = [
        "\"outcome\":",
        "\"hold\"",
        "\"delay_ms\":",
        "18446744073709551615",
        "null",
        "\\u0000",
        "[",
        "{\"hello\":",
    ];
    tidegate_fuzzing::run("pool-lines", &words, |input| {
        for line in input.split(|byte| *byte == b'\n') {
            let Ok(reply) = read_answer::<Reply>(&Bytes::copy_from_slice(line)) else {
                continue;
            };
            let day = std::time::Duration::from_hours(24);
            assert!(reply.hold().is_none_or(|hold| hold <= day));
            let outcome = reply.outcome();
            let (delay, error) = match &outcome {
                crate::Outcome::Retry { delay, error, .. } => (*delay, error.as_str()),
                crate::Outcome::Dead { error, .. } => (None, error.as_str()),
                crate::Outcome::Done | crate::Outcome::HandBack => (None, ""),
            };
            assert!(delay.is_none_or(|delay| delay <= day));
            assert!(error.len() <= ERROR_LIMIT, "{} bytes", error.len());
        }
    });
}

#[test]
fn whatever_a_child_writes_its_lines_are_read_within_their_limit() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_io().build().unwrap();
    tidegate_fuzzing::run("pool-lines", &["\n"], |input| {
        // More does not fit the pipe before somebody reads.
        let input = &input[..input.len().min(16 * 1024)];
        runtime.block_on(async {
            let (sender, receiver) = pipe::pipe().unwrap();
            // As much as the system lets a pipe hold.
            let held = sender.try_write(input).unwrap_or_default();
            let input = &input[..held];
            drop(sender);
            let mut lines = Lines::new(receiver, LIMIT);
            let mut written = input.split(|byte| *byte == b'\n');
            loop {
                match lines.next().await {
                    Ok(line) => assert_eq!(Some(&line[..]), written.next()),
                    Err(LineError::TooLong(_)) => break,
                    Err(LineError::Closed) => {
                        let rest = lines.rest().unwrap_or_default();
                        assert_eq!(Some(&rest[..]), written.next());
                        break;
                    }
                    Err(LineError::Failed(error)) => panic!("{error}"),
                }
            }
        });
    });
}
