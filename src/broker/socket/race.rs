//! Several addresses of one host, so that a silent one does not hold up the others (after RFC 8305).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

/// The head start of an address before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to the first of `addresses` that answers, and gives up the others. The next address is tried when the one
/// before it fails, or has not answered for [`HEAD_START`].
///
/// # Errors
/// The last address's error, if all fail.
pub(super) async fn first_to_connect<T, F: Future<Output = io::Result<T>>>(
    addresses: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<(T, SocketAddr)> {
    let mut addresses = addresses.iter().copied();
    let mut attempts = FuturesUnordered::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    loop {
        let next = addresses.next();
        if let Some(address) = next {
            let attempt = connect(address);
            attempts.push(async move { (address, attempt.await) });
        }
        tokio::select! {
            ended = attempts.next() => match ended {
                Some((address, Ok(connected))) => return Ok((connected, address)),
                Some((address, Err(error))) => {
                    failed = io::Error::new(error.kind(), format!("{address}: {error}"));
                }
                None => return Err(failed),
            },
            () = sleep(HEAD_START), if addresses.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    /// The behaviour of an address in the test.
    #[derive(Clone, Copy)]
    enum Answer {
        Never,
        Refuses,
        After(u64),
    }

    async fn race(answers: &[Answer]) -> (io::Result<usize>, Duration) {
        let begin = Instant::now();
        let ports = (0..).take(answers.len());
        let addresses: Vec<_> = ports.map(|port| ([127, 0, 0, 1], port).into()).collect();
        let connect = |address: SocketAddr| {
            let answer = answers[usize::from(address.port())];
            async move {
                match answer {
                    Answer::Never => pending().await,
                    Answer::Refuses => Err(io::ErrorKind::ConnectionRefused.into()),
                    Answer::After(millis) => {
                        sleep(Duration::from_millis(millis)).await;
                        Ok(usize::from(address.port()))
                    }
                }
            }
        };
        let connected = first_to_connect(&addresses, connect).await;
        (connected.map(|(port, _)| port), begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_does_not_hold_up_the_next() {
        let (first, took) = race(&[Answer::Never, Answer::Never, Answer::After(10)]).await;
        assert_eq!(first.expect("one answers"), 2);
        assert_eq!(took, 2 * HEAD_START + Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_brings_on_the_next_address_at_once() {
        let (first, took) = race(&[Answer::Refuses, Answer::After(10)]).await;
        assert_eq!(first.expect("one answers"), 1);
        assert_eq!(took, Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_address_still_wins_if_the_others_fail() {
        let (first, _) = race(&[Answer::After(900), Answer::Refuses, Answer::Refuses]).await;
        assert_eq!(first.expect("one answers"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn if_all_refuse_the_last_error_names_its_address() {
        let (first, _) = race(&[Answer::Refuses, Answer::Refuses]).await;
        let error = first.expect_err("none answers");
        assert!(error.to_string().starts_with("127.0.0.1:"), "{error}");
        let (none, _) = race(&[]).await;
        assert!(none.is_err());
    }
}
