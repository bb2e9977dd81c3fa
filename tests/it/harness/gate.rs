//! An HTTP service for the worker's `http` handler, each request of which the test has in hand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::wait::{eventually, expect_that};

/// One request that came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The delivery's message id; empty if it has none.
    pub id: String,
    /// The delivery's attempt, from 1.
    pub attempt: u32,
    /// Whether the broker had delivered it before.
    pub redelivered: bool,
    /// All headers; their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: Vec<u8>,
    /// When it came.
    pub came: Instant,
    /// When it was answered; nothing if it still runs, or where the worker gave it up.
    pub answered: Option<Instant>,
    /// Whether the worker closed the connection before there was an answer.
    pub given_up: bool,
}

/// What a request is answered with, once it may be.
type Rule = Box<dyn Fn(&Request) -> u16 + Send + Sync>;

struct Shared {
    requests: Mutex<Vec<Request>>,
    rule: Mutex<Rule>,
    /// How many requests may be answered, in the order they came; `usize::MAX` for all.
    open: watch::Sender<usize>,
    released: Mutex<Vec<String>>,
}

/// The service. It holds every request until it is released, answers 200 or what the rule says, and
/// remembers them all.
pub(crate) struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: AbortOnDropHandle<()>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gate {
    /// A service that answers every request with 200, at once.
    pub(crate) async fn open() -> Self {
        Self::start(usize::MAX).await
    }

    /// A service that holds every request.
    pub(crate) async fn closed() -> Self {
        Self::start(0).await
    }

    async fn start(open: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            rule: Mutex::new(Box::new(|_| 200)),
            open: watch::Sender::new(open),
            released: Mutex::default(),
        });
        let router = Router::new()
            .fallback(post(handle))
            .with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move {
            // It serves until it is dropped.
            let _ = axum::serve(listener, router).await;
        });
        Self {
            address,
            shared,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// Where the handler posts to.
    pub(crate) fn url(&self) -> Url {
        Url::parse(&format!("http://{}/", self.address)).expect("an address makes a URL")
    }

    /// From now on requests are answered with the status that `rule` says.
    pub(crate) fn answer(&self, rule: impl Fn(&Request) -> u16 + Send + Sync + 'static) {
        *locked(&self.shared.rule) = Box::new(rule);
    }

    /// Lets `count` more requests be answered, in the order they came.
    pub(crate) fn release(&self, count: usize) {
        self.shared
            .open
            .send_modify(|open| *open = open.saturating_add(count));
    }

    /// Lets the requests with message id `id` be answered, whatever came before them.
    pub(crate) fn release_id(&self, id: &str) {
        locked(&self.shared.released).push(id.to_owned());
        // Those that wait look again.
        self.shared.open.send_modify(|_| {});
    }

    /// Lets all requests be answered, and those that will come.
    pub(crate) fn release_all(&self) {
        self.shared.open.send_replace(usize::MAX);
    }

    /// Every request so far, in the order they came.
    pub(crate) fn requests(&self) -> Vec<Request> {
        locked(&self.shared.requests).clone()
    }

    /// The message ids of all requests so far, in the order they came.
    pub(crate) fn ids(&self) -> Vec<String> {
        let requests = locked(&self.shared.requests);
        requests.iter().map(|request| request.id.clone()).collect()
    }

    /// The attempts of the requests for message `id`, in the order they came.
    pub(crate) fn attempts(&self, id: &str) -> Vec<u32> {
        let requests = locked(&self.shared.requests);
        let of_id = requests.iter().filter(|request| request.id == id);
        of_id.map(|request| request.attempt).collect()
    }

    /// Requests that came.
    pub(crate) fn count(&self) -> usize {
        locked(&self.shared.requests).len()
    }

    /// Requests that came and have neither been answered nor given up.
    pub(crate) fn in_flight(&self) -> usize {
        self.number(|request| request.answered.is_none() && !request.given_up)
    }

    /// Requests that were answered.
    pub(crate) fn answered(&self) -> usize {
        self.number(|request| request.answered.is_some())
    }

    /// Requests that the worker gave up.
    pub(crate) fn given_up(&self) -> usize {
        self.number(|request| request.given_up)
    }

    /// When the last answer was given.
    pub(crate) fn last_answer(&self) -> Option<Instant> {
        let requests = locked(&self.shared.requests);
        requests.iter().filter_map(|request| request.answered).max()
    }

    /// Waits until at least `count` requests have come.
    pub(crate) async fn started(&self, count: usize) {
        eventually(format_args!("{count} requests have come"), async || {
            let came = self.count();
            expect_that(came >= count, || format!("{came}"))
        })
        .await;
    }

    /// Waits until requests for `count` different messages have come, however many for each.
    pub(crate) async fn messages_came(&self, count: usize) {
        eventually(format_args!("{count} messages have come"), async || {
            let came = self.ids().into_iter().collect::<BTreeSet<_>>().len();
            expect_that(came == count, || format!("{came} of {count}"))
        })
        .await;
    }

    /// Waits until at least `count` requests have been answered.
    pub(crate) async fn finished(&self, count: usize) {
        eventually(format_args!("{count} requests are answered"), async || {
            let answered = self.answered();
            expect_that(answered >= count, || format!("{answered}"))
        })
        .await;
    }

    fn number(&self, of: impl Fn(&Request) -> bool) -> usize {
        let requests = locked(&self.shared.requests);
        requests.iter().filter(|request| of(request)).count()
    }
}

