//! The worker's control queue: takes commands, and answers them.
//!
//! It lives on the connection that publishes, beside the status messages. The queue is exclusive: it is there
//! exactly as long as that connection, also during a drain. Whoever may publish to the control exchange may
//! command; the broker's permissions say who.

mod replies;

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::replies::Replies;
use super::{Refusal, Request, WorkerCommand};
use crate::broker::{
    AmqpRuntime, Backoff, BrokerError, ExclusiveConsumer, ExclusiveQueue, Link, SessionState,
    Taken, ensure_topic_exchange,
};
use crate::lifecycle::{Phase, WatchedTask};
use crate::status::StatusHandle;
use crate::status::control::{
    self, ALL_KEY, QUEUE_BYTES, QUEUE_LENGTH, QUEUE_PREFETCH, Reply, Unreadable, control_queue,
    worker_key,
};
use crate::status::wire::VERSION;
use crate::wait;

/// How long the worker may take to say whether it obeys. It does at once, unless it is at its end.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// The parts of the listener.
pub(super) struct ControlParts {
    pub worker: String,
    /// The exchange that commands come from.
    pub exchange: String,
    /// The connection that publishes.
    pub session: watch::Receiver<SessionState>,
    /// Weak: a worker whose owner is gone drains, whoever else might command it.
    pub requests: mpsc::WeakSender<Request>,
    pub status: StatusHandle,
    pub phase: watch::Receiver<Phase>,
}

/// The listener.
#[derive(Debug)]
pub(super) struct Control {
    stop: CancellationToken,
    task: WatchedTask<()>,
}

impl Control {
    /// Starts listening on `runtime`, now and after each loss of the connection.
    pub(super) fn start(parts: ControlParts, runtime: &AmqpRuntime) -> Self {
        let stop = CancellationToken::new();
        let listener = Listener {
            parts,
            stop: stop.clone(),
            replies: Replies::default(),
        };
        let task = runtime.spawn("control listener", listener.run());
        Self { stop, task }
    }

    /// Takes no more commands, and lets replies go out, for at most `limit`.
    pub(super) async fn close(self, limit: Duration) {
        self.task.expect_end();
        self.stop.cancel();
        if timeout(limit, self.task.join()).await.is_err() {
            debug!("replies to commands did not go out in time");
        }
    }
}

struct Listener {
    parts: ControlParts,
    stop: CancellationToken,
    replies: Replies,
}

impl Listener {
    async fn run(mut self) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.listen()).await;
        self.replies.sent().await;
    }

    /// Takes commands on each connection that there is.
    async fn listen(&mut self) {
        let mut session = self.parts.session.clone();
        let mut backoff = Backoff::default();
        loop {
            let link = session.borrow_and_update().link().cloned();
            let Some(link) = link else {
                wait::changed(&mut session).await;
                continue;
            };
            if link.is_blocked() {
                link.changed().await;
                continue;
            }
            match self.parts.open(&link).await {
                Ok(queue) => {
                    info!(exchange = self.parts.exchange, "listening for commands");
                    backoff.reset();
                    self.serve(&link, queue).await;
                }
                Err(error) if backoff.attempts() == 0 => {
                    warn!(%error, "commands cannot be listened for; trying again");
                }
                Err(error) => debug!(%error, "commands cannot be listened for; trying again"),
            }
            // Another connection is another attempt.
            let pause = backoff.next(rand::random());
            let _ = timeout(pause, wait::changed(&mut session)).await;
        }
    }

    /// Takes commands until the queue is gone.
    async fn serve(&mut self, link: &Link, mut queue: ExclusiveConsumer) {
        loop {
            tokio::select! {
                taken = queue.next() => {
                    let Some(taken) = taken else { return };
                    let reply = self.parts.obey(&taken).await;
                    queue.settle(taken.tag);
                    self.replies.send(link, taken, &reply);
                }
                () = self.replies.progress() => {}
            }
        }
    }
}

impl ControlParts {
    async fn open(&self, link: &Link) -> Result<ExclusiveConsumer, BrokerError> {
        ensure_topic_exchange(link, &self.exchange).await?;
        let queue = ExclusiveQueue {
            name: &control_queue(&self.worker),
            max_length: QUEUE_LENGTH,
            max_bytes: QUEUE_BYTES,
            prefetch: QUEUE_PREFETCH,
            exchange: &self.exchange,
            keys: &[&worker_key(&self.worker), ALL_KEY],
        };
        ExclusiveConsumer::open(link, &queue).await
    }

    /// Does what a message says, and says what has become of it.
    async fn obey(&self, taken: &Taken) -> Reply {
        let (command, obeyed) = match control::read(taken.kind.as_deref(), &taken.body) {
            Ok(command) => {
                let word = command.as_str();
                match command {
                    // The fleet program sends these again and again.
                    control::Command::Ping | control::Command::Cadence { .. } => {
                        debug!(command = word, "commanded");
                    }
                    _ => info!(command = word, "commanded"),
                }
                (word.to_owned(), self.carry_out(command).await)
            }
            Err(Unreadable { command, error }) => (command, Err(error)),
        };
        if let Err(error) = &obeyed {
            warn!(command, error, "a command is refused");
        }
        Reply {
            v: VERSION,
            worker: self.worker.clone(),
            command,
            ok: obeyed.is_ok(),
            phase: *self.phase.borrow(),
            error: obeyed.err(),
        }
    }

    /// Whether the worker obeys; nothing if it has stopped.
    async fn ask(&self, command: WorkerCommand) -> Option<Result<(), Refusal>> {
        let (sender, receiver) = oneshot::channel();
        let answer = Some(sender);
        let requests = self.requests.upgrade()?;
        requests.send(Request { command, answer }).await.ok()?;
        receiver.await.ok()
    }

    async fn carry_out(&self, command: control::Command) -> Result<(), String> {
        let order = match command {
            control::Command::Drain { reason } => WorkerCommand::Drain {
                reason: by_command(reason),
            },
            control::Command::Pause { reason } => WorkerCommand::Pause {
                reason: Some(by_command(reason)),
            },
            control::Command::Resume => WorkerCommand::Resume,
            control::Command::Report => return asked(self.status.renew()),
            control::Command::Cadence {
                interval_ms,
                for_ms,
                by,
            } => {
                let interval = Duration::from_millis(interval_ms);
                let lasting = Duration::from_millis(for_ms);
                return asked(
                    self.status
                        .cadence(by.unwrap_or_default(), interval, lasting),
                );
            }
            control::Command::Ping => return Ok(()),
        };
        match timeout(ANSWER_LIMIT, self.ask(order)).await {
            Ok(Some(answer)) => answer.map_err(|refusal| refusal.to_string()),
            Ok(None) | Err(_) => Err("the worker is at its end, and obeys no more".to_owned()),
        }
    }
}

/// The reason of a phase that a command began, beside those that a signal did (`SIGTERM`).
fn by_command(reason: Option<String>) -> String {
    match reason {
        Some(reason) => format!("command: {reason}"),
        None => "command".to_owned(),
    }
}

fn asked(asked: bool) -> Result<(), String> {
    let busy = || "the worker is asked for too much at once; ask again".to_owned();
    asked.then_some(()).ok_or_else(busy)
}
