//! The children of a pool: which one gets a request, and when another is started.
//!
//! Nothing here knows what requests and answers mean, except that each is a JSON object on a line, and that an
//! answer repeats the request's `id`.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use super::child::PoolChild;
use super::pacing::Pacing;
use crate::config::ChildPoolSettings;
use crate::handler::exec::command;
use crate::handler::shortage::ShortageWait;
use crate::handler::{Context, HandlerError};
use crate::process::{Program, Starter, is_shortage};

/// The time limit for a child to end after its input has ended.
const RETIRE_LIMIT: Duration = Duration::from_secs(5);

/// Children that run one program.
pub(super) struct Children {
    settings: ChildPoolSettings,
    program: Arc<Program>,
    starter: Starter,
    /// One for each child that may work.
    permits: Semaphore,
    state: Mutex<State>,
    next_id: AtomicU64,
    warmed: AtomicBool,
}

#[derive(Default)]
struct State {
    /// The last one used is last, and taken first.
    idle: Vec<PoolChild>,
    pacing: Pacing,
    /// Whether children are let go instead of kept.
    released: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum AskError {
    /// A drain began before a child had the request.
    Draining,
    /// The child that had the request failed, in words, or none can be started.
    Crashed(String),
}

/// A request with its number.
#[derive(Serialize)]
struct Numbered<'a, R> {
    id: &'a str,
    #[serde(flatten)]
    request: R,
}

/// What every line of a child has.
#[derive(Deserialize)]
struct Envelope {
    hello: Option<Value>,
    id: Option<String>,
}

impl Children {
    pub(super) fn new(settings: &ChildPoolSettings) -> Result<Self, HandlerError> {
        command::validate("pool", &settings.command)?;
        let program = command::program("pool", &settings.command, std::env::vars_os())?;
        Ok(Self {
            settings: settings.clone(),
            program: Arc::new(program),
            starter: Starter::default(),
            permits: Semaphore::new(settings.size.unwrap_or(Semaphore::MAX_PERMITS)),
            state: Mutex::default(),
            // So that no child can know the id of a request that it has not read.
            next_id: AtomicU64::new(rand::random::<u32>().into()),
            warmed: AtomicBool::new(false),
        })
    }

    /// The program's name.
    pub(super) fn name(&self) -> &str {
        &self.settings.command.command[0]
    }

