//! What the broker refuses: a clear message, the right exit code, never a hot loop, never a secret.

use lapin::types::AMQPValue;
use url::Url;

use crate::harness::gate::Gate;
use crate::harness::vhost::Vhost;
use crate::harness::worker::{Worker, WorkerConfig};

const SECRET: &str = "open-sesame-4711";

fn with_password(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_password(Some(SECRET)).unwrap();
    url
}

/// Starts a worker that the broker refuses, and expects exit code 1 and `expected` in its last words.
async fn refused(config: &WorkerConfig, expected: &[&str]) {
    let mut worker = Worker::spawn(config);
    let ended = worker.ended().await;
    let output = worker.log().text();
    assert_eq!(ended.code, Some(1), "{output}");
    // Quotation marks are escaped in a log of JSON lines.
    let last = output
        .lines()
        .last()
        .unwrap_or_default()
        .replace("\\\"", "\"");
    for part in expected {
        assert!(last.contains(part), "{part:?} is not in {last:?}");
    }
    assert!(!output.contains(SECRET), "the password is in the output");
    let attempts = output.matches("trying again").count();
    assert!(
        attempts <= 3,
        "{attempts} attempts at what will not change\n{output}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_ends_the_worker_with_the_brokers_words() {
    let vhost = Vhost::new().await;
    let gate = Gate::open().await;
    let config = WorkerConfig::new(&with_password(vhost.url())).http_node("q", &gate.url(), "");
    refused(&config, &["the connection", "403", "ACCESS_REFUSED"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_virtual_host_ends_the_worker_with_its_name() {
    let vhost = Vhost::new().await;
    let gate = Gate::open().await;
    let mut url = vhost.url().clone();
    url.set_path("/no-such-vhost");
    let config = WorkerConfig::new(&url).http_node("q", &gate.url(), "");
    refused(&config, &["the connection", "no-such-vhost"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_queue_that_is_not_to_be_declared_ends_the_worker_with_its_name() {
    let vhost = Vhost::new().await;
    let gate = Gate::open().await;
    let config = WorkerConfig::new(vhost.url()).http_node("no-such-queue", &gate.url(), "");
    refused(&config, &["queue \"no-such-queue\"", "404", "NOT_FOUND"]).await;
    assert_eq!(
        vhost.facts("no-such-queue").await,
        None,
        "nothing was declared"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_the_worker_with_its_name() {
    let vhost = Vhost::new().await;
    let stream = ("x-queue-type", AMQPValue::LongString("stream".into()));
    vhost.declare_with("events", [stream]).await;
    for declare in [true, false] {
        let node = format!("declare = {declare}\nhandler = {{ log = {{}} }}");
        let config = WorkerConfig::new(vhost.url()).node("events", &node);
        refused(&config, &["queue \"events\" is a stream"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_to_a_missing_exchange_ends_the_worker_with_its_name() {
    let vhost = Vhost::new().await;
    let node = "bind = [{ exchange = \"no-such-exchange\", key = \"#\" }]\nhandler = { log = {} }";
    let config = WorkerConfig::new(vhost.url()).node("orders", node);
    refused(&config, &["queue \"orders\"", "404", "no-such-exchange"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_queue_costs_its_own_node_a_retry() {
    let vhost = Vhost::with_queue("good", "quorum").await;
    vhost.publish("good", 5).await;
    let gate = Gate::open().await;
    let config = WorkerConfig::new(vhost.url())
        .http_node("good", &gate.url(), "")
        .http_node("missing", &gate.url(), "");
    let mut worker = Worker::spawn(&config);
    gate.finished(5).await;
    let refused = "the broker refuses the queue; trying again";
    let line = worker.logged(refused).await;
    assert_eq!(line.text("queue"), "missing");
    vhost.declare("missing", "quorum").await;
    vhost.publish("missing", 2).await;
    gate.finished(7).await;
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_queue_is_there_with_its_arguments_and_bindings() {
    let vhost = Vhost::new().await;
    let node = "type = \"classic\"\nmax_length = 100\n\
                bind = [{ exchange = \"amq.topic\", key = \"orders.#\" }]\n\
                handler = { log = { print = \"line\" } }";
    let config = WorkerConfig::new(vhost.url()).node("orders", node);
    let mut worker = Worker::ready(&config).await;
    worker.drained().await;
    let path = format!("/api/queues/{}/orders", vhost.name());
    let queue = vhost.management().get(&path).await.unwrap();
    assert_eq!(queue["durable"], true);
    assert_eq!(queue["arguments"]["x-max-length"], 100);
    let bindings = vhost
        .management()
        .get(&format!("{path}/bindings"))
        .await
        .unwrap();
    let keys: Vec<_> = bindings
        .as_array()
        .unwrap()
        .iter()
        .map(|b| &b["routing_key"])
        .collect();
    assert!(keys.contains(&&serde_json::json!("orders.#")), "{bindings}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_ends_the_program_with_78_before_it_connects() {
    let mut worker = Worker::spawn_toml("[broker]\nurl = \"http://localhost\"\n", &[]);
    let ended = worker.ended().await;
    assert_eq!(ended.code, Some(78));
    let output = worker.log().text();
    assert!(output.contains("broker.url"), "{output}");
    assert!(output.contains("node"), "every error at once: {output}");
    assert!(!output.contains("worker starting"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_ends_the_program_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let vhost = Vhost::new().await;
    let toml = format!(
        "[broker]\nurl = {:?}\n[worker]\nhttp = \"{address}\"\n[[node]]\nqueue = \"q\"\nhandler = {{ log = {{}} }}",
        vhost.url().as_str()
    );
    let mut worker = Worker::spawn_toml(&toml, &[]);
    let ended = worker.ended().await;
    assert_eq!(ended.code, Some(1));
    let output = worker.log().text();
    assert!(output.contains("worker.http"), "{output}");
    assert!(output.contains(&address.to_string()), "{output}");
}
