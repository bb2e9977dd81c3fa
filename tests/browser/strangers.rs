//! Names, queues and reasons that mean harm: they are text, whatever they say.

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use serde_json::json;
use tidegate::internal::status::wire::{
    APP_ID, Drain, DrainOutcome, DrainReport, Head, Kind, State, StateNode, VERSION,
};
use tidegate::lifecycle::Phase;

use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that, within};
use crate::program::{FleetConfig, FleetProgram};
use crate::window::Browser;

/// What would run, load or turn if it were more than text.
const HOSTILE: [&str; 5] = [
    "<img src=x onerror=\"window.harm=1\">",
    "\"><script>window.harm=1</script>",
    "javascript:window.harm=1",
    "</span></a><b id=harm>bold</b>&lt;i&gt;",
    "\u{202e}desrever\u{0007}\n{{constructor}}",
];

/// A worker's first message, every text of which is `text`.
fn state(text: &str, number: usize) -> State {
    State {
        head: head(text, number, 1, 600_000),
        phase: Phase::Running,
        deadline_ms: None,
        host: text.to_owned(),
        pid: 7,
        version: text.to_owned(),
        started_at: "2026-11-23T10:00:00.000Z".to_owned(),
        reason: Some(text.to_owned()),
        note: None,
        nodes: vec![StateNode {
            title: None,
            note: None,
            queue: text.to_owned(),
            kind: Some(text.to_owned()),
            handler: text.to_owned(),
            slots: 8,
            prefetch: 16,
            retry_ms: Vec::new(),
            phase: Phase::Running,
        }],
    }
}

fn head(text: &str, number: usize, seq: u64, lease_ms: u64) -> Head {
    Head {
        v: VERSION,
        worker: format!("{text}-{number}"),
        name: text.to_owned(),
        seq,
        at: "2026-11-23T10:00:00.000Z".to_owned(),
        lease_ms,
    }
}

fn drain(text: &str, number: usize) -> Drain {
    let mut report = DrainReport::new(text, DrainOutcome::Interrupted);
    report.duration_ms = 1_500;
    report.steps.finish_ms = 1_500;
    report.finished = 1;
    report.handed_back = 1;
    report.interrupted = 1;
    report.interrupted_ids = vec![text.to_owned()];
    Drain {
        head: head(text, number, 2, 0),
        report,
    }
}

/// Publishes a status message as a stranger could.
async fn say(vhost: &Vhost, kind: Kind, worker: &str, json: serde_json::Value) {
    let channel = vhost.channel().await;
    let properties = BasicProperties::default()
        .with_type(kind.message_type().into())
        .with_app_id(APP_ID.into())
        .with_content_type("application/json".into())
        .with_delivery_mode(2);
    let key = format!("{}.{worker}", kind.as_str());
    let body = json.to_string();
    let options = BasicPublishOptions::default();
    let published = channel.basic_publish(
        "tidegate.status".into(),
        key.as_str().into(),
        options,
        body.as_bytes(),
        properties,
    );
    let confirm = within("a publish", published).await;
    confirm.expect("the channel works").await.expect("it works");
    within("channel.close", channel.close(200, "OK".into()))
        .await
        .expect("the channel works");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_queues_and_reasons_are_shown_as_text() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(&FleetConfig::new(vhost.url())).await;
    for (number, text) in HOSTILE.into_iter().enumerate() {
        let state = state(text, number);
        let json = serde_json::to_value(&state).unwrap();
        say(&vhost, Kind::State, &state.head.worker, json).await;
    }
    let browser = fleet.browser().await;
    browser
        .shows("#verdict", "All 5 workers are running.")
        .await;
    let names = eventually("all of them are listed", async || {
        let names = browser.texts(".item .name").await;
        expect_that(names.len() == 5, || format!("{names:?}")).map(|()| names)
    })
    .await;
    for text in &HOSTILE[..4] {
        assert!(names.iter().any(|name| name == text), "{text} in {names:?}");
    }
    let turned = "\u{fffd}desrever\u{fffd}\u{fffd}{{constructor}}";
    assert!(names.iter().any(|name| name == turned), "{names:?}");
    browser
        .run(
            "for (const button of document.querySelectorAll('.item .open')) button.click();",
            vec![],
        )
        .await;
    browser.shows(".item .inside .queue", HOSTILE[0]).await;
    harmless(&browser).await;

    for (number, text) in HOSTILE.into_iter().enumerate() {
        let drain = drain(text, number);
        let json = serde_json::to_value(&drain).unwrap();
        say(&vhost, Kind::Drain, &drain.head.worker, json).await;
    }
    browser.shows("#verdict", "No worker is running.").await;
    browser.shows("#lanes .lane.interrupted", HOSTILE[0]).await;
    browser
        .run("document.querySelector('#lanes .lane').focus();", vec![])
        .await;
    browser.shows("#drain-detail", "interrupted").await;
    harmless(&browser).await;
    // Each worker's page, by way of its link: an id needs care in an address.
    for text in &HOSTILE[..4] {
        let open = "[...document.querySelectorAll('.item .name')].find((link) => link.textContent === arguments[0]).click();";
        browser.run(open, vec![(*text).into()]).await;
        browser.shows("#worker h1", text).await;
        browser.shows("#worker .outcome", text).await;
        harmless(&browser).await;
        browser.click("#back").await;
        browser.shows("#workers-title", "Workers").await;
    }
    assert_eq!(browser.complaints().await, [""; 0]);
}

/// Nothing of what strangers wrote has become more than text.
async fn harmless(browser: &Browser) {
    let script = "return [window.harm ?? null, document.querySelectorAll('#harm, main img, main script, main b, [onerror]').length, document.querySelectorAll('a[href^=\"javascript\"]').length];";
    assert_eq!(browser.run(script, vec![]).await, json!([null, 0, 0]));
}
