//! What the path and the query string of a request ask for. The types say what is allowed, to the parser and to the
//! description of the API.

use std::borrow::Cow;

use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::Operation;
use axum::extract::{self, FromRequestParts};
use axum::http::request::Parts;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use super::error::ApiError;
use crate::api::WorkerState;
use crate::clock::Moment;
use crate::state::WorkersQuery;

/// The parameters of the list of workers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkersParameters {
    /// Only workers in one of these states, separated by commas
    #[serde(default)]
    state: States,
    /// Only workers whose name or id contains this text, ignoring case
    #[serde(default)]
    name: String,
    /// The maximum number of items
    #[serde(default)]
    limit: Limit<1_000, 10_000>,
    /// Only workers after this id. Pass `next` of the previous page
    #[serde(default)]
    #[schemars(with = "String")]
    after: Option<String>,
}

impl From<WorkersParameters> for WorkersQuery {
    fn from(asked: WorkersParameters) -> Self {
        Self {
            states: asked.state.0,
            name: asked.name,
            limit: asked.limit.0,
            after: asked.after,
        }
    }
}

/// The parameters of the list of drains.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainsParameters {
    /// The maximum number of items
    #[serde(default)]
    pub limit: Limit<100, 1_000>,
    /// Only drains before this. Pass `next` of the previous page, or an RFC 3339 time
    #[serde(default)]
    #[schemars(with = "String")]
    before: Option<Before>,
}

impl DrainsParameters {
    /// The moment and worker before which drains are listed.
    pub(super) fn before(&self) -> Option<(Moment, &str)> {
        self.before
            .as_ref()
            .map(|before| (before.at, &*before.worker))
    }
}

/// The parameters of the stream of events.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsParameters {
    /// Whose figures the client needs: all, or those that it names with `POST /api/v1/watch`
    #[serde(default)]
    pub figures: LookedAt,
}

/// The workers whose figures a client of the event stream needs. Workers send figures about once a second while
/// somebody looks at them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum LookedAt {
    /// Every worker.
    #[default]
    All,
    /// The workers that it names with `POST /api/v1/watch`.
    Watched,
}

/// A worker's id, as the last part of a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct WorkerPath {
    /// The worker's id
    pub id: String,
}

/// How many to list: from 1 to `MOST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit<const DEFAULT: usize, const MOST: usize>(pub usize);

impl<const DEFAULT: usize, const MOST: usize> Default for Limit<DEFAULT, MOST> {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl<'de, const DEFAULT: usize, const MOST: usize> Deserialize<'de> for Limit<DEFAULT, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text
            .parse()
            .ok()
            .filter(|number| (1..=MOST).contains(number));
        let wrong = || D::Error::custom(format!("{text:?} is not a whole number from 1 to {MOST}"));
        number.map(Self).ok_or_else(wrong)
    }
}

impl<const DEFAULT: usize, const MOST: usize> JsonSchema for Limit<DEFAULT, MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Limit{MOST}").into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": MOST, "default": DEFAULT})
    }
}

/// States with commas between.
#[derive(Debug, Default)]
struct States(Vec<WorkerState>);

impl<'de> Deserialize<'de> for States {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let words = text.split(',').filter(|word| !word.is_empty());
        let states = words.map(|word| {
            WorkerState::from_word(word).ok_or_else(|| {
                let known = WorkerState::ALL.map(WorkerState::as_str).join(", ");
                D::Error::custom(format!("{word:?} is not a state; the states are {known}"))
            })
        });
        states.collect::<Result<_, _>>().map(Self)
    }
}

impl JsonSchema for States {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "States".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        let states = WorkerState::ALL.map(WorkerState::as_str).join("|");
        json_schema!({"type": "string", "pattern": format!("^({states})?(,({states}))*$")})
    }
}

/// Where a page of drains ends.
#[derive(Debug, PartialEq, Eq)]
struct Before {
    at: Moment,
    worker: String,
}

impl<'de> Deserialize<'de> for Before {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (at, worker) = text.split_once('/').unwrap_or((&text, ""));
        let rule = "is neither the next of a page nor an RFC 3339 time";
        let at = Moment::parse(at).ok_or_else(|| D::Error::custom(format!("{text:?} {rule}")))?;
        Ok(Self {
            at,
            worker: worker.to_owned(),
        })
    }
}

/// The query string; what is wrong with it is told as JSON.
#[derive(Debug)]
pub(super) struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read = extract::Query::from_request_parts(parts, state).await;
        match read {
            Ok(extract::Query(query)) => Ok(Self(query)),
            Err(error) => Err(ApiError::bad_request(error.body_text())),
        }
    }
}

impl<T: JsonSchema> OperationInput for Query<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        extract::Query::<T>::operation_input(context, operation);
    }
}

/// The variable parts of the path; what is wrong with them is told as JSON.
#[derive(Debug)]
pub(super) struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read = extract::Path::from_request_parts(parts, state).await;
        match read {
            Ok(extract::Path(path)) => Ok(Self(path)),
            Err(error) => Err(ApiError::bad_request(error.body_text())),
        }
    }
}

impl<T: JsonSchema> OperationInput for Path<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        extract::Path::<T>::operation_input(context, operation);
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Uri;

    use super::*;

    fn read<T: DeserializeOwned>(query: &str) -> Result<T, String> {
        let uri: Uri = format!("/?{query}").parse().unwrap();
        let read = extract::Query::try_from_uri(&uri);
        read.map(|extract::Query(query)| query)
            .map_err(|error| error.body_text())
    }

    fn workers(query: &str) -> Result<WorkersQuery, String> {
        read::<WorkersParameters>(query).map(WorkersQuery::from)
    }

    #[test]
    fn a_query_says_what_is_wanted() {
        let asked = workers("state=lost,silent&name=a%20b&limit=7&after=w-1").unwrap();
        assert_eq!(asked.states, [WorkerState::Lost, WorkerState::Silent]);
        assert_eq!((&*asked.name, asked.limit), ("a b", 7));
        assert_eq!(asked.after.as_deref(), Some("w-1"));
        assert_eq!(workers("").unwrap().limit, 1_000);
        let at = "2026-11-23T10:00:00.000Z";
        let asked = read::<DrainsParameters>(&format!("before={at}%2Fw-1")).unwrap();
        assert_eq!(asked.limit.0, 100);
        assert_eq!(asked.before(), Some((Moment::parse(at).unwrap(), "w-1")));
        for at in ["9999-12-31T23:59:59.999Z", "0000-01-01T00:00:00Z"] {
            let asked = read::<DrainsParameters>(&format!("before={at}"));
            assert!(asked.is_ok(), "{asked:?}");
        }
    }

    #[test]
    fn a_wrong_query_is_refused_by_parameter_value_and_rule() {
        for (query, words) in [
            (
                "state=flying",
                "state: \"flying\" is not a state; the states are starting",
            ),
            (
                "limit=0",
                "limit: \"0\" is not a whole number from 1 to 10000",
            ),
            ("limit=10001", "\"10001\" is not"),
            ("limit=x", "\"x\" is not"),
            ("nme=x", "unknown field `nme`, expected one of `state`"),
        ] {
            let error = workers(query).unwrap_err();
            assert!(error.contains(words), "{query}: {error}");
        }
        for (query, words) in [
            ("before=yesterday", "before: \"yesterday\" is neither"),
            ("limit=1001", "from 1 to 1000"),
            ("after=1", "unknown field `after`"),
        ] {
            let error = read::<DrainsParameters>(query).unwrap_err();
            assert!(error.contains(words), "{query}: {error}");
        }
    }
}
