//! Bounded waiting. Nothing in a test waits without a limit, and nothing sleeps for a guessed time.

use std::env;
use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// How long a wait may take on an ordinary machine.
const LIMIT: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// `ordinary`, stretched by `TIDEGATE_TEST_SLOWNESS` (a factor of 1 or more) on a slow machine.
pub(crate) fn stretched(ordinary: Duration) -> Duration {
    let slowness = env::var("TIDEGATE_TEST_SLOWNESS").map_or(1.0, |text| {
        text.parse::<f64>()
            .ok()
            .filter(|factor| factor.is_finite() && *factor >= 1.0)
            .unwrap_or_else(|| {
                panic!("TIDEGATE_TEST_SLOWNESS must be a number of 1 or more: {text:?}")
            })
    });
    ordinary.mul_f64(slowness)
}

/// The limit of a wait where the test names no other.
pub(crate) fn limit() -> Duration {
    stretched(LIMIT)
}

/// `Ok` where `condition` holds, else what `found` says: the last line of an [`eventually`].
pub(crate) fn expect_that(condition: bool, found: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(found()) }
}

/// Probes until the probe is `Ok`, for at most [`limit`]; `what` completes the sentence "waiting until …".
///
/// # Panics
/// With the probe's last error if the limit passes.
pub(crate) async fn eventually<T>(
    what: impl Display,
    probe: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    eventually_within(limit(), what, probe).await
}

/// As [`eventually`], with a limit of the caller's, which is not stretched.
pub(crate) async fn eventually_within<T>(
    limit: Duration,
    what: impl Display,
    mut probe: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let begun = Instant::now();
    let mut last = "it was never looked at".to_owned();
    while begun.elapsed() < limit {
        match tokio::time::timeout(limit.saturating_sub(begun.elapsed()), probe()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(found)) => last = found,
            Err(_elapsed) => last = format!("a look took too long; before: {last}"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
    panic!("waited {limit:?} until {what}; last seen: {last}");
}

/// Awaits `future` for at most [`limit`].
///
/// # Panics
/// Where the limit passes; `what` completes "waiting for …".
pub(crate) async fn within<T>(what: impl Display, future: impl Future<Output = T>) -> T {
    let limit = limit();
    let waited = tokio::time::timeout(limit, future).await;
    waited.unwrap_or_else(|_elapsed| panic!("waited {limit:?} for {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_when_its_condition_holds() {
        let mut looks = 0;
        let seen = eventually("the third look", async || {
            looks += 1;
            expect_that(looks == 3, || format!("look {looks}")).map(|()| looks)
        })
        .await;
        assert_eq!(seen, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "until the sea is dry; last seen: it is wet")]
    async fn a_wait_that_fails_says_what_it_saw_last() {
        let limit = Duration::from_millis(50);
        eventually_within(limit, "the sea is dry", async || {
            Err::<(), _>("it is wet".to_owned())
        })
        .await;
    }
}
