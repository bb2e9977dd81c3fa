//! Asks the broker about queues, while somebody looks at them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Board;
use crate::api::{NewestDead, Queues};
use crate::shared::Shared;
use crate::start::CLOSE_LIMIT;
use crate::viewers::Viewers;
use tidegate::config::BrokerSettings;
use tidegate::internal::broker::{AmqpRuntime, Link, Session, SessionState, find_queue};
use tidegate::internal::metrics::Metrics;

/// The interval at which due queues are looked at.
const TICK: Duration = Duration::from_millis(200);
/// Queues looked at in one tick: 50 a second.
const LOOKS_PER_TICK: usize = 10;
/// The interval at which it is decided anew which queues are looked at.
const WANT_EVERY: Duration = Duration::from_secs(1);
/// The interval at which what runs is noted for the graphs.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// How long the looks of one command take, at most.
const ONCE_LIMIT: Duration = Duration::from_secs(20);

/// Knows the queues. Cheap to look at; asks the broker only while somebody does.
#[derive(Debug)]
pub(crate) struct QueueWatcher {
    shared: Arc<Shared>,
    viewers: Arc<Viewers>,
    board: Mutex<Board>,
}

impl QueueWatcher {
    pub(crate) fn new(shared: &Arc<Shared>, viewers: &Arc<Viewers>) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            viewers: Arc::clone(viewers),
            board: Mutex::default(),
        })
    }

    /// Every queue. Whoever asks looks at the queues for a while.
    pub(crate) fn queues(&self) -> Queues {
        self.viewers.view_queues();
        let now = self.shared.now();
        // The board comes before the fleet, everywhere.
        let board = self.board();
        board.rows(&self.shared.fleet(), now)
    }

    /// A dead letter of `queue` was read.
    pub(crate) fn read_letter(&self, queue: &str, newest: NewestDead) {
        self.board().read_letter(queue, newest);
    }

    /// Watches until `stop`. There is a connection only while somebody looks.
    pub(crate) async fn run(
        self: Arc<Self>,
        broker: Arc<BrokerSettings>,
        id: String,
        amqp: Arc<AmqpRuntime>,
        stop: CancellationToken,
    ) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut session: Option<Session> = None;
        let mut sampled = Instant::now();
        let mut wanted: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => break,
            }
            if sampled.elapsed() >= SAMPLE_EVERY {
                sampled = Instant::now();
                self.shared.fleet().sample(self.shared.now());
            }
            if self.viewers.queues_viewed() {
                let session = session.get_or_insert_with(|| {
                    debug!("somebody looks at the queues");
                    Session::start(Arc::clone(&broker), &id, "queues", &amqp, Metrics::new())
                });
                let state = session.state().borrow().clone();
                if wanted.is_none_or(|at| at.elapsed() >= WANT_EVERY) {
                    wanted = Some(Instant::now());
                    self.want();
                }
                self.look(&state).await;
            } else if let Some(session) = session.take() {
                close(session).await;
            }
        }
        if let Some(session) = session {
            close(session).await;
        }
    }

    async fn look(&self, state: &SessionState) {
        let problem = match state {
            SessionState::Connected(_) => None,
            SessionState::Connecting => Some("connecting to the broker".to_owned()),
            SessionState::Reconnecting => Some("the connection to the broker is lost".to_owned()),
            SessionState::Refused(error) => Some(error.to_string()),
        };
        let now = self.shared.now();
        let due = {
            let mut board = self.board();
            board.set_problem(problem);
            match state.link() {
                Some(_) => board.due(now, LOOKS_PER_TICK),
                None => Vec::new(),
            }
        };
        if let Some(link) = state.link() {
            look_at(link, due, &self.shared, &self.board).await;
        }
    }

    fn want(&self) {
        let now = self.shared.now();
        let mut board = self.board();
        let work = self.shared.fleet().queue_work(now);
        board.want(&work, now);
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        locked(&self.board)
    }
}

/// Looks at `queues`, all at the same time.
async fn look_at(link: &Link, queues: Vec<Arc<str>>, shared: &Shared, board: &Mutex<Board>) {
    let looks = queues.into_iter().map(|queue| async move {
        let facts = find_queue(link, &queue).await;
        (queue, facts)
    });
    let mut looks = stream::iter(looks).buffer_unordered(LOOKS_PER_TICK);
    while let Some((queue, facts)) = looks.next().await {
        let now = shared.now();
        let mut board = locked(board);
        let Some(ready) = board.saw(&queue, facts, now) else {
            continue;
        };
        let ended = shared.fleet().looked(&queue, ready, now);
        board.count(&queue, ready, ended, now);
    }
}

/// Every queue, looked at once on `link`.
pub(crate) async fn look_once(link: &Link, shared: &Shared) -> Queues {
    let board = Mutex::<Board>::default();
    let now = shared.now();
    locked(&board).want(&shared.fleet().queue_work(now), now);
    let looked = timeout(ONCE_LIMIT, async {
        loop {
            let due = locked(&board).due(shared.now(), LOOKS_PER_TICK);
            if due.is_empty() || locked(&board).is_complete() {
                break;
            }
            look_at(link, due, shared, &board).await;
        }
    });
    if looked.await.is_err() || !locked(&board).is_complete() {
        let problem = "not every queue could be looked at".to_owned();
        locked(&board).set_problem(Some(problem));
    }
    let board = locked(&board);
    board.rows(&shared.fleet(), shared.now())
}

async fn close(session: Session) {
    if let Err(error) = session.close(CLOSE_LIMIT).await {
        warn!(%error, "the connection for looking at queues did not close cleanly");
    }
}

fn locked(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}
