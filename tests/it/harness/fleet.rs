//! The fleet program as a process, and what it says over HTTP.

use std::path::Path;

use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use url::Url;

use super::wait::{eventually, expect_that, limit};
use super::worker::Worker;

/// The token for commands.
pub(crate) const TOKEN: &str = "commander-token";

/// A running `tidegate fleet`.
pub(crate) struct FleetProgram {
    /// The process.
    pub process: Worker,
    client: reqwest::Client,
}

impl FleetProgram {
    /// Starts it on the virtual host of `broker`, with `lines` in `[fleet]`, and waits until it is ready.
    pub(crate) async fn ready(broker: &Url, lines: &str) -> Self {
        let fleet = Self::spawn(broker, &format!("token = \"{TOKEN}\"\n{lines}"));
        fleet.process.until_ready().await;
        fleet
    }

    /// Starts it with nothing but `lines` in `[fleet]`.
    pub(crate) fn spawn(broker: &Url, lines: &str) -> Self {
        Self::spawn_other(env!("CARGO_BIN_EXE_tidegate").as_ref(), broker, lines)
    }

    /// Starts another build of it, as [`spawn`](Self::spawn) does.
    pub(crate) fn spawn_other(program: &Path, broker: &Url, lines: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let toml =
            format!("[broker]\nurl = \"{broker}\"\n[fleet]\nhttp = \"127.0.0.1:0\"\n{lines}\n");
        Self {
            process: Worker::spawn_other(program, "fleet", &toml, &[]),
            client: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("an HTTP client can be made"),
        }
    }

    /// Sends a request, and awaits the beginning of its answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<String>,
    ) -> Response {
        let url = self.process.url(path).await;
        let mut request = self.client.request(method, url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let sent = tokio::time::timeout(limit(), request.send()).await;
        sent.expect("it answers in time").expect("it answers")
    }

    /// Status and JSON at `path`.
    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        read(self.send(Method::GET, path, None, None).await).await
    }

    /// The JSON at `path`, which is there.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let (status, json) = self.get(path).await;
        assert_eq!(status, 200, "{json}");
        json
    }

    /// Commands a worker; status and JSON.
    pub(crate) async fn command(
        &self,
        id: &str,
        word: &str,
        token: Option<&str>,
        body: Option<String>,
    ) -> (StatusCode, Value) {
        let path = format!("/api/v1/workers/{id}/{word}");
        read(self.send(Method::POST, &path, token, body).await).await
    }

    /// Every worker.
    pub(crate) async fn workers(&self) -> Vec<Value> {
        let json = self.json("/api/v1/workers").await;
        json["workers"].as_array().expect("a list").clone()
    }

    /// Waits until the worker called `name` that started last is in `state`.
    pub(crate) async fn until(&self, name: &str, state: &str) -> Value {
        self.until_where(name, state, |worker| worker["state"] == state)
            .await
    }

    /// Waits until `wanted` holds of the worker called `name` that started last.
    pub(crate) async fn until_where(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually(format_args!("{name} is {what}"), async || {
            let workers = self.workers().await;
            let last = workers.iter().rfind(|worker| worker["name"] == name);
            let found = last.filter(|worker| wanted(worker)).cloned();
            found.ok_or_else(|| format!("{last:?}"))
        })
        .await
    }

    /// Waits until the summary is what is `wanted`.
    pub(crate) async fn until_summary(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || {
            let summary = self.json("/api/v1/summary").await;
            expect_that(wanted(&summary), || summary.to_string()).map(|()| summary)
        })
        .await
    }
}

async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.expect("a body");
    let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    (status, json)
}
