//! The `http` handler with real servers.

mod reuse;
mod server;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;
use tokio::net::TcpListener;

use self::client::{DRAIN_LIMIT, EXCERPT_LIMIT};
use self::server::{Answer, Authority, response, serve, serve_tls};
use super::*;
use crate::handler::testing::{self, eventually};

fn settings(url: &str) -> HttpSettings {
    HttpSettings {
        url: url.parse().unwrap(),
        headers: BTreeMap::new(),
        ca: None,
    }
}

fn with_header(url: &str, name: &str, value: &str) -> HttpSettings {
    HttpSettings {
        headers: BTreeMap::from([(name.to_owned(), SecretString::from(value))]),
        ..settings(url)
    }
}

async fn post(settings: &HttpSettings, body: impl Into<Bytes>) -> Outcome {
    let handler = HttpHandler::new(settings).unwrap();
    let delivery = testing::delivery(body).send();
    handler.handle(delivery, testing::context()).await
}

/// The error of an outcome that must be a retry.
fn retried(outcome: Outcome) -> String {
    match outcome {
        Outcome::Retry {
            delay: None, error, ..
        } => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_body_is_posted_with_what_the_delivery_says() {
    let (address, record) = serve(response("204 No Content", &[], "")).await;
    let url = format!("http://{address}/orders?from=queue");
    assert_eq!(post(&settings(&url), "{\"id\":1}").await, Outcome::Done);
    let [request] = &record.received()[..] else {
        panic!("not one request");
    };
    assert_eq!(request.request_line, "POST /orders?from=queue HTTP/1.1");
    assert_eq!(request.body, b"{\"id\":1}");
    for expected in [
        "content-length: 8",
        "tidegate-queue: orders",
        "tidegate-message-id: m-1",
        "tidegate-attempt: 1",
        "tidegate-redelivered: false",
        concat!("user-agent: tidegate/", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(
            request.headers.iter().any(|line| line == expected),
            "{expected} in {request:?}"
        );
    }
}

#[tokio::test]
async fn an_empty_body_has_a_length_too() {
    let (address, record) = serve(response("200 OK", &[], "")).await;
    let url = format!("http://{address}/");
    assert_eq!(post(&settings(&url), "").await, Outcome::Done);
    let request = &record.received()[0];
    let lengths: Vec<_> = request
        .headers
        .iter()
        .filter(|line| line.starts_with("content-length"))
        .collect();
    assert_eq!(lengths, ["content-length: 0"]);
}

#[tokio::test]
async fn the_status_is_the_outcome() {
    for (answer, expected) in [
        (response("202 Accepted", &[], "thanks"), Outcome::Done),
        (
            response("503 Service Unavailable", &["retry-after: 7"], "starting"),
            Outcome::retry_after(
                Duration::from_secs(7),
                "HTTP 503 Service Unavailable: starting",
            ),
        ),
        (
            response("429 Too Many Requests", &[], ""),
            Outcome::retry("HTTP 429 Too Many Requests"),
        ),
        (
            response("404 Not Found", &[], "no such order"),
            Outcome::dead("HTTP 404 Not Found: no such order"),
        ),
    ] {
        let (address, _) = serve(answer).await;
        let outcome = post(&settings(&format!("http://{address}/")), "x").await;
        assert_eq!(outcome, expected);
    }
}

#[tokio::test]
async fn a_redirect_is_dead_and_not_followed() {
    let (elsewhere, elsewhere_record) = serve(response("200 OK", &[], "")).await;
    let location = format!("location: http://{elsewhere}/");
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
    ] {
        let (address, record) = serve(response(status, &[&location], "")).await;
        let outcome = post(&settings(&format!("http://{address}/")), "x").await;
        assert_eq!(
            outcome,
            Outcome::dead(format!("HTTP {status} (redirects are not followed)"))
        );
        assert_eq!(record.received().len(), 1);
    }
    assert_eq!(elsewhere_record.received().len(), 0);
}

#[tokio::test]
async fn one_connection_serves_one_delivery_after_the_other() {
    let large = "x".repeat(DRAIN_LIMIT / 2);
    for answer in [
        response("200 OK", &[], "fine"),
        response("500 Internal Server Error", &[], &large),
    ] {
        let (address, record) = serve(answer).await;
        let handler = HttpHandler::new(&settings(&format!("http://{address}/"))).unwrap();
        for _ in 0..20 {
            let delivery = testing::delivery("x").send();
            handler.handle(delivery, testing::context()).await;
        }
        assert_eq!(record.received().len(), 20);
        assert_eq!(record.connections(), 1);
    }
}

#[tokio::test]
async fn no_response_is_a_retry() {
    // A port that was just free, so that nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = retried(post(&settings(&format!("http://{address}/")), "x").await);
    assert!(error.contains("Connection refused"), "{error}");

    let (address, record) = serve(Answer::Close).await;
    let error = retried(post(&settings(&format!("http://{address}/")), "x").await);
    assert!(
        error.contains("connection closed before message completed"),
        "{error}"
    );
    assert_eq!(record.received().len(), 1);
}

#[tokio::test]
async fn a_body_that_never_ends_does_not_hold_up_the_outcome() {
    let endless = |status: &str| {
        Answer::Endless(
            format!("HTTP/1.1 {status}\r\ncontent-length: 99999999999\r\n\r\n").into_bytes(),
        )
    };
    let (address, record) = serve(endless("200 OK")).await;
    let outcome = post(&settings(&format!("http://{address}/")), "x").await;
    assert_eq!(outcome, Outcome::Done);
    eventually("the connection is given up", || record.closed() == 1).await;

    let (address, _) = serve(endless("400 Bad Request")).await;
    let outcome = post(&settings(&format!("http://{address}/")), "x").await;
    let expected = format!("HTTP 400 Bad Request: {}", "x".repeat(EXCERPT_LIMIT));
    assert_eq!(outcome, Outcome::dead(expected));
}

#[tokio::test]
async fn a_body_that_stops_does_not_hold_up_the_outcome() {
    let head = b"HTTP/1.1 422 Unprocessable Entity\r\ncontent-length: 100\r\n\r\nwhy".to_vec();
    let (address, _) = serve(Answer::Bytes(head)).await;
    let outcome = post(&settings(&format!("http://{address}/")), "x").await;
    assert_eq!(outcome, Outcome::dead("HTTP 422 Unprocessable Entity: why"));
}

#[tokio::test]
async fn dropping_the_future_closes_the_connection() {
    let (address, record) = serve(Answer::Silence).await;
    let handler = HttpHandler::new(&settings(&format!("http://{address}/"))).unwrap();
    let delivery = testing::delivery("x").send();
    tokio::select! {
        outcome = handler.handle(delivery, testing::context()) => panic!("{outcome:?}"),
        () = eventually("the request has arrived", || record.received().len() == 1) => {}
    }
    eventually("the connection is closed", || record.closed() == 1).await;
}

#[tokio::test]
async fn a_user_in_the_url_becomes_a_header_and_is_never_shown() {
    let (address, record) = serve(Answer::Close).await;
    let url = format!("http://me:hush%21@{address}/?token=hush!");
    let handler = HttpHandler::new(&settings(&url)).unwrap();
    let delivery = testing::delivery("x").send();
    let outcome = handler.handle(delivery, testing::context()).await;
    // me:hush!
    let expected = "authorization: Basic bWU6aHVzaCE=".to_owned();
    assert!(record.received()[0].headers.contains(&expected));
    let error = retried(outcome);
    assert!(!error.contains("hush"), "{error}");
    let debug = format!("{handler:?}");
    assert!(!debug.contains("hush"), "{debug}");
}

#[tokio::test]
async fn a_configured_header_wins_and_is_never_shown() {
    let (address, record) = serve(response("200 OK", &[], "")).await;
    let url = format!("http://{address}/");
    let mut settings = with_header(&url, "Authorization", "Bearer hush");
    settings
        .headers
        .insert("Content-Type".into(), SecretString::from("text/ours"));
    let handler = HttpHandler::new(&settings).unwrap();
    let delivery = testing::delivery("x")
        .with(|delivery| delivery.properties.content_type = Some("text/theirs".into()))
        .send();
    handler.handle(delivery, testing::context()).await;
    let headers = &record.received()[0].headers;
    assert!(headers.contains(&"authorization: Bearer hush".to_owned()));
    let types: Vec<_> = headers
        .iter()
        .filter(|line| line.starts_with("content-type:"))
        .collect();
    assert_eq!(types, ["content-type: text/ours"]);
    for debug in [format!("{handler:?}"), format!("{settings:?}")] {
        assert!(!debug.contains("hush"), "{debug}");
    }
}

#[test]
fn headers_that_cannot_be_sent_are_refused_without_their_value() {
    let new = |name, value| {
        let settings = with_header("http://localhost/", name, value);
        HttpHandler::new(&settings).unwrap_err().to_string()
    };
    assert_eq!(
        new("X Y", "hush"),
        "handler http: header `X Y`: is not a header name"
    );
    assert_eq!(
        new("X-Key", "hush\r\nX-Evil: 1"),
        "handler http: header `X-Key`: its value has characters that a header cannot carry"
    );
    assert_eq!(
        new("Content-Length", "7"),
        "handler http: header `Content-Length`: is set by the client itself"
    );
    let error = HttpHandler::new(&settings("ftp://me:hush@localhost/")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "handler http: url: must begin with http:// or https://"
    );
}

/// Writes `pem` to a file that is gone with the directory.
fn file(pem: &str) -> (tempfile::TempDir, Option<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    std::fs::write(&path, pem).unwrap();
    (directory, Some(path))
}

#[tokio::test]
async fn a_server_is_trusted_by_the_authority_in_ca() {
    let authority = Authority::new();
    let (address, record) = serve_tls(response("200 OK", &[], ""), &authority).await;
    let (_directory, ca) = file(&authority.pem());
    let trusting = HttpSettings {
        ca: ca.clone(),
        ..settings(&format!("https://localhost:{}/", address.port()))
    };
    assert_eq!(post(&trusting, "over TLS").await, Outcome::Done);
    assert_eq!(record.received()[0].body, b"over TLS");

    // The same server under a name that its certificate does not have.
    let misnamed = HttpSettings {
        ca,
        ..settings(&format!("https://127.0.0.1:{}/", address.port()))
    };
    let error = retried(post(&misnamed, "x").await);
    assert!(error.contains("certificate not valid for name"), "{error}");
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_gets_nothing() {
    let (address, record) = serve_tls(response("200 OK", &[], ""), &Authority::new()).await;
    let (_directory, ca) = file(&Authority::new().pem());
    let wary = HttpSettings {
        ca,
        ..settings(&format!("https://localhost:{}/", address.port()))
    };
    let error = retried(post(&wary, "x").await);
    assert!(error.contains("invalid peer certificate"), "{error}");
    assert_eq!(record.received().len(), 0);
}

#[tokio::test]
async fn a_server_that_speaks_http_2_is_spoken_to_in_http_2() {
    let authority = Authority::new();
    let config = Arc::new(authority.server(&[b"h2", b"http/1.1"]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        let stream = acceptor.accept(stream).await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let queue = request.headers()["tidegate-queue"].clone();
            let status = if queue == "orders" { 200 } else { 400 };
            let response = http::Response::builder().status(status).body(()).unwrap();
            respond.send_response(response, true).unwrap();
        }
    });
    let (_directory, ca) = file(&authority.pem());
    let handler = HttpHandler::new(&HttpSettings {
        ca,
        ..settings(&format!("https://localhost:{port}/"))
    })
    .unwrap();
    for _ in 0..3 {
        let delivery = testing::delivery("x").send();
        let outcome = handler.handle(delivery, testing::context()).await;
        assert_eq!(outcome, Outcome::Done);
    }
}

#[test]
fn a_ca_that_cannot_be_used_is_named_with_the_cause() {
    let new = |ca| {
        let settings = HttpSettings {
            ca,
            ..settings("https://localhost/")
        };
        HttpHandler::new(&settings).unwrap_err().to_string()
    };
    let missing = new(Some("/nowhere/ca.pem".into()));
    assert!(
        missing.starts_with("handler http: ca /nowhere/ca.pem: "),
        "{missing}"
    );
    assert!(missing.contains("No such file"), "{missing}");
    let (_directory, empty) = file("not a certificate\n");
    let empty = new(empty);
    assert!(empty.ends_with("there is no certificate in it"), "{empty}");
}
