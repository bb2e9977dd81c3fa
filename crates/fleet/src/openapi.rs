//! The description of the API: OpenAPI 3.1 (<https://spec.openapis.org/oas/v3.1.0>), with the schemas of the very types
//! that are said.

use std::collections::BTreeMap;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Value, json};

use super::api;
use super::forward::Forward;
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
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let paths = paths(&mut generator);
    let webhook = json!({"post": {
        "summary": "What fleet.forward sends to the platform",
        "description": "One request in a window for the whole fleet: workers that changed, as they are now. The \
                        first request of a program tells of every worker. Any 2xx takes it; else the same changes, \
                        as they are then, are sent again with backoff.",
        "requestBody": {"required": true, "content": content(&schema::<Forward>(&mut generator))},
        "responses": {"2XX": {"description": "Taken"}},
    }});
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidegate fleet",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The state of every worker on one status exchange. Receivers ignore fields that they do \
                            not know.",
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "webhooks": {"forward": webhook},
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {
                "command": {"type": "http", "scheme": "bearer", "description": "fleet.token"},
                "read": {"type": "http", "scheme": "bearer",
                         "description": "fleet.read_token, where it is configured; fleet.token will do as well"},
            },
        },
    })
}

fn paths(generator: &mut SchemaGenerator) -> Value {
    let id = json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string"},
                    "description": "The worker's id"});
    let limit = |most: u32| {
        json!({"name": "limit", "in": "query",
               "schema": {"type": "integer", "minimum": 1, "maximum": most}, "description": "At most this many"})
    };
    let text = |name: &str, description: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}, "description": description});
    let workers = [
        text(
            "state",
            "Only workers in one of these states, with commas between",
        ),
        text(
            "name",
            "Only workers whose name or id holds this, whatever its case",
        ),
        limit(10_000),
        text("after", "Only workers after this id: what `next` was"),
    ];
    let drains = [
        limit(1_000),
        text(
            "before",
            "Only drains before: what `next` was, or an RFC 3339 time",
        ),
    ];
    let error = &schema::<api::ErrorBody>(generator);
    let read = |summary: &str, parameters: &[Value], schema: &Value| {
        json!({"get": {
            "summary": summary,
            "security": [{}, {"read": []}, {"command": []}],
            "parameters": parameters,
            "responses": {
                "200": {"description": "So it is", "content": content(schema)},
                "default": {"description": "Why not", "content": content(error)},
            },
        }})
    };
    let by_id = std::slice::from_ref(&id);
    let mut paths = json!({
        "/api/v1/summary": read("The fleet in figures", &[], &schema::<api::Summary>(generator)),
        "/api/v1/workers": read("Workers, in the order of their ids", &workers, &schema::<api::Workers>(generator)),
        "/api/v1/workers/{id}": read("A worker and what became of it", by_id, &schema::<api::WorkerDetail>(generator)),
        "/api/v1/drains": read("Drains, newest first", &drains, &schema::<api::Drains>(generator)),
        "/api/v1/events": events(generator, error),
        "/api/v1/openapi.json": {"get": {
            "summary": "This description",
            "responses": {"200": {"description": "So it is", "content": content(&json!({"type": "object"}))}},
        }},
    });
    for (command, summary) in [
        ("drain", "Drain the worker; it exits"),
        (
            "pause",
            "Let the worker consume nothing until it is resumed",
        ),
        ("resume", "Let the worker consume again"),
    ] {
        let path = format!("/api/v1/workers/{{id}}/{command}");
        paths[path] = self::command(generator, error, &id, summary);
    }
    paths
}

fn command(generator: &mut SchemaGenerator, error: &Value, id: &Value, summary: &str) -> Value {
    let answer = content(&schema::<api::CommandAnswer>(generator));
    let why = |description: &str| json!({"description": description, "content": content(error)});
    json!({"post": {
        "summary": summary,
        "security": [{"command": []}],
        "parameters": [id],
        "requestBody": {
            "required": false, "content": content(&schema::<api::CommandRequest>(generator)),
        },
        "responses": {
            "200": {"description": "The worker does it", "content": answer},
            "400": why("The body is wrong"),
            "401": why("No token"),
            "403": why("Not the right token, or commands are off: no token is configured"),
            "404": why("There is no such worker, or it has ended"),
            "409": {"description": "The worker refuses", "content": answer},
            "413": why("The body is too large"),
            "503": why("The fleet program has no connection to the broker"),
            "504": why("The worker does not answer"),
        },
    }})
}

fn events(generator: &mut SchemaGenerator, error: &Value) -> Value {
    let kinds = json!({
        "snapshot": schema::<api::Snapshot>(generator),
        "summary": schema::<api::Summary>(generator),
        "worker": schema::<api::Worker>(generator),
        "gone": schema::<api::Gone>(generator),
        "drain": schema::<api::WorkerDrain>(generator),
    });
    json!({"get": {
        "summary": "What changes, as server-sent events",
        "description": "First `snapshot`, with everything; then `worker` (a whole worker that has changed), `gone` (a \
                        worker that is no longer known), `drain` (a drain that was reported) and `summary`, at least \
                        every 15 s. A client that is too slow is dropped. One that comes back gets a snapshot again, \
                        whatever its `Last-Event-ID`. The data of each event is JSON, by the schema under \
                        `x-events`.",
        "security": [{}, {"read": []}, {"command": []}],
        "responses": {
            "200": {"description": "Events without an end",
                    "content": {"text/event-stream": {"schema": {"type": "string"}, "x-events": kinds}}},
            "default": {"description": "Why not", "content": content(error)},
        },
    }})
}

fn content(schema: &Value) -> Value {
    json!({"application/json": {"schema": schema}})
}

fn schema<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}
