//! What a query string asks for. Pure.

use super::error::ApiError;
use crate::api::WorkerState;
use crate::clock::Moment;
use crate::state::WorkersQuery;

/// Workers of a page, where the query does not say.
const WORKERS: usize = 1_000;
/// The most workers of a page.
const WORKERS_MAX: usize = 10_000;
/// Drains of a page, where the query does not say.
const DRAINS: usize = 100;
/// The most drains of a page.
const DRAINS_MAX: usize = 1_000;

/// Which drains to list: how many, and before which moment and worker.
pub(super) type DrainsQuery = (usize, Option<(Moment, String)>);

/// `state=&name=&limit=&after=`; states with commas between.
pub(super) fn workers(query: Option<&str>) -> Result<WorkersQuery, ApiError> {
    let mut asked = WorkersQuery {
        limit: WORKERS,
        ..WorkersQuery::default()
    };
    for (key, value) in pairs(query) {
        match &*key {
            "state" => {
                for word in value.split(',').filter(|word| !word.is_empty()) {
                    asked.states.push(state(word)?);
                }
            }
            "name" => asked.name = value,
            "limit" => asked.limit = number(&value, WORKERS_MAX)?,
            "after" => asked.after = Some(value),
            _ => return Err(unknown(&key, "state, name, limit, after")),
        }
    }
    Ok(asked)
}

/// `limit=&before=`; `before` is what `next` was, or a time.
pub(super) fn drains(query: Option<&str>) -> Result<DrainsQuery, ApiError> {
    let mut asked = (DRAINS, None);
    for (key, value) in pairs(query) {
        match &*key {
            "limit" => asked.0 = number(&value, DRAINS_MAX)?,
            "before" => {
                let (at, id) = value.split_once('/').unwrap_or((&value, ""));
                let at = Moment::parse(at).ok_or_else(|| {
                    let rule = "must be what next was, or an RFC 3339 time";
                    ApiError::bad_request(format!("before = {value:?}: {rule}"))
                })?;
                asked.1 = Some((at, id.to_owned()));
            }
            _ => return Err(unknown(&key, "limit, before")),
        }
    }
    Ok(asked)
}

fn pairs(query: Option<&str>) -> impl Iterator<Item = (String, String)> {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.into_owned()
}

fn state(word: &str) -> Result<WorkerState, ApiError> {
    WorkerState::from_word(word).ok_or_else(|| {
        let words = WorkerState::ALL.map(WorkerState::as_str).join(", ");
        ApiError::bad_request(format!("state = {word:?}: must be of {words}"))
    })
}

fn number(value: &str, most: usize) -> Result<usize, ApiError> {
    let number = value
        .parse()
        .ok()
        .filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| {
        let rule = format!("must be a whole number from 1 to {most}");
        ApiError::bad_request(format!("limit = {value:?}: {rule}"))
    })
}

fn unknown(key: &str, known: &str) -> ApiError {
    ApiError::bad_request(format!("{key:?}: unknown parameter; known here: {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_is_wanted() {
        let asked = workers(Some("state=lost,silent&name=a%20b&limit=7&after=w-1")).unwrap();
        assert_eq!(asked.states, [WorkerState::Lost, WorkerState::Silent]);
        assert_eq!((&*asked.name, asked.limit), ("a b", 7));
        assert_eq!(asked.after.as_deref(), Some("w-1"));
        assert_eq!(workers(None).unwrap().limit, WORKERS);
        let at = "2026-11-23T10:00:00.000Z";
        let (limit, before) = drains(Some(&format!("before={at}%2Fw-1"))).unwrap();
        assert_eq!(limit, DRAINS);
        assert_eq!(before, Some((Moment::parse(at).unwrap(), "w-1".into())));
    }

    #[test]
    fn a_wrong_query_is_refused_by_parameter_value_and_rule() {
        for query in ["state=flying", "limit=0", "limit=10001", "limit=x", "nme=x"] {
            assert!(workers(Some(query)).is_err(), "{query}");
        }
        for query in ["before=yesterday", "limit=1001", "after=1"] {
            assert!(drains(Some(query)).is_err(), "{query}");
        }
    }
}
