//! The platform's GraphQL API, as far as the worker itself asks it.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::accounting::WorkError;
use crate::http_client;
use crate::python::{Headers, retry_after};
use crate::settings::{Settings, Token, is_token};
use crate::signs::{GraphQlError, Sign};

const CONNECTORS: &str = "query GetConnectors { connectorsForWorker { id name connector_priority_group config { connection { host vhost use_ssl port user pass } listen listen_exchange listen_callback_uri push push_exchange push_routing dead_letter_routing } } }";
const CONNECTORS_WITH_TYPE: &str = "query GetConnectors { connectorsForWorker { id name connector_type connector_priority_group config { connection { host vhost use_ssl port user pass } listen listen_exchange listen_callback_uri push push_exchange push_routing dead_letter_routing } } }";
const REPORT: &str = "mutation reportExpectation($id: ID!, $error: WorkErrorInput) { workEdit(id: $id) { reportExpectation(error: $error) } }";
const ADD: &str = "mutation addExpectations($id: ID!, $expectations: Int) { workEdit(id: $id) { addExpectations(expectations: $expectations) } }";
const JWT: &str = "mutation ConnectorJWT { connectorJWT }";
const VERSION: &str = "query healthCheck { about { version } }";

/// How long the platform may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client of the platform's API. Cheap to clone.
#[derive(Clone)]
pub struct GraphQl {
    client: reqwest::Client,
    endpoint: Url,
    headers: HeaderMap,
    token: Arc<RwLock<SecretString>>,
    source: Token,
    /// `User-Agent`, once the version of pycti is known.
    agent: Arc<RwLock<HeaderValue>>,
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file cannot be read.
    #[error("cannot read {file}: {cause}")]
    File {
        /// The file.
        file: String,
        /// Why.
        cause: std::io::Error,
    },
    /// A header, a proxy or a certificate cannot be used.
    #[error("{key}: {rule}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// The fault.
        rule: String,
    },
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Value>,
    errors: Option<Vec<GraphQlError>>,
}

