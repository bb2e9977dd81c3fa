//! The description of the API: OpenAPI 3.1 (<https://spec.openapis.org/oas/v3.1.0>), made from the routes and the very
//! types that are read and written.

use std::collections::BTreeMap;

use aide::generate::in_context;
use aide::openapi::{Info, License, OpenApi, Operation, PathItem, ReferenceOr, Server};
use aide::transform::{TransformOpenApi, TransformOperation};
use axum::Json;
use schemars::JsonSchema;
use serde_json::{Value, json};

use super::api::{self, ErrorBody};
use super::forward::Forward;
use super::http;

/// The description as the file holds it.
pub fn text() -> String {
    let text = serde_json::to_string_pretty(&sorted(document()));
    text.expect("a description is plain data") + "\n"
}

/// The same value with its keys in alphabetical order, whatever order the build of the JSON library keeps.
pub fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.into_iter().collect();
            let sorted = fields
                .into_iter()
                .map(|(name, value)| (name, sorted(value)));
            Value::Object(sorted.collect())
        }
        Value::Array(values) => values.into_iter().map(sorted).collect(),
        other => other,
    }
}

/// The description.
pub fn document() -> Value {
    aide::generate::extract_schemas(true);
    let mut description = OpenApi {
        info: Info {
            title: "Tidegate fleet".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            description: Some(
                "The state of every worker on one status exchange. Receivers ignore fields that they do not know."
                    .into(),
            ),
            license: Some(License {
                name: "MIT OR Apache-2.0".into(),
                ..License::default()
            }),
            ..Info::default()
        },
        servers: vec![Server {
            url: "/".into(),
            ..Server::default()
        }],
        ..OpenApi::default()
    };
    let webhook = ReferenceOr::Item(PathItem {
        post: Some(forward()),
        ..PathItem::default()
    });
    description.webhooks.insert("forward".into(), webhook);
    let _router = http::described().finish_api_with(&mut description, whole);
    serde_json::to_value(description).expect("a description is plain data")
}

#[expect(
    clippy::default_trait_access,
    reason = "the type of the map is another package's"
)]
fn whole(api: TransformOpenApi<'_>) -> TransformOpenApi<'_> {
    let token = |description: &str| aide::openapi::SecurityScheme::Http {
        scheme: "bearer".into(),
        bearer_format: None,
        description: Some(description.into()),
        extensions: Default::default(),
    };
    api.default_response_with::<Json<ErrorBody>, _>(|response| {
        response.description("Why it failed")
    })
    .security_scheme("command", token("fleet.token"))
    .security_scheme(
        "read",
        token("fleet.read_token, if it is configured; fleet.token will do as well"),
    )
}

/// A request that reads: with a token only if one is configured for reading.
pub(super) fn read<'o>(operation: TransformOperation<'o>, summary: &str) -> TransformOperation<'o> {
    let mut operation = operation.summary(summary);
    operation.inner_mut().security = ["", "read", "command"]
        .map(|name| {
            let scheme = (!name.is_empty()).then(|| (name.to_owned(), Vec::new()));
            scheme.into_iter().collect()
        })
        .into();
    operation
}

/// What a page says that it shows.
pub(super) fn watch(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    type Error = Json<ErrorBody>;
    read(operation, "Say which workers are shown, so that their figures are fresh")
        .description(
            "Workers send figures at a fast pace only while somebody looks. A client that shows workers and has no \
             stream of all events says so at least every 30 s.",
        )
        .input::<Json<api::WatchRequest>>()
        .response_with::<204, (), _>(|r| r.description("The workers are asked for figures"))
        .response_with::<400, Error, _>(|r| r.description("The request is wrong"))
        .response_with::<413, Error, _>(|r| r.description("The body is too large"))
}

/// A command to a worker.
pub(super) fn command<'o>(
    operation: TransformOperation<'o>,
    summary: &str,
) -> TransformOperation<'o> {
    type Answer = Json<api::CommandAnswer>;
    type Error = Json<ErrorBody>;
    operation
        .summary(summary)
        .security_requirement("command")
        .input::<Json<api::CommandRequest>>()
        .with(|mut operation| {
            if let Some(ReferenceOr::Item(body)) = &mut operation.inner_mut().request_body {
                body.required = false;
            }
            operation
        })
        .response_with::<200, Answer, _>(|r| r.description("The worker obeys"))
        .response_with::<400, Error, _>(|r| r.description("The request is wrong"))
        .response_with::<401, Error, _>(|r| r.description("There is no token"))
        .response_with::<403, Error, _>(|r| {
            r.description("The token is wrong, or commands are off: no token is configured")
        })
        .response_with::<404, Error, _>(|r| {
            r.description("There is no such worker, or it has ended")
        })
        .response_with::<409, Answer, _>(|r| r.description("The worker refuses"))
        .response_with::<413, Error, _>(|r| r.description("The body is too large"))
        .response_with::<503, Error, _>(|r| {
            r.description("The fleet program has no connection to the broker")
        })
        .response_with::<504, Error, _>(|r| {
            r.description("The worker has not answered; it may still obey")
        })
}

/// The stream of events.
pub(super) fn events(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let mut operation = read(operation, "What changes, as server-sent events").description(
        "First `snapshot`, with everything; then `worker` (a whole worker that has changed), `gone` (a worker that is \
         no longer known), `drain` (a drain that was reported) and `summary`, at least every 15 s. A client that does \
         not keep up gets another snapshot. One that comes back gets a snapshot, whatever its `Last-Event-ID`. The \
         data of each event is JSON, by the schema under `x-events`.",
    );
    let kinds = json!({
        "snapshot": schema::<api::Snapshot>(),
        "summary": schema::<api::Summary>(),
        "worker": schema::<api::Worker>(),
        "gone": schema::<api::Gone>(),
        "drain": schema::<api::WorkerDrain>(),
    });
    let responses = json!({"200": {
        "description": "Events without an end",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "x-events": kinds}},
    }});
    let responses = serde_json::from_value(responses).expect("these are responses");
    operation.inner_mut().responses = Some(responses);
    operation
}

fn forward() -> Operation {
    let operation = json!({
        "summary": "What fleet.forward sends to the platform",
        "description": "One request in a window for the whole fleet: workers that changed, as they are now. The first \
                        request of a program tells of every worker. Changes of more than 1 MB come in several requests, \
                        one after another. Bodies are compressed (`content-encoding: gzip`), unless the platform \
                        answers 415. Any 2xx takes a request. After 413 or another 4xx that is about the content the \
                        request is split; a worker that is refused alone is left out for 10 minutes. After anything \
                        else the same changes, as they are then, are sent again with backoff.",
        "requestBody": {
            "required": true, "content": {"application/json": {"schema": schema::<Forward>()}},
        },
        "responses": {"2XX": {"description": "Taken"}},
    });
    serde_json::from_value(operation).expect("this is an operation")
}

fn schema<T: JsonSchema>() -> Value {
    in_context(|context| context.schema.subschema_for::<T>().to_value())
}