/// Says that a request was given up when its connection closes before its answer.
struct Waiting<'a> {
    shared: &'a Shared,
    number: usize,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let request = &mut locked(&self.shared.requests)[self.number];
        request.given_up = request.answered.is_none();
    }
}

async fn handle(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| {
        let value = headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let request = Request {
        id: header("tidegate-message-id").unwrap_or_default(),
        attempt: header("tidegate-attempt").map_or(0, |text| text.parse().unwrap_or(0)),
        redelivered: header("tidegate-redelivered").is_some_and(|text| text == "true"),
        headers: headers
            .keys()
            .map(|name| (name.to_string(), header(name.as_str()).unwrap_or_default()))
            .collect(),
        body: body.to_vec(),
        came: Instant::now(),
        answered: None,
        given_up: false,
    };
    let mut open = shared.open.subscribe();
    let number = {
        let mut requests = locked(&shared.requests);
        requests.push(request.clone());
        requests.len() - 1
    };
    let waiting = Waiting {
        shared: &shared,
        number,
    };
    let may_go = |open: &usize| number < *open || locked(&shared.released).contains(&request.id);
    // The sender lives as long as the service.
    let _ = open.wait_for(may_go).await;
    let status = locked(&shared.rule)(&request);
    locked(&shared.requests)[number].answered = Some(Instant::now());
    drop(waiting);
    StatusCode::from_u16(status).expect("rules say real statuses")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::wait::within;

    fn post_to(gate: &Gate, id: &str) -> tokio::task::JoinHandle<u16> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let request = reqwest::Client::new()
            .post(gate.url())
            .header("tidegate-message-id", id)
            .body("body");
        tokio::spawn(async move { request.send().await.unwrap().status().as_u16() })
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn requests_wait_until_they_are_released_and_get_what_the_rule_says() {
        let gate = Gate::closed().await;
        gate.answer(|request| if request.id == "b" { 503 } else { 204 });
        let first = post_to(&gate, "a");
        gate.started(1).await;
        let second = post_to(&gate, "b");
        gate.started(2).await;
        assert_eq!(gate.ids(), ["a", "b"]);
        assert_eq!(gate.in_flight(), 2);
        gate.release_id("b");
        assert_eq!(within("the answer", second).await.unwrap(), 503);
        assert!(!first.is_finished());
        gate.release(1);
        assert_eq!(within("the answer", first).await.unwrap(), 204);
        assert_eq!((gate.answered(), gate.in_flight()), (2, 0));
        assert!(gate.last_answer().is_some());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_request_that_is_given_up_is_known() {
        let gate = Gate::closed().await;
        let request = post_to(&gate, "a");
        gate.started(1).await;
        request.abort();
        eventually("the request is given up", async || {
            expect_that(gate.given_up() == 1, || "it waits".to_owned())
        })
        .await;
        assert_eq!(gate.in_flight(), 0);
        assert_eq!(gate.requests()[0].body, b"body");
    }
}
