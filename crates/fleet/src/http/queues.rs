//! The queues, and the graphs of the last hour.

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Api;
use super::error::ApiError;
use super::query::Query;
use crate::api::{Graph, Queues};
use crate::openapi;

/// The parameters of a graph.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GraphParameters {
    /// Only this queue. Without it, the whole fleet
    #[serde(default)]
    #[schemars(with = "String")]
    queue: Option<String>,
}

pub(super) fn reads() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route(
            "/api/v1/queues",
            get_with(queues, |o| {
                openapi::read(o, "Queues that the fleet consumes").description(
                    "For 30 s after each request, the program asks the broker how many messages wait, and workers send \
                     figures about once a second.",
                )
            }),
        )
        .api_route(
            "/api/v1/graph",
            get_with(graph, |o| {
                openapi::read(o, "The last hour, as far as this program has listened")
            }),
        )
}

async fn queues(State(api): State<Api>) -> Json<Queues> {
    Json(api.queues.queues())
}

async fn graph(
    State(api): State<Api>,
    Query(asked): Query<GraphParameters>,
) -> Result<Json<Graph>, ApiError> {
    let now = api.shared.now();
    let graph = api.shared.fleet().graph(asked.queue.as_deref(), now);
    let unknown = || {
        let queue: String = asked
            .queue
            .iter()
            .flat_map(|queue| queue.chars())
            .take(200)
            .collect();
        ApiError::not_found(format!(
            "nothing is known of the last hour of queue {queue:?}"
        ))
    };
    graph.map(Json).ok_or_else(unknown)
}
