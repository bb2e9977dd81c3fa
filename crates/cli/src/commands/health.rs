//! `tidegate health`: asks a running worker whether it is ready, for images that hold no other HTTP client.

use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use clap::Args;
use reqwest::redirect::Policy;
use url::Url;

use super::Exit;
use crate::output::{conclude, print_aside};

/// Ask a running worker whether it is ready
///
/// Exits with 0 if the answer is 2xx, else with 1: made for container health checks.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// The endpoint to ask: `/readyz` for ready to take messages, `/livez` for alive
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8079/readyz")]
    url: Url,
    /// The time limit for the answer
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Asks once, and prints the status of the answer.
///
/// # Errors
/// If there is no answer: the address is wrong, nobody listens, or the time is up.
pub(super) async fn run(args: &HealthArgs) -> anyhow::Result<Exit> {
    ensure!(
        args.url.username().is_empty() && args.url.password().is_none(),
        "the URL must have no user and no password"
    );
    let status = ask(&args.url, args.timeout)
        .await
        .with_context(|| format!("no answer from {}", args.url))?;
    let exit = if (200..300).contains(&status) {
        Exit::Clean
    } else {
        Exit::Failure
    };
    Ok(conclude(print_aside(format!("{status}\n")).await, exit)?)
}

async fn ask(url: &Url, timeout: Duration) -> anyhow::Result<u16> {
    ensure!(
        url.scheme() == "http",
        "the URL must begin with http://, not {}://",
        url.scheme()
    );
    ensure!(!timeout.is_zero(), "the timeout must not be zero");
    // The client wants a provider for TLS, though it never speaks it here. One that is there already will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        // No certificates: an image may have none.
        .tls_certs_only([])
        .timeout(timeout)
        .build()?;
    let answer = client.get(url.clone()).send().await;
    match answer {
        Ok(answer) => Ok(answer.status().as_u16()),
        Err(error) if error.is_timeout() => Err(anyhow!("timed out")),
        // The URL stands in the message already.
        Err(error) => Err(error.without_url().into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn answering(answer: &'static str) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/readyz?verbose", listener.local_addr().unwrap());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            reader.read_line(&mut request).unwrap();
            assert_eq!(request, "GET /readyz?verbose HTTP/1.1\r\n");
            while request != "\r\n" {
                request.clear();
                reader.read_line(&mut request).unwrap();
            }
            stream.write_all(answer.as_bytes()).unwrap();
            // It keeps the connection open, as a server may, until the client has gone.
            std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
        });
        url.parse().unwrap()
    }

    async fn health(url: Url) -> anyhow::Result<Exit> {
        let timeout = Duration::from_secs(30);
        run(&HealthArgs { url, timeout }).await
    }

    #[tokio::test]
    async fn a_ready_worker_is_healthy() {
        let url = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(health(url).await.unwrap(), Exit::Clean);
    }

    #[tokio::test]
    async fn a_draining_worker_is_not() {
        let url =
            answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 8\r\n\r\ndraining");
        assert_eq!(health(url).await.unwrap(), Exit::Failure);
    }

    #[tokio::test]
    async fn an_answer_that_is_not_http_is_an_error_that_names_the_url() {
        let url = answering("220 mail.example ESMTP\r\n");
        let expected = format!("no answer from {url}: ");
        let error = format!("{:#}", health(url).await.unwrap_err());
        assert!(error.starts_with(&expected), "{error}");
    }

    #[tokio::test]
    async fn nobody_listening_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        drop(listener);
        assert!(health(url).await.is_err());
    }

    #[tokio::test]
    async fn silence_is_an_error_when_the_time_is_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url: Url = format!("http://{}/", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let timeout = Duration::from_millis(20);
        let arguments = HealthArgs {
            url: url.clone(),
            timeout,
        };
        let error = run(&arguments).await;
        let expected = format!("no answer from {url}: timed out");
        assert_eq!(format!("{:#}", error.unwrap_err()), expected);
    }

    #[tokio::test]
    async fn a_password_in_the_url_is_refused_and_not_shown() {
        let error = health("http://user:secret@localhost/".parse().unwrap())
            .await
            .unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "the URL must have no user and no password"
        );
    }

    #[tokio::test]
    async fn only_http_is_asked() {
        let error = health("https://localhost/".parse().unwrap())
            .await
            .unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "no answer from https://localhost/: the URL must begin with http://, not https://"
        );
    }
}
