//! The Python children: they split bundles and import objects with `pycti`, and do nothing else.
//!
//! One process, the fork server, imports `pycti` once and forks a child whenever one is needed; without it each
//! child is a process of its own. A child does one request at a time. It is killed if its request is abandoned,
//! and replaced after so many requests or when it holds too much memory.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::debug;

use crate::settings::Settings;
use crate::signs::Sign;

mod child;
mod link;
mod log;
mod process;
mod protocol;

pub use child::Child;
pub(crate) use protocol::retry_after;
pub use protocol::{Element, Headers, ImportRequest, Versions};

use link::Link;
use process::Processes;

/// How long a process may take to import pycti and to connect.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// The children, shared.
#[derive(Clone)]
pub struct Python {
    shared: Arc<Shared>,
}

struct Shared {
    processes: Processes,
    /// As many as there may be children.
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Child>>,
    max_requests: u64,
    max_memory: u64,
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PythonError {
    /// `pycti` raised.
    Raised(Sign),
    /// The child died, or answered nonsense.
    Died(String),
    /// No child could be started: no fault of the request's.
    Unavailable(String),
}

impl PythonError {
    /// The signs of the failure.
    pub fn into_sign(self) -> Sign {
        let of = |class: &str, text| Sign {
            classes: vec![class.to_owned()],
            text,
            ..Sign::default()
        };
        match self {
            Self::Raised(sign) => sign,
            Self::Died(text) => of(crate::signs::CHILD_DIED, text),
            Self::Unavailable(text) => of(crate::signs::NO_CHILD, text),
        }
    }
}

impl Python {
    /// Children for `settings`, at most `limit` at once. Starts nothing yet.
    ///
    /// # Errors
    /// The socket that children connect to cannot be made.
    pub fn new(settings: &Settings, limit: usize) -> std::io::Result<Self> {
        let link = Link::listen()?;
        Ok(Self {
            shared: Arc::new(Shared {
                processes: Processes::new(settings, link),
                permits: Arc::new(Semaphore::new(limit)),
                idle: Mutex::default(),
                max_requests: settings.python.max_requests,
                max_memory: settings.python.max_memory,
            }),
        })
    }

    /// The versions of Python and pycti; starts a process if none runs.
    ///
    /// # Errors
    /// No process can be started.
    pub async fn versions(&self) -> Result<Versions, PythonError> {
        let lease = self.lease().await?;
        Ok(lease.child().versions().clone())
    }

    /// Imports one object.
    ///
    /// Dropping the future kills the child.
    ///
    /// # Errors
    /// See [`PythonError`].
    pub async fn import(&self, request: &ImportRequest<'_>) -> Result<(), PythonError> {
        let line = protocol::import_line(request);
        let mut lease = self.lease().await?;
        let imported = lease.child_mut().import(&line).await;
        lease.end(imported.as_ref().err());
        imported
    }

    /// Ends all processes.
    pub async fn close(&self) {
        self.shared.permits.close();
        self.idle().clear();
        self.shared.processes.close().await;
    }

    /// A child for one request; starts one if none is idle, which takes seconds.
    ///
    /// # Errors
    /// No process can be started.
    pub async fn lease(&self) -> Result<Lease, PythonError> {
        let closed = |_closed| PythonError::Unavailable("the worker is stopping".into());
        let permits = Arc::clone(&self.shared.permits);
        let permit = permits.acquire_owned().await.map_err(closed)?;
        let idle = self.idle().pop();
        let child = match idle {
            Some(child) => child,
            None => self.shared.processes.start().await?,
        };
        Ok(Lease {
            python: self.clone(),
            child: Some(child),
            _permit: permit,
        })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Child>> {
        let idle = &self.shared.idle;
        idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A child that one request has for itself.
pub struct Lease {
    python: Python,
    child: Option<Child>,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Lease {
    /// Splits the bundle into messages' contents, in the order of their dependencies.
    ///
    /// Dropping the future kills the child.
    ///
    /// # Errors
    /// See [`PythonError`].
    pub async fn split(
        mut self,
        bundle: &[u8],
        bundle_id: &str,
        event_version: Option<&str>,
        parts: bool,
    ) -> Result<Split, PythonError> {
        let line = protocol::split_line(bundle, bundle_id, event_version, parts);
        let split = self.child_mut().split(&line).await;
        self.end(split.as_ref().err());
        split
    }

    fn child(&self) -> &Child {
        self.child.as_ref().expect("a lease has its child")
    }

    fn child_mut(&mut self) -> &mut Child {
        self.child.as_mut().expect("a lease has its child")
    }

    /// The request was answered, or its child is gone.
    fn end(mut self, error: Option<&PythonError>) {
        if matches!(error, Some(PythonError::Died(_))) {
            return;
        }
        if let Some(child) = self.child.take() {
            let shared = &self.python.shared;
            if child.requests() < shared.max_requests && child.memory() < shared.max_memory {
                self.python.idle().push(child);
            } else {
                debug!(
                    child = child.name(),
                    requests = child.requests(),
                    memory_bytes = child.memory(),
                    "replacing a Python child"
                );
            }
        }
    }
}

/// A bundle, split.
#[derive(Debug, Default)]
pub struct Split {
    /// Objects that cannot be imported: they lack what they connect, or are of a type that pycti does not know. They are
    /// parts like the others if the bundle is split into parts.
    pub incompatible: Vec<Element>,
    /// The parts or objects, in the order of their dependencies.
    pub elements: Vec<Element>,
}
