//! A stand-in for the platform: it answers what `pycti` and the worker really ask, keeps count of works, and fails
//! as it is told to.

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

/// One request that arrived.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    /// The root field: `identityAdd`, `workEdit`.
    pub(crate) field: String,
    /// For `workEdit` and the like, the field inside.
    pub(crate) inner: String,
    /// The variables.
    pub(crate) variables: Value,
    /// The headers that the worker sets.
    pub(crate) headers: BTreeMap<String, String>,
    /// Whether files came with it.
    pub(crate) multipart: bool,
}

impl Call {
    /// Whether it imports an object.
    pub(crate) fn is_import(&self) -> bool {
        self.field.ends_with("Add") && self.variables["input"]["stix_id"].is_string()
    }
}

/// What a rule answers instead of the platform.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
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

/// What the platform knows of a work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// Expectations that were declared.
    pub(crate) expected: u64,
    /// Reports in all.
    pub(crate) processed: u64,
    /// The errors among them.
    pub(crate) errors: Vec<String>,
}

struct State {
    calls: Vec<Call>,
    rule: Option<Rule>,
    latency: Duration,
    connectors: Value,
    works: BTreeMap<String, Work>,
    version: String,
}

/// The stand-in; it ends with its runtime.
#[derive(Clone)]
pub(crate) struct Platform {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Platform {
    /// Starts it on a free port.
    pub(crate) async fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            calls: Vec::new(),
            rule: None,
            latency: Duration::ZERO,
            connectors: json!([]),
            works: BTreeMap::new(),
            version: "7.261026.0".into(),
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/graphql", post(graphql))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, state }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on `rule` decides which requests fail, and how.
    pub(crate) fn fail(&self, rule: impl FnMut(&Call) -> Option<Failure> + Send + 'static) {
        self.state.lock().unwrap().rule = Some(Box::new(rule));
    }

    /// Nothing fails any more.
    pub(crate) fn recover(&self) {
        self.state.lock().unwrap().rule = None;
    }

    /// Every mutation that creates something takes this long.
    pub(crate) fn set_latency(&self, latency: Duration) {
        self.state.lock().unwrap().latency = latency;
    }

    /// What `connectorsForWorker` answers.
    pub(crate) fn set_connectors(&self, connectors: Value) {
        self.state.lock().unwrap().connectors = connectors;
    }

    /// What `about { version }` answers.
    pub(crate) fn set_version(&self, version: &str) {
        self.state.lock().unwrap().version = version.into();
    }

    /// Declares `expected` expectations of a work, as a connector's helper does.
    pub(crate) fn declare(&self, work: &str, expected: u64) {
        let mut state = self.state.lock().unwrap();
        state.works.entry(work.into()).or_default().expected += expected;
    }

    /// What it knows of a work.
    pub(crate) fn work(&self, work: &str) -> Work {
        let state = self.state.lock().unwrap();
        state.works.get(work).cloned().unwrap_or_default()
    }

    /// Everything it knows of works.
    pub(crate) fn works(&self) -> BTreeMap<String, Work> {
        self.state.lock().unwrap().works.clone()
    }

    /// All requests so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.lock().unwrap().calls.clone()
    }

    /// The mutations so far that created, changed or deleted knowledge, without those that failed.
    pub(crate) fn mutations(&self) -> Vec<Call> {
        let calls = self.calls().into_iter();
        calls
            .filter(|call| call.field.ends_with("Add") || call.field.ends_with("Edit"))
            .filter(|call| call.field != "workEdit")
            .collect()
    }

    /// Forgets the requests.
    pub(crate) fn forget(&self) {
        self.state.lock().unwrap().calls.clear();
    }

    /// How often each object was created, by its `stix_id`.
    pub(crate) fn imports(&self) -> BTreeMap<String, usize> {
        let mut imports = BTreeMap::new();
        for call in self.mutations() {
            if let Some(id) = call.variables["input"]["stix_id"].as_str() {
                *imports.entry(id.to_owned()).or_default() += 1;
            }
        }
        imports
    }
}

async fn graphql(
    Shared(state): Shared<Arc<Mutex<State>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = read(&headers, &body);
    let (failure, latency) = {
        let mut state = state.lock().unwrap();
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
    let mut state = state.lock().unwrap();
    let answer = answer(&mut state, &call);
    state.calls.push(call);
    json_response(&json!({ "data": answer }))
}

async fn fail(failure: Failure) -> Response {
    match failure {
        Failure::Status(status, body, headers) => {
            let mut response = body.into_response();
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
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

/// Reads a request, a multipart one included.
fn read(headers: &HeaderMap, body: &[u8]) -> Call {
    let kind = headers["content-type"].to_str().unwrap();
    let multipart = kind.starts_with("multipart/form-data");
    let operation: Value = if multipart {
        let text = String::from_utf8_lossy(body);
        let start = text
            .find("name=\"operations\"")
            .expect("operations come first");
        let json = &text[start + text[start..].find("\r\n\r\n").unwrap() + 4..];
        serde_json::from_str(&json[..json.find("\r\n").unwrap()]).unwrap()
    } else {
        serde_json::from_slice(body).unwrap()
    };
    let query = operation["query"].as_str().unwrap();
    let (field, rest) = field(&query[query.find('{').unwrap() + 1..]);
    let inner = rest
        .find('{')
        .map(|start| self::field(&rest[start + 1..]).0);
    let known = |name: &str| {
        name.starts_with("opencti-")
            || [
                "authorization",
                "user-agent",
                "synchronized-upsert",
                "previous-standard",
            ]
            .contains(&name)
            || name.starts_with("x-")
    };
    Call {
        field: field.to_owned(),
        inner: inner.unwrap_or_default().to_owned(),
        variables: operation["variables"].clone(),
        headers: headers
            .iter()
            .filter(|(name, _)| known(name.as_str()))
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
        multipart,
    }
}

/// The first field of a selection, and what follows it.
fn field(selection: &str) -> (&str, &str) {
    let selection = selection.trim_start();
    let end = selection
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(selection.len());
    selection.split_at(end)
}

fn answer(state: &mut State, call: &Call) -> Value {
    let id = call.variables["input"]["stix_id"]
        .as_str()
        .or(call.variables["id"].as_str());
    let object = json!({"id": id.unwrap_or("id"), "standard_id": id.unwrap_or("id"),
        "entity_type": "Thing", "parent_types": [], "value": "v", "key": "k"});
    let connection = json!({"edges": [], "pageInfo": {"startCursor": null, "endCursor": null,
        "hasNextPage": false, "hasPreviousPage": false, "globalCount": 0}});
    let data = match call.field.as_str() {
        "connectorsForWorker" => state.connectors.clone(),
        "about" => json!({"version": state.version}),
        "connectorJWT" => json!("jwt"),
        "vocabularyCategories" => json!([]),
        "workEdit" => {
            let work = call.variables["id"].as_str().unwrap().to_owned();
            let work = state.works.entry(work).or_default();
            if call.inner == "addExpectations" {
                work.expected += call.variables["expectations"].as_u64().unwrap();
            } else {
                work.processed += 1;
                let error = call.variables["error"]["error"].as_str();
                work.errors.extend(error.map(str::to_owned));
            }
            json!({ call.inner.as_str(): "ok" })
        }
        name if name.ends_with('s') && call.inner == "edges" => connection,
        name if name.ends_with("Edit") || name.ends_with("Delete") => {
            json!({ call.inner.as_str(): object })
        }
        "ruleApplyAsync" => json!(true),
        _ => object,
    };
    json!({ call.field.as_str(): data })
}
