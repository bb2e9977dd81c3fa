//! The management plugin's HTTP API. What it says of messages lags some seconds behind: use it for what does not
//! change, or with `eventually`.

use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::Value;
use url::Url;

/// One request.
const LIMIT: Duration = Duration::from_secs(20);

/// The API, with the user of the broker's URL.
#[derive(Debug, Clone)]
pub(crate) struct Management {
    client: Client,
    base: Url,
    user: String,
    password: String,
}

/// `text` with everything but letters, digits and `-` as `%XX`, fit for one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    text.bytes()
        .map(|byte| match byte {
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

impl Management {
    /// The API at `base`, as the user that `amqp` names.
    pub(crate) fn new(base: &Url, amqp: &Url) -> Self {
        // The client asks for a provider even where it speaks plain HTTP; an earlier one will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            .timeout(LIMIT)
            .build()
            .expect("an HTTP client can be made");
        let or_guest = |text: &str| if text.is_empty() { "guest" } else { text }.to_owned();
        Self {
            client,
            base: base.clone(),
            user: or_guest(amqp.username()),
            password: or_guest(amqp.password().unwrap_or_default()),
        }
    }

    /// The JSON at `path`.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, String> {
        let body = self.ask(Method::GET, path, None).await?;
        serde_json::from_slice(&body).map_err(|error| format!("GET {path}: {error}"))
    }

    /// Puts `body` at `path`.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<(), String> {
        self.ask(Method::PUT, path, Some(body)).await.map(drop)
    }

    /// Deletes what is at `path`.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), String> {
        self.ask(Method::DELETE, path, None).await.map(drop)
    }

    /// The status that `path` answers with.
    pub(crate) async fn status(&self, path: &str) -> Result<u16, String> {
        self.send(Method::GET, path, None)
            .await
            .map(|response| response.status().as_u16())
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Vec<u8>, String> {
        let response = self.send(method.clone(), path, body).await?;
        let status = response.status();
        let answer = response.bytes().await.map_err(|error| error.to_string())?;
        if status.is_success() {
            return Ok(answer.to_vec());
        }
        let answer = String::from_utf8_lossy(&answer);
        Err(format!("{method} {path}: {status}: {answer}"))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<reqwest::Response, String> {
        let url = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
        let mut request = self
            .client
            .request(method.clone(), &url)
            .basic_auth(&self.user, Some(&self.password))
            .header("content-type", "application/json");
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        request
            .send()
            .await
            .map_err(|error| format!("{method} {url}: {error:?}"))
    }
}
