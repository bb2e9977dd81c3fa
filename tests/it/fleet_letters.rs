//! Dead letters by the fleet program: listed, looked at, replayed, dropped, and told in the log; off unless they are on.

use lapin::types::AMQPValue;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::fleet::{FleetProgram, TOKEN};
use crate::harness::gate::Gate;
use crate::harness::status::BEATS;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

const ON: &str = "dead_letters = true\n";

/// A worker whose gate refuses every message, and three dead letters: two by the handler, one too large.
async fn scene(vhost: &Vhost, fleet: &FleetProgram) -> (Gate, Worker) {
    let gate = Gate::open().await;
    gate.answer(|_| 400);
    let config = WorkerConfig::new(vhost.url())
        .name("web-1")
        .tables(BEATS)
        .declaring_node("orders", "quorum", &gate.url(), "max_body = \"9B\"");
    let worker = Worker::ready(&config).await;
    let ids = ["m-1", "m-2", "much-too-large"].map(str::to_owned);
    vhost.publish_all("orders", ids).await;
    vhost.until_ready("orders.dead", 3).await;
    fleet.until("web-1", "running").await;
    (gate, worker)
}

async fn ask(
    fleet: &FleetProgram,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Option<Value>,
) -> (u16, Value) {
    let body = body.map(|body| body.to_string());
    let response = fleet.send(method, path, token, body).await;
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}

async fn listed(fleet: &FleetProgram, rest: &str) -> Value {
    let path = format!("/api/v1/queues/orders/dead{rest}");
    let (status, list) = ask(fleet, Method::GET, &path, Some(TOKEN), None).await;
    assert_eq!(status, 200, "{list}");
    list
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_by_reason_and_looked_at_one_by_one() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(vhost.url(), ON).await;
    let _scene = scene(&vhost, &fleet).await;
    let list = listed(&fleet, "").await;
    assert_eq!(list["reasons"], json!({"handler": 2, "too_large": 1}));
    assert_eq!((&list["waiting"], &list["seen"]), (&json!(3), &json!(3)));
    let list = listed(&fleet, "?reason=handler&limit=1").await;
    let letters = list["letters"].as_array().unwrap();
    assert_eq!((letters.len(), &list["seen"]), (1, &json!(3)));
    let letter = letters[0]["letter"].as_str().unwrap();
    assert!(letters[0].get("body").is_none(), "{list}");
    let whole = listed(&fleet, &format!("/{letter}")).await;
    assert_eq!(whole["id"], letters[0]["id"]);
    assert_eq!(whole["body"], whole["id"], "the body is the id");
    assert_eq!(whole["headers"]["x-tidegate-reason"], "handler");
    assert_eq!(whole["properties"]["delivery_mode"], 2);
    vhost.until_ready("orders.dead", 3).await;
    let gone = "/api/v1/queues/orders/dead/00000000000000000000000000000000";
    let (status, answer) = ask(&fleet, Method::GET, gone, Some(TOKEN), None).await;
    assert_eq!(status, 404, "{answer}");
    let newest = eventually("the list of queues tells the newest", async || {
        let queues = fleet.json("/api/v1/queues").await;
        let newest = queues["queues"][0]["newest_dead"].clone();
        expect_that(newest.is_object(), || queues.to_string()).map(|()| newest)
    })
    .await;
    let reason = newest["reason"].as_str().unwrap();
    assert!(["handler", "too_large"].contains(&reason), "{newest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_replayed_and_dropped_by_what_is_named_and_the_log_says_who() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(vhost.url(), ON).await;
    let (gate, _worker) = scene(&vhost, &fleet).await;
    let drop = "/api/v1/queues/orders/dead/drop";
    let request = json!({"reasons": ["too_large"], "limit": 1});
    let (status, report) = ask(&fleet, Method::POST, drop, Some(TOKEN), Some(request)).await;
    assert_eq!((status, &report["dropped"]), (200, &json!(1)), "{report}");
    let list = listed(&fleet, "").await;
    assert_eq!(list["reasons"], json!({"handler": 2}));

    gate.answer(|_| 200);
    let letter = list["letters"][0]["letter"].clone();
    let replay = "/api/v1/queues/orders/dead/replay";
    let request = json!({"letters": [letter]});
    let (status, report) = ask(&fleet, Method::POST, replay, Some(TOKEN), Some(request)).await;
    assert_eq!((status, &report["replayed"]), (200, &json!(1)), "{report}");
    vhost.until_ready("orders.dead", 1).await;
    gate.finished(3).await;
    let begun = fleet
        .process
        .logged("command on dead letters over http")
        .await;
    assert_eq!(
        (begun.text("command"), begun.text("by")),
        ("drop", "127.0.0.1")
    );
    assert_eq!(
        (begun.text("queue"), begun.text("token")),
        ("orders", "fleet.token")
    );
    let ended = fleet
        .process
        .logged("dead letters dealt with over http")
        .await;
    assert_eq!(ended.number("dropped"), 1);

    for wrong in [
        json!({"limit": 0}),
        json!({"letter": []}),
        json!([]),
        json!({}),
    ] {
        let (status, answer) = ask(&fleet, Method::POST, drop, Some(TOKEN), Some(wrong)).await;
        assert_eq!(status, 400, "{answer}");
    }
    vhost.until_ready("orders.dead", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_in_a_stream_are_refused_by_name() {
    let vhost = Vhost::new().await;
    let stream = ("x-queue-type", AMQPValue::LongString("stream".into()));
    vhost.declare_with("orders.dead", [stream]).await;
    vhost.publish("orders.dead", 1).await;
    let fleet = FleetProgram::ready(vhost.url(), ON).await;
    let gate = Gate::open().await;
    let config = WorkerConfig::new(vhost.url())
        .name("web-1")
        .tables(BEATS)
        .declaring_node("orders", "quorum", &gate.url(), "");
    let _worker = Worker::ready(&config).await;
    fleet.until("web-1", "running").await;
    let list = "/api/v1/queues/orders/dead";
    let (status, answer) = ask(&fleet, Method::GET, list, Some(TOKEN), None).await;
    assert_eq!(status, 503, "{answer}");
    let error = answer["error"]["message"].as_str().unwrap();
    assert!(error.contains("is a stream, and a stream"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_need_the_setting_the_token_and_a_queue_of_the_fleet() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(vhost.url(), ON).await;
    let _scene = scene(&vhost, &fleet).await;
    let list = "/api/v1/queues/orders/dead";
    let drop = "/api/v1/queues/orders/dead/drop";
    for (method, path) in [(Method::GET, list), (Method::POST, drop)] {
        for (token, expected) in [(None, 401), (Some("another-token"), 403)] {
            let (status, answer) = ask(&fleet, method.clone(), path, token, None).await;
            assert_eq!(status, expected, "{answer}");
        }
    }
    vhost.declare("private.dead", "classic").await;
    let other = "/api/v1/queues/private/dead";
    let (status, answer) = ask(&fleet, Method::GET, other, Some(TOKEN), None).await;
    assert_eq!(status, 404, "{answer}");
    assert_eq!(fleet.json("/api/v1/summary").await["dead_letters"], true);

    let off = FleetProgram::ready(vhost.url(), "").await;
    off.until("web-1", "running").await;
    for (method, path) in [(Method::GET, list), (Method::POST, drop)] {
        let (status, answer) = ask(&off, method, path, Some(TOKEN), None).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (403, &json!("dead_letters_off"))
        );
    }
    assert_eq!(off.json("/api/v1/summary").await["dead_letters"], false);
    vhost.until_ready("orders.dead", 3).await;
}
