//! What beats save: the pings of every queue that they stand for, less the messages that were sent instead.
//! Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Beats are compared with one ping per queue in this time: platforms let their workers send these.
pub const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Counts pings that nobody had to send.
#[derive(Debug, Clone, Default)]
pub(crate) struct Savings {
    last: Option<Instant>,
    /// Messages sent beyond the pings of their time; later pings make up for them first.
    debt: f64,
}

impl Savings {
    /// A message was sent that stands for `nodes`: how many pings that has saved since the last message.
    #[must_use]
    pub(crate) fn sent(&mut self, nodes: usize, now: Instant) -> f64 {
        let since = self
            .last
            .map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.last = Some(now);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a worker has far fewer than 2^52 nodes"
        )]
        let pings = since.as_secs_f64() / PING_INTERVAL.as_secs_f64() * nodes as f64;
        let balance = pings - 1.0 - self.debt;
        self.debt = (-balance).max(0.0);
        balance.max(0.0)
    }

    /// There was no connection: nobody would have sent pings either.
    pub(crate) fn disconnected(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_beat_a_minute_for_ten_nodes_saves_nineteen_of_twenty_pings() {
        let minute = Duration::from_secs(60);
        let begin = Instant::now();
        let mut savings = Savings::default();
        // Starting, running: two messages before any ping is due.
        assert!(savings.sent(10, begin) <= 0.0);
        assert!(savings.sent(10, begin) <= 0.0);
        let first = savings.sent(10, begin + minute);
        assert!((first - 17.0).abs() < 1e-9, "{first}");
        let second = savings.sent(10, begin + minute * 2);
        assert!((second - 19.0).abs() < 1e-9, "{second}");
        savings.disconnected();
        assert!(
            savings.sent(10, begin + minute * 9) <= 0.0,
            "an outage saves nothing"
        );
    }
}
