//! The API is what its description says, and keeps to its limits.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::events::Events;
use crate::harness::fleet::{FleetProgram, TOKEN};
use crate::harness::puppet::Puppet;
use crate::harness::vhost::Vhost;

/// Fails where `answer` is not what the schema at `pointer` of the description says.
fn obeys(description: &Value, pointer: &str, answer: &Value) {
    let mut schema = description
        .pointer(pointer)
        .unwrap_or_else(|| panic!("{pointer} is missing"))
        .clone();
    schema["components"] = description["components"].clone();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<_> = validator
        .iter_errors(answer)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{pointer}: {errors:?} in {answer}");
}

fn schema_of(path: &str, method: &str, status: &str) -> String {
    let path = path.replace('~', "~0").replace('/', "~1");
    format!("/paths/{path}/{method}/responses/{status}/content/application~1json/schema")
}

async fn some_workers(vhost: &Vhost, fleet: &FleetProgram) -> Vec<Puppet> {
    let running = Puppet::new(vhost, "puppet-1").await;
    running.say("state", &running.state(1, "running")).await;
    running.say("beat", &running.beat(2, 5)).await;
    running.say("beat", &running.beat(3, 9)).await;
    let stopped = Puppet::new(vhost, "puppet-2").await;
    let mut draining = stopped.state(1, "draining");
    draining["reason"] = "deploy".into();
    draining["deadline_ms"] = 25_000.into();
    stopped.say("state", &draining).await;
    stopped.say("drain", &stopped.drain(2)).await;
    let draining = Puppet::new(vhost, "puppet-3").await;
    let mut state = draining.state(1, "draining");
    state["deadline_ms"] = 25_000.into();
    draining.say("state", &state).await;
    fleet.until("puppet-2", "stopped").await;
    fleet.until("puppet-3", "draining").await;
    let heard = |worker: &Value| worker["nodes"][0]["done"] == 9;
    fleet.until_where("puppet-1", "heard", heard).await;
    vec![running, stopped, draining]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_what_the_description_says() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let _puppets = some_workers(&vhost, &fleet).await;
    let description = fleet.json("/api/v1/openapi.json").await;
    assert_eq!(description["openapi"], "3.1.0");
    for (path, asked) in [
        ("/api/v1/summary", "/api/v1/summary"),
        (
            "/api/v1/workers",
            "/api/v1/workers?state=running,stopped,draining&limit=2",
        ),
        ("/api/v1/workers/{id}", "/api/v1/workers/puppet-1"),
        ("/api/v1/workers/{id}", "/api/v1/workers/puppet-2"),
        ("/api/v1/drains", "/api/v1/drains"),
    ] {
        let answer = fleet.json(asked).await;
        obeys(&description, &schema_of(path, "get", "200"), &answer);
    }
    for asked in [
        "/api/v1/workers/nobody",
        "/api/v1/workers?limit=0",
        "/api/v1/drains?x=1",
    ] {
        let (status, answer) = fleet.get(asked).await;
        assert!(status.is_client_error(), "{asked}");
        obeys(
            &description,
            &schema_of("/api/v1/drains", "get", "default"),
            &answer,
        );
    }
    let path = "/api/v1/workers/{id}/pause";
    let (status, answer) = fleet.command("puppet-1", "pause", Some(TOKEN), None).await;
    assert_eq!(status, 200);
    obeys(&description, &schema_of(path, "post", "200"), &answer);
    let (_, answer) = fleet.command("puppet-1", "pause", None, None).await;
    obeys(&description, &schema_of(path, "post", "401"), &answer);

    let response = fleet.send(Method::GET, "/api/v1/events", None, None).await;
    let mut events = Events::of(response);
    let mut kinds = Vec::new();
    let newcomer = Puppet::new(&vhost, "puppet-4").await;
    newcomer.say("state", &newcomer.state(1, "running")).await;
    newcomer.say("drain", &newcomer.drain(2)).await;
    while !["snapshot", "worker", "drain", "summary"]
        .iter()
        .all(|kind| kinds.contains(&(*kind).to_owned()))
    {
        let event = events.next().await.unwrap();
        let pointer = format!(
            "/paths/~1api~1v1~1events/get/responses/200/content/text~1event-stream/x-events/{}",
            event.kind
        );
        obeys(&description, &pointer, &event.data);
        kinds.push(event.kind);
    }
    assert_eq!(kinds[0], "snapshot");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_paged() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let _puppets = some_workers(&vhost, &fleet).await;
    let ids = |page: &Value| -> Vec<String> {
        let workers = page["workers"].as_array().unwrap().iter();
        workers
            .map(|worker| worker["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let page = fleet.json("/api/v1/workers?limit=2").await;
    assert_eq!(ids(&page), ["puppet-1", "puppet-2"]);
    let next = page["next"].as_str().unwrap();
    let page = fleet
        .json(&format!("/api/v1/workers?limit=2&after={next}"))
        .await;
    assert_eq!(ids(&page), ["puppet-3"]);
    assert!(page.get("next").is_none());
    let page = fleet.json("/api/v1/workers?state=stopped,draining").await;
    assert_eq!(ids(&page), ["puppet-2", "puppet-3"]);
    let page = fleet.json("/api/v1/workers?name=PET-1").await;
    assert_eq!(ids(&page), ["puppet-1"]);
    let drains = fleet.json("/api/v1/drains?limit=1").await;
    assert_eq!(drains["total"], 1);
    let at = drains["drains"][0]["at"].as_str().unwrap();
    let before = fleet.json(&format!("/api/v1/drains?before={at}")).await;
    assert_eq!(before["drains"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_served_with_a_policy_that_lets_it_load_nothing_else() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    for (path, kind) in [
        ("/", "text/html"),
        ("/app.js", "text/javascript"),
        ("/assets/app.css", "text/css"),
        ("/icon.svg", "image/svg+xml"),
        ("/api/v1/summary", "application/json"),
        ("/nothing", "application/json"),
    ] {
        let response = fleet.send(Method::GET, path, None, None).await;
        let headers = response.headers();
        assert!(
            headers["content-type"].to_str().unwrap().starts_with(kind),
            "{path}"
        );
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["x-frame-options"], "DENY");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        assert!(!headers.contains_key("access-control-allow-origin"));
    }
    for path in ["/../Cargo.toml", "/assets/../../x", "/api/v1/nothing"] {
        let response = fleet.send(Method::GET, path, None, None).await;
        assert_eq!(response.status(), 404, "{path}");
    }
    let response = fleet
        .send(Method::POST, "/api/v1/summary", None, None)
        .await;
    assert_eq!(response.status(), 405);
    let response = fleet.send(Method::DELETE, "/", None, None).await;
    assert_eq!(response.status(), 405);
}
