//! A stand-in for the platform: it answers what `pycti` and the worker really ask, keeps count of works, and fails
//! as it is told to.

mod answer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// One request that arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The root field: `identityAdd`, `workEdit`.
    pub field: String,
    /// For `workEdit` and the like, the field inside.
    pub inner: String,
    /// The variables.
    pub variables: Value,
    /// The headers that the worker sets.
    pub headers: BTreeMap<String, String>,
    /// Whether files came with it.
    pub multipart: bool,
}

impl Call {
    /// Whether it imports an object.
    pub fn is_import(&self) -> bool {
        self.field.ends_with("Add") && self.variables["input"]["stix_id"].is_string()
    }
}

/// What a rule answers instead of the platform.
#[derive(Debug, Clone)]
pub enum Failure {
    /// A status, a body and headers.
    Status(u16, String, Vec<(&'static str, String)>),
    /// An HTTP 200 with a GraphQL error that has a `name`.
    Name(&'static str),
    /// The same with `extensions.code`, as older platforms say it.
    Code(&'static str),
    /// The connection stays open without an answer for so long.
    Hang(Duration),
}

type Rule = Box<dyn FnMut(&Call) -> Option<Failure> + Send>;
/// The status of a callback, by its headers and its body.
type CallbackRule = Box<dyn FnMut(&HeaderMap, &Value) -> u16 + Send>;

/// What the platform knows of a work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Expectations that were declared.
    pub expected: u64,
    /// Reports in all.
    pub processed: u64,
    /// The errors among them.
    pub errors: Vec<String>,
}

struct State {
    calls: Vec<Call>,
    /// How many there are.
    called: watch::Sender<usize>,
    rule: Option<Rule>,
    latency: Duration,
    connectors: Value,
    works: BTreeMap<String, Work>,
    version: String,
    callbacks: Vec<Value>,
    callback_rule: Option<CallbackRule>,
}

/// The stand-in; it ends with its runtime.
#[derive(Clone)]
pub struct Platform {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Platform {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            calls: Vec::new(),
            called: watch::Sender::default(),
            rule: None,
            latency: Duration::ZERO,
            connectors: json!([]),
            works: BTreeMap::new(),
            version: "7.261026.0".into(),
            callbacks: Vec::new(),
            callback_rule: None,
        }));
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the stand-in knows what is asked of it");
        let address = listener
            .local_addr()
            .expect("the stand-in knows what is asked of it");
        let router = Router::new()
            .route("/graphql", post(graphql))
            .route("/callback", post(callback))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Arc::clone(&state));
        tokio::spawn(async move {
            axum::serve(listener, router)
                .await
                .expect("the stand-in knows what is asked of it");
        });
        Self { address, state }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on `rule` says which status a callback gets.
    pub fn answer_callbacks(&self, rule: impl FnMut(&HeaderMap, &Value) -> u16 + Send + 'static) {
        self.state
            .lock()
            .expect("the stand-in knows what is asked of it")
            .callback_rule = Some(Box::new(rule));
    }

    /// The URL of a connector's callback, which takes everything unless it is told otherwise.
    pub fn callback_url(&self) -> String {
        format!("http://{}/callback", self.address)
    }

    /// The bodies that the callback has accepted so far.
    pub fn callbacks(&self) -> Vec<Value> {
        self.state
            .lock()
            .expect("the stand-in knows what is asked of it")
            .callbacks
            .clone()
    }

    /// From now on `rule` decides which requests fail, and how.
    pub fn fail(&self, rule: impl FnMut(&Call) -> Option<Failure> + Send + 'static) {
        self.state
            .lock()
            .expect("the stand-in knows what is asked of it")
            .rule = Some(Box::new(rule));
    }

    /// Nothing fails any more.
    pub fn recover(&self) {
        self.state
            .lock()
            .expect("the stand-in knows what is asked of it")
            .rule = None;
    }

    /// Every mutation that creates something takes this long.
    pub fn set_latency(&self, latency: Duration) {
        self.state
            .lock()
            .expect("the stand-in knows what is asked of it")
            .latency = latency;
    }

    /// What `connectorsForWorker` answers.
    pub fn set_connectors(&self, connectors: Value) {
        self.state
            .lock()
            .expect("the stand-in knows what is asked of it")
            .connectors = connectors;
    }

    /// What `about { version }` answers.
    pub fn set_version(&self, version: &str) {
        self.state
            .lock()
            .expect("the stand-in knows what is asked of it")
            .version = version.into();
    }