    /// Gives a child what `request` makes of its `hello`, and each of its answers to `reply`, until that breaks.
    ///
    /// Dropping the future kills the child.
    ///
    /// # Errors
    /// The child died, or sent something else than answers to this request; or a drain began before a child had
    /// the request.
    pub(super) async fn ask<R: Serialize, A: DeserializeOwned, T>(
        &self,
        context: &Context,
        request: impl FnOnce(Option<&Value>) -> R,
        reply: impl FnMut(A) -> ControlFlow<T>,
    ) -> Result<T, AskError> {
        let mut wait = context.shortage_wait();
        let _permit = self.permit(context).await?;
        let mut child = self.child(context, &mut wait).await?;
        wait.end();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed).to_string();
        let request = Numbered {
            id: &id,
            request: request(child.hello.as_ref()),
        };
        let mut line = serde_json::to_vec(&request).expect("a request is plain data");
        drop(request);
        line.push(b'\n');
        match exchange(&mut child, &id, &line, reply).await {
            Ok(value) => {
                child.last = Some(id);
                self.keep(child);
                Ok(value)
            }
            Err(error) => {
                let error = format!("the child (pid {}) {error}", child.id());
                drop(child);
                self.failed(&error);
                Err(AskError::Crashed(error))
            }
        }
    }

    /// Starts as many children as there may be, once.
    pub(super) async fn warm(&self) {
        if !self.settings.warm || self.warmed.swap(true, Ordering::Relaxed) {
            return;
        }
        let size = self.settings.size;
        for _ in 0..size.unwrap_or(0) {
            match self.start().await {
                Ok(child) => self.state().idle.push(child),
                Err(error) => {
                    // A delivery will say it again.
                    tracing::warn!(program = self.name(), %error, "a child cannot be started ahead");
                    return;
                }
            }
        }
    }

    /// Lets every child go: the end of its input, a bounded time, and SIGKILL to its group. No child is kept after
    /// this.
    pub(super) async fn release(&self) {
        let idle = {
            let mut state = self.state();
            state.released = true;
            std::mem::take(&mut state.idle)
        };
        join_all(idle.into_iter().map(|child| child.retire(RETIRE_LIMIT))).await;
    }

    async fn permit(&self, context: &Context) -> Result<SemaphorePermit<'_>, AskError> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        // Nothing runs for this delivery until one of the children is free.
        context.set_starved(true);
        tokio::select! {
            biased;
            () = context.draining() => Err(AskError::Draining),
            permit = self.permits.acquire() => Ok(permit.expect("it is never closed")),
        }
    }

    /// A child that waits for a request, or a new one.
    async fn child(
        &self,
        context: &Context,
        wait: &mut ShortageWait<'_>,
    ) -> Result<PoolChild, AskError> {
        loop {
            if let Some(child) = self.take_idle() {
                return Ok(child);
            }
            let next_start = self.state().pacing.next_start(Instant::now());
            if let Some(at) = next_start {
                context.set_starved(true);
                tokio::select! {
                    biased;
                    () = context.draining() => return Err(AskError::Draining),
                    () = sleep_until(at) => continue,
                }
            }
            match self.start().await {
                Ok(child) => return Ok(child),
                Err(error) if is_shortage(&error) => {
                    if wait.pause("a child", &error).await.is_break() {
                        return Err(AskError::Draining);
                    }
                }
                Err(error) => {
                    let error = format!("cannot run `{}`: {error}", self.name());
                    self.failed(&error);
                    return Err(AskError::Crashed(error));
                }
            }
        }
    }

    async fn start(&self) -> std::io::Result<PoolChild> {
        let child = PoolChild::start(&self.starter, &self.program, self.settings.channel).await?;
        tracing::info!(
            pid = child.id(),
            program = self.name(),
            "a child has started"
        );
        Ok(child)
    }

    /// A child that is alive, and has said nothing that it should not.
    fn take_idle(&self) -> Option<PoolChild> {
        loop {
            let mut child = self.state().idle.pop()?;
            match greetings(&mut child) {
                Ok(()) if !child.has_ended() => return Some(child),
                Ok(()) if child.answered > 0 => {
                    tracing::info!(pid = child.id(), "a child has ended by itself");
                }
                Ok(()) => self.failed(&format!(
                    "the child (pid {}) ended before its first request",
                    child.id()
                )),
                Err(error) => self.failed(&format!("the child (pid {}) {error}", child.id())),
            }
        }
    }

    /// Keeps a child that has answered for the next request, unless it has served its time.
    fn keep(&self, mut child: PoolChild) {
        child.answered += 1;
        let reason = self.recycle_reason(&child);
        let mut state = self.state();
        state.pacing.succeeded();
        if reason.is_none() && !state.released {
            state.idle.push(child);
            return;
        }
        drop(state);
        tracing::info!(
            pid = child.id(),
            answered = child.answered,
            reason = reason.unwrap_or("released"),
            "a child is let go"
        );
        tokio::spawn(child.retire(RETIRE_LIMIT));
    }

    fn recycle_reason(&self, child: &PoolChild) -> Option<&'static str> {
        let settings = &self.settings;
        if child.repeats {
            return Some("answers twice");
        }
        if settings
            .max_deliveries
            .is_some_and(|most| child.answered >= most)
        {
            return Some("max_deliveries");
        }
        let most = settings.max_rss?;
        (child.resident()? > most).then_some("max_rss")
    }

    fn failed(&self, error: &str) {
        let mut state = self.state();
        state.pacing.failed(Instant::now(), rand::random());
        tracing::warn!(
            program = self.name(),
            error,
            failures_in_a_row = state.pacing.failures(),
            "a child has failed"
        );
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what a child has said since its last answer: a greeting, or something that it should not.
fn greetings(child: &mut PoolChild) -> Result<(), String> {
    while let Some(line) = child.unasked() {
        match line {
            Ok(line) => greeting(child, &line)?,
            // Its end is seen apart.
            Err(_closed) if child.has_ended() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn greeting(child: &mut PoolChild, line: &Bytes) -> Result<(), String> {
    match envelope(line)?.hello {
        Some(hello) if child.hello.is_none() => {
            child.hello = Some(hello);
            Ok(())
        }
        _ => Err("sent a line that nobody asked for".to_owned()),
    }
}

async fn exchange<A: DeserializeOwned, T>(
    child: &mut PoolChild,
    id: &str,
    request: &[u8],
    mut reply: impl FnMut(A) -> ControlFlow<T>,
) -> Result<T, String> {
    let mut sent = 0;
    while let Some(line) = child.send(request, &mut sent).await? {
        greeting(child, &line)?;
    }
    loop {
        let line = child.receive().await?;
        let envelope = envelope(&line)?;
        match envelope.id {
            Some(answered) if answered == id => {
                let answer = read_answer(&line)?;
                if let ControlFlow::Break(value) = reply(answer) {
                    return Ok(value);
                }
            }
            // It answered its last request twice, and this one may still be answered well.
            Some(other) if child.last.as_deref() == Some(&other) => child.repeats = true,
            Some(_other) => return Err("answered another request than its own".to_owned()),
            None => greeting(child, &line)?,
        }
    }
}

fn envelope(line: &Bytes) -> Result<Envelope, String> {
    read_answer(line)
}

/// What a line of a child says.
pub(super) fn read_answer<A: DeserializeOwned>(line: &Bytes) -> Result<A, String> {
    serde_json::from_slice(line).map_err(rubbish)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn rubbish(error: serde_json::Error) -> String {
    format!("sent a line that is not an answer: {error}")
}
