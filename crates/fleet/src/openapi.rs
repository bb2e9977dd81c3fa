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
        response.description("The request failed")
    })
    .security_scheme(
        "command",
        token("The token `fleet.token`. Commands need it."),
    )
    .security_scheme(
        "read",
        token(
            "The token `fleet.read_token`, if it is configured. `fleet.token` is accepted as well.",
        ),
    )
}

/// A request that reads. It needs a token only if `fleet.read_token` is configured.
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

/// The request that names the workers that a client shows.
pub(super) fn watch(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    type Error = Json<ErrorBody>;
    read(operation, "Name the workers that the client shows, to keep their figures fresh")
        .description(
            "Workers send figures about once a second only while somebody looks. A client that shows workers without a \
             stream of all events must send this request at least every 30 s.",
        )
        .input::<Json<api::WatchRequest>>()
        .response_with::<204, (), _>(|r| r.description("The program asks the workers for figures"))
        .response_with::<400, Error, _>(|r| r.description("The request is invalid"))
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
        .response_with::<400, Error, _>(|r| r.description("The request is invalid"))
        .response_with::<401, Error, _>(|r| r.description("The token is missing"))
        .response_with::<403, Error, _>(|r| {
            r.description("The token is wrong, or no token is configured and commands are off")
        })
        .response_with::<404, Error, _>(|r| r.description("The worker does not exist or has ended"))
        .response_with::<409, Answer, _>(|r| r.description("The worker refuses"))
        .response_with::<413, Error, _>(|r| r.description("The body is too large"))
        .response_with::<503, Error, _>(|r| {
            r.description("The fleet program has no connection to the broker")
        })
        .response_with::<504, Error, _>(|r| {
            r.description("The worker did not answer in time. It may still obey")
        })
}

/// The stream of events.
pub(super) fn events(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let mut operation = read(operation, "All changes, as server-sent events").description(
        "The first event is `snapshot`, with everything. Then come `worker` (a worker that changed, in full), `gone` (a \
         worker that is no longer listed) and `drain` (a drain report). `summary` is sent at least every 15 s. A \
         client that falls behind gets a new snapshot. So does a client that reconnects: `Last-Event-ID` is ignored. \
         The data of each event is JSON. `x-events` has the schemas.",
    );
    let kinds = json!({
        "snapshot": schema::<api::Snapshot>(),
        "summary": schema::<api::Summary>(),
        "worker": schema::<api::Worker>(),
        "gone": schema::<api::Gone>(),
        "drain": schema::<api::WorkerDrain>(),
    });
    let responses = json!({"200": {
        "description": "A stream of events that does not end",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "x-events": kinds}},
    }});
    let responses = serde_json::from_value(responses).expect("these are responses");
    operation.inner_mut().responses = Some(responses);
    operation
}

fn forward() -> Operation {
    let operation = json!({
        "summary": "The request that fleet.forward sends to the platform",
        "description": "One request per window for the whole fleet, with the current state of each worker that \
                        changed. A program's first request has every worker. Changes of more than 1 MB are sent in \
                        several requests, one after another. Bodies are compressed (`content-encoding: gzip`) unless \
                        the platform answers 415. Any 2xx accepts the request. After 413, or another 4xx that concerns \
                        the content, the program splits the request. A worker that is refused alone is left out for \
                        10 minutes. After any other answer the program sends the changes again with backoff, in their \
                        state at that time.",
        "requestBody": {
            "required": true, "content": {"application/json": {"schema": schema::<Forward>()}},
        },
        "responses": {"2XX": {"description": "Accepted"}},
    });
    serde_json::from_value(operation).expect("this is an operation")
}

fn schema<T: JsonSchema>() -> Value {
    in_context(|context| context.schema.subschema_for::<T>().to_value())
}