    /// Declares `expected` expectations of a work, as a connector's helper does.
    pub fn declare(&self, work: &str, expected: u64) {
        let mut state = self
            .state
            .lock()
            .expect("the stand-in knows what is asked of it");
        state.works.entry(work.into()).or_default().expected += expected;
    }

    /// What it knows of a work.
    pub fn work(&self, work: &str) -> Work {
        let state = self
            .state
            .lock()
            .expect("the stand-in knows what is asked of it");
        state.works.get(work).cloned().unwrap_or_default()
    }

    /// Everything it knows of works.
    pub fn works(&self) -> BTreeMap<String, Work> {
        self.state
            .lock()
            .expect("the stand-in knows what is asked of it")
            .works
            .clone()
    }

    /// Waits until the calls so far are enough.
    pub async fn until_called(&self, enough: impl Fn(&[Call]) -> bool) {
        let state = self.state.lock();
        let mut called = state
            .expect("the stand-in knows what is asked of it")
            .called
            .subscribe();
        // Not `wait_for`: its condition must not wait for the lock under which the number changes.
        while !enough(&self.calls()) && called.changed().await.is_ok() {}
    }

    /// All requests so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state
            .lock()
            .expect("the stand-in knows what is asked of it")
            .calls
            .clone()
    }

    /// The mutations so far that created, changed or deleted knowledge, without those that failed.
    pub fn mutations(&self) -> Vec<Call> {
        let calls = self.calls().into_iter();
        calls
            .filter(|call| call.field.ends_with("Add") || call.field.ends_with("Edit"))
            .filter(|call| call.field != "workEdit")
            .collect()
    }

    /// Forgets the requests.
    pub fn forget(&self) {
        self.state
            .lock()
            .expect("the stand-in knows what is asked of it")
            .calls
            .clear();
    }

    /// How often each object was created, by its `stix_id`.
    pub fn imports(&self) -> BTreeMap<String, usize> {
        let mut imports = BTreeMap::new();
        for call in self.mutations() {
            if let Some(id) = call.variables["input"]["stix_id"].as_str() {
                *imports.entry(id.to_owned()).or_default() += 1;
            }
        }
        imports
    }
}

async fn callback(
    Shared(state): Shared<Arc<Mutex<State>>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let body = serde_json::from_slice(&body).expect("the stand-in knows what is asked of it");
    let mut state = state
        .lock()
        .expect("the stand-in knows what is asked of it");
    let rule = state.callback_rule.as_mut();
    let status = rule.map_or(202, |rule| rule(&headers, &body));
    if [200, 202].contains(&status) {
        state.callbacks.push(body);
    }
    StatusCode::from_u16(status).expect("the stand-in knows what is asked of it")
}

async fn graphql(
    Shared(state): Shared<Arc<Mutex<State>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = answer::read(&headers, &body);
    let (failure, latency) = {
        let mut state = state
            .lock()
            .expect("the stand-in knows what is asked of it");
        let failure = state.rule.as_mut().and_then(|rule| rule(&call));
        let creates = call.field.ends_with("Add") && !call.field.contains("expectation");
        let latency = if creates {
            state.latency
        } else {
            Duration::ZERO
        };
        (failure, latency)
    };
    if let Some(failure) = failure {
        return fail(failure).await;
    }
    tokio::time::sleep(latency).await;
    let mut state = state
        .lock()
        .expect("the stand-in knows what is asked of it");
    let answer = answer::answer(&mut state, &call);
    state.calls.push(call);
    state.called.send_replace(state.calls.len());
    json_response(&json!({ "data": answer }))
}

async fn fail(failure: Failure) -> Response {
    match failure {
        Failure::Status(status, body, headers) => {
            let mut response = body.into_response();
            *response.status_mut() =
                StatusCode::from_u16(status).expect("the stand-in knows what is asked of it");
            for (name, value) in headers {
                response.headers_mut().insert(
                    name,
                    value
                        .parse()
                        .expect("the stand-in knows what is asked of it"),
                );
            }
            response
        }
        Failure::Name(name) => json_response(
            &json!({"data": null, "errors": [{"message": format!("about {name}"), "name": name}]}),
        ),
        Failure::Code(code) => json_response(
            &json!({"data": null, "errors": [{"message": format!("about {code}"), "extensions": {"code": code}}]}),
        ),
        Failure::Hang(duration) => {
            tokio::time::sleep(duration).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
    }
}

fn json_response(value: &Value) -> Response {
    ([("content-type", "application/json")], value.to_string()).into_response()
}
