//! What all queues of a worker share.

use std::sync::{Arc, Mutex, PoisonError};

use tidegate::internal::broker::Message;
use tokio::time::Instant;

use crate::dead_works::DeadWorks;
use crate::gate::Gate;
use crate::graphql::{ClientError, GraphQl};
use crate::holds::Holds;
use crate::http_client;
use crate::metrics::Metrics;
use crate::publisher::Publisher;
use crate::python::Python;
use crate::settings::Settings;

/// The parts that all queues of a worker share.
pub struct Engine {
    /// The settings.
    pub settings: Settings,
    /// The platform.
    pub platform: GraphQl,
    /// Whether the platform answers.
    pub gate: Gate,
    /// The Python children.
    pub python: Python,
    /// What is counted.
    pub metrics: Metrics,
    /// Where parts and dead letters are published.
    pub publisher: Publisher,
    /// The client of callbacks.
    pub(crate) callbacks: reqwest::Client,
    /// The token for callbacks, and since when.
    pub(crate) jwt: Mutex<Option<(secrecy::SecretString, Instant)>>,
    /// What waits in place.
    pub(crate) holds: Holds,
    /// Works that the platform has ended.
    pub(crate) dead_works: DeadWorks,
    /// The versions of the platform and of pycti, once both are known.
    pub(crate) versions: Mutex<Option<(String, String)>>,
}

/// Why an engine cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The socket of the Python children cannot be made.
    #[error("cannot listen for Python children: {0}")]
    Python(std::io::Error),
}

impl Engine {
    /// The parts for `settings`. Opens no connection and starts no process.
    ///
    /// # Errors
    /// A certificate or the token cannot be read, or a setting cannot be used.
    pub fn new(settings: Settings) -> Result<Arc<Self>, EngineError> {
        let metrics = Metrics::new();
        let imports = settings.execution_pool + settings.realtime_pool;
        metrics.set_units(imports + settings.listen_pool);
        let callbacks = http_client::callback(&settings)?
            .build()
            .map_err(|error| http_client::refused("WORKER_LISTEN_API_HTTP_PROXY", &error))?;
        Ok(Arc::new(Self {
            platform: GraphQl::new(&settings)?,
            gate: Gate::new(metrics.clone()),
            python: Python::new(&settings, imports).map_err(EngineError::Python)?,
            publisher: Publisher::new(),
            callbacks,
            jwt: Mutex::default(),
            holds: Holds::default(),
            dead_works: DeadWorks::default(),
            versions: Mutex::default(),
            metrics,
            settings,
        }))
    }

    /// The token for callbacks, if it is not too old.
    pub(crate) fn cached_jwt(&self) -> Option<secrecy::SecretString> {
        let jwt = self.jwt.lock().unwrap_or_else(PoisonError::into_inner);
        let (jwt, since) = jwt.as_ref()?;
        (since.elapsed() < crate::listen::JWT_AGE).then(|| jwt.clone())
    }

    /// Both versions in words, for an error that says that they do not fit.
    pub(crate) fn versions_in_words(&self) -> String {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        match &*versions {
            Some((platform, pycti)) => format!("the platform is {platform}, pycti is {pycti}"),
            None => "the versions of the platform and of pycti are not known yet".to_owned(),
        }
    }

    /// Keeps a token for callbacks; `None` forgets the one that is kept.
    pub(crate) fn keep_jwt(&self, jwt: Option<secrecy::SecretString>) {
        let kept = jwt.map(|jwt| (jwt, Instant::now()));
        *self.jwt.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }
}

/// A dead letter on its way.
pub(crate) struct Letter {
    /// The message to publish.
    pub(crate) message: Message,
    /// The letter to our own queue, if `message` goes to the platform's routing key and no queue takes it there.
    pub(crate) otherwise: Option<Message>,
    /// Why, in a word.
    pub(crate) reason: &'static str,
}
