//! The fleet program as a process.

use url::Url;

use crate::TOKEN;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Ended, Worker};
use crate::window::Browser;

/// A fleet program's configuration in TOML. Without more it is: the broker, and a free port for HTTP.
#[derive(Debug, Clone)]
pub(crate) struct FleetConfig {
    broker: Url,
    http: String,
    lines: String,
}

impl FleetConfig {
    /// A fleet program on the virtual host of `broker`.
    pub(crate) fn new(broker: &Url) -> Self {
        Self {
            broker: broker.clone(),
            http: "127.0.0.1:0".to_owned(),
            lines: String::new(),
        }
    }

    /// `fleet.http`: where it listens.
    pub(crate) fn http(mut self, address: &str) -> Self {
        address.clone_into(&mut self.http);
        self
    }

    /// More lines of `[fleet]`.
    pub(crate) fn lines(mut self, toml: &str) -> Self {
        self.lines.push_str(toml);
        self.lines.push('\n');
        self
    }

    /// The file's text.
    pub(crate) fn toml(&self) -> String {
        let url = toml::Value::String(self.broker.to_string());
        let http = toml::Value::String(self.http.clone());
        format!(
            "[broker]\nurl = {url}\n\n[fleet]\nhttp = {http}\n{}",
            self.lines
        )
    }
}

/// A running `tidegate fleet`. Killed when this is dropped; what it wrote is printed when the test fails.
pub(crate) struct FleetProgram(Worker);

impl FleetProgram {
    /// Starts one.
    pub(crate) fn starting(config: &FleetConfig) -> Self {
        Self(Worker::spawn_program("fleet", &config.toml(), &[]))
    }

    /// Starts one, and waits until it has read the log and is connected.
    pub(crate) async fn ready(config: &FleetConfig) -> Self {
        let program = Self::starting(config);
        eventually("the fleet program is ready", async || {
            let (status, body) = program.0.get("/readyz").await?;
            expect_that(status == 200, || format!("{status} {body}"))
        })
        .await;
        program
    }

    /// Starts one that takes commands with [`TOKEN`], and waits until it has read the log and is connected.
    pub(crate) async fn commanding(broker: &Url) -> Self {
        let token = format!("token = \"{TOKEN}\"");
        Self::ready(&FleetConfig::new(broker).lines(&token)).await
    }

    /// A browser that shows its first page.
    pub(crate) async fn browser(&self) -> Browser {
        let browser = Browser::open().await;
        browser.visit(&self.url("/").await).await;
        browser
    }

    /// Where it listens: host and port.
    pub(crate) async fn address(&self) -> String {
        let url = self.0.url("").await;
        url.trim_start_matches("http://").to_owned()
    }

    /// The URL of `path` on its server.
    pub(crate) async fn url(&self, path: &str) -> String {
        self.0.url(path).await
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) async fn kill(&mut self) -> Ended {
        self.0.kill().await
    }
}