impl GraphQl {
    /// A client as `settings` describe it. Reads the token file and certificates; opens no socket.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn new(settings: &Settings) -> Result<Self, ClientError> {
        let client = http_client::platform(settings)?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(settings.requests_timeout)
            .build()
            .map_err(|error| http_client::refused("OPENCTI_URL", &error))?;
        let mut endpoint = settings.url.clone();
        let path = endpoint.path().trim_end_matches('/').to_owned();
        endpoint.set_path(&format!("{path}/graphql"));
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.custom_headers.0 {
            let key = "OPENCTI_CUSTOM_HEADERS";
            let refused = |rule: String| ClientError::Setting { key, rule };
            let name = HeaderName::try_from(name).map_err(|error| refused(error.to_string()))?;
            let value = HeaderValue::try_from(value).map_err(|error| refused(error.to_string()))?;
            headers.insert(name, value);
        }
        let token = match &settings.token {
            Token::Inline(token) => token.clone(),
            Token::File(path) => read_token(path).map_err(|cause| ClientError::File {
                file: path.display().to_string(),
                cause,
            })?,
        };
        Ok(Self {
            client,
            endpoint,
            headers,
            token: Arc::new(RwLock::new(token)),
            source: settings.token.clone(),
            agent: Arc::new(RwLock::new(HeaderValue::from_static(crate::PROVIDER))),
        })
    }

    /// From now on requests name pycti before the worker, as pycti's own do.
    pub fn name_pycti(&self, version: &str) {
        let agent = format!("pycti/{version} {}", crate::PROVIDER);
        if let Ok(agent) = HeaderValue::try_from(agent) {
            *self.agent.write().unwrap_or_else(PoisonError::into_inner) = agent;
        }
    }

    fn agent(&self) -> HeaderValue {
        let agent = self.agent.read();
        agent.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The token of now.
    pub fn token(&self) -> SecretString {
        let token = self.token.read();
        token.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the token file again. Says whether the token is another one now.
    pub fn reload_token(&self) -> std::io::Result<bool> {
        let Token::File(path) = &self.source else {
            return Ok(false);
        };
        let read = read_token(path)?;
        let mut token = self.token.write().unwrap_or_else(PoisonError::into_inner);
        let changed = token.expose_secret() != read.expose_secret();
        *token = read;
        Ok(changed)
    }

    /// `connectorsForWorker`, with the connectors' types on request.
    ///
    /// # Errors
    /// The signs of what went wrong.
    pub async fn connectors(&self, with_type: bool) -> Result<Value, Sign> {
        let query = if with_type {
            CONNECTORS_WITH_TYPE
        } else {
            CONNECTORS
        };
        let mut data = self.ask(query, json!({}), None).await?;
        Ok(data["connectorsForWorker"].take())
    }

    /// The platform's version.
    ///
    /// # Errors
    /// The signs of what went wrong.
    pub async fn version(&self) -> Result<String, Sign> {
        let data = self.ask(VERSION, json!({}), None).await?;
        let version = data["about"]["version"].as_str();
        version.map(str::to_owned).ok_or_else(|| Sign {
            status: Some(200),
            text: "the platform does not say its version".into(),
            name: Some("UNKNOWN_ERROR".into()),
            ..Sign::default()
        })
    }

    /// A token for calls of connectors.
    ///
    /// # Errors
    /// The signs of what went wrong.
    pub async fn connector_jwt(&self) -> Result<SecretString, Sign> {
        let data = self.ask(JWT, json!({}), None).await?;
        let jwt = data["connectorJWT"].as_str();
        jwt.map(SecretString::from).ok_or_else(|| Sign {
            status: Some(200),
            text: "the platform gave no connector JWT".into(),
            name: Some("UNKNOWN_ERROR".into()),
            ..Sign::default()
        })
    }

    /// Reports one expectation of a work.
    ///
    /// # Errors
    /// The signs of what went wrong.
    pub async fn report(
        &self,
        work: &str,
        error: Option<&WorkError>,
        headers: &Headers,
    ) -> Result<(), Sign> {
        let variables = json!({ "id": work, "error": error });
        self.ask(REPORT, variables, Some(headers)).await.map(drop)
    }

    /// Declares `count` more expectations of a work.
    ///
    /// # Errors
    /// The signs of what went wrong.
    pub async fn add_expectations(
        &self,
        work: &str,
        count: u64,
        headers: &Headers,
    ) -> Result<(), Sign> {
        let variables = json!({ "id": work, "expectations": count });
        self.ask(ADD, variables, Some(headers)).await.map(drop)
    }

    async fn ask(
        &self,
        query: &str,
        variables: Value,
        origin: Option<&Headers>,
    ) -> Result<Value, Sign> {
        let mut headers = self.headers.clone();
        headers.entry(USER_AGENT).or_insert_with(|| self.agent());
        let mut token = HeaderValue::try_from(format!("Bearer {}", self.token().expose_secret()))
            .map_err(|error| network(&error))?;
        token.set_sensitive(true);
        headers.insert(AUTHORIZATION, token);
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        for (name, value) in origin.into_iter().flat_map(Headers::pairs) {
            // The works are the platform's, not the applicant's.
            if name != "opencti-applicant-id"
                && let Ok(value) = HeaderValue::from_str(value)
            {
                headers.insert(name, value);
            }
        }
        let body = json!({ "query": query, "variables": variables }).to_string();
        let request = self.client.post(self.endpoint.clone());
        let response = request.headers(headers).body(body).send().await;
        let response = response.map_err(|error| network(&error.without_url()))?;
        let status = response.status().as_u16();
        let asked = response.headers().get(RETRY_AFTER).cloned();
        let text = response.text().await;
        let text = text.map_err(|error| network(&error.without_url()))?;
        let asked = asked.and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
        read(status, text, asked)
    }
}

/// The data of an answer, or the signs of what went wrong.
fn read(status: u16, text: String, retry_after: Option<Duration>) -> Result<Value, Sign> {
    let sign = Sign {
        status: Some(status),
        retry_after,
        ..Sign::default()
    };
    if status != 200 {
        return Err(Sign { text, ..sign });
    }
    let Ok(answer) = serde_json::from_str::<Answer>(&text) else {
        let classes = vec!["JSONDecodeError".to_owned()];
        return Err(Sign {
            classes,
            text,
            ..sign
        });
    };
    if let Some(error) = answer.errors.into_iter().flatten().next() {
        return Err(Sign {
            text: error.message().to_owned(),
            name: Some(error.into_name()),
            ..sign
        });
    }
    Ok(answer.data.unwrap_or_default())
}

fn network(error: &(dyn std::error::Error + 'static)) -> Sign {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Sign {
        classes: vec!["RequestException".to_owned()],
        text,
        ..Sign::default()
    }
}

fn read_token(path: &Path) -> std::io::Result<SecretString> {
    let text = std::fs::read_to_string(path)?;
    let token = text.trim();
    if is_token(token) {
        return Ok(token.into());
    }
    let rule = "its text must be a token: visible ASCII characters without spaces";
    Err(std::io::Error::new(std::io::ErrorKind::InvalidData, rule))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::discovery::{Selection, discover};
    use crate::signs::{Cause, cause};

    #[test]
    fn an_answer_is_data_or_a_sign() {
        let ok = read(200, r#"{"data":{"about":{"version":"7"}}}"#.into(), None).unwrap();
        assert_eq!(ok["about"]["version"], "7");
        let cases = [
            (503, "<html>", Cause::Unreachable),
            (200, "<html>", Cause::Unreachable),
            (
                200,
                r#"{"data":{"a":1},"errors":[{"message":"m","name":"LOCK_ERROR"}]}"#,
                Cause::Lock,
            ),
            (
                200,
                r#"{"errors":[{"message":"m","extensions":{"code":"AUTH_REQUIRED"}}]}"#,
                Cause::Unauthorized,
            ),
        ];
        for (status, text, expected) in cases {
            let sign = read(status, text.into(), None).unwrap_err();
            assert_eq!(cause(&sign), expected, "{text}");
        }
    }

    #[test]
    fn whatever_the_platform_answers_is_queues_or_a_sign() {
        let words = [
            "null",
            "\"errors\":[",
            "\"connectorsForWorker\":",
            "\"port\":",
            "65536",
            "\"AUTH_REQUIRED\"",
            "{\"message\":",
            "1e999",
        ];
        tidegate_fuzzing::run("graphql", &words, |input| {
            let text = String::from_utf8_lossy(input).into_owned();
            let status = if text.len().is_multiple_of(5) {
                503
            } else {
                200
            };
            match read(status, text, None) {
                Err(sign) => {
                    let _ = cause(&sign);
                }
                Ok(data) => {
                    let connectors = &data["connectorsForWorker"];
                    let before = BTreeMap::new();
                    let found = discover(connectors, &Selection::default(), &before);
                    for (queue, node) in found.map(|found| found.nodes).unwrap_or_default() {
                        assert_eq!(queue, node.queue);
                        assert!(!queue.is_empty() && queue.len() <= 255, "{queue:?}");
                        assert_eq!(node.broker.url().port(), Some(node.broker.key.port));
                    }
                }
            }
        });
    }
}
