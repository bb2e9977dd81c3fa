//! Asks the platform for its queues, again and again.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::discovery::{WantedNode, discover};
use crate::engine::Engine;
use crate::gate::excerpt;
use crate::schedule::backoff;
use crate::signs::cause;

/// The queues to consume, by name; `None` until the platform has answered for the first time.
pub type Wanted = Option<BTreeMap<String, WantedNode>>;

/// Keeps the set of queues up to date.
pub struct Discovery {
    engine: Arc<Engine>,
    wanted: watch::Sender<Wanted>,
    complaints: Vec<String>,
}

impl Discovery {
    /// A discovery that has not asked yet.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            wanted: watch::Sender::new(None),
            complaints: Vec::new(),
        }
    }

    /// Observes the queues to consume.
    pub fn wanted(&self) -> watch::Receiver<Wanted> {
        self.wanted.subscribe()
    }

    /// Asks for ever. Dropping the future ends it at any point.
    pub async fn run(mut self) {
        let interval = self.engine.settings.discovery_interval;
        let mut failures = 0;
        loop {
            let delay = match self.ask().await {
                Ok(()) => {
                    failures = 0;
                    interval.mul_f64(0.9 + 0.2 * rand::random::<f64>())
                }
                Err(why) => {
                    failures += 1;
                    if failures == 1 {
                        warn!(
                            why,
                            "the platform does not say which queues there are; what is consumed stays"
                        );
                    }
                    backoff(failures, rand::random()).min(interval)
                }
            };
            sleep(delay).await;
        }
    }

    /// Asks once.
    async fn ask(&mut self) -> Result<(), String> {
        let engine = &self.engine;
        let selection = &engine.settings.selection;
        let answer = engine.platform.connectors(!selection.is_all()).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(sign) => {
                if cause(&sign).is_outage() {
                    engine.gate.failed(&sign);
                    if let Err(error) = engine.platform.reload_token() {
                        warn!(%error, "cannot read the token file");
                    }
                }
                return Err(excerpt(&sign));
            }
        };
        engine.gate.answered();
        let before = self.wanted.borrow().clone().unwrap_or_default();
        let found = discover(&answer, selection, &before).map_err(|error| error.to_string())?;
        let unmatched = found.unmatched.iter();
        let unmatched = unmatched.map(|word| format!("no connector is named {word:?}"));
        let complaints: Vec<_> = found.broken.into_iter().chain(unmatched).collect();
        if complaints != self.complaints {
            for complaint in &complaints {
                warn!(complaint, "discovery");
            }
            self.complaints = complaints;
        }
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.as_ref() != Some(&found.nodes);
            if changed {
                let (added, removed) = (names(&found.nodes, &before), names(&before, &found.nodes));
                info!(
                    queues = found.nodes.len(),
                    added, removed, "the platform's queues"
                );
                *wanted = Some(found.nodes);
            }
            changed
        });
        Ok(())
    }
}

/// The queues that are in `these` and not in `those`.
fn names(these: &BTreeMap<String, WantedNode>, those: &BTreeMap<String, WantedNode>) -> String {
    let names: Vec<_> = these
        .keys()
        .filter(|queue| !those.contains_key(*queue))
        .map(String::as_str)
        .collect();
    names.join(" ")
}
