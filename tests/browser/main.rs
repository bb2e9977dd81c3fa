//! The fleet page as a person meets it: in Chromium, served by the real program, with real workers behind it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "a test that fails shows what it saw")]

mod accessibility;
mod broker;
mod commands;
#[path = "../it"]
mod it {
    #[expect(dead_code, unused_imports, reason = "the other tests use the rest")]
    pub(crate) mod harness;
}
mod keyboard;
mod modules;
mod outage;
mod program;
mod queues;
mod rollouts;
mod strangers;
mod tabs;
mod watch;
mod window;

use serde_json::json;

use it::harness;

use crate::harness::gate::Gate;
use crate::harness::puppet::Puppet;
use crate::harness::status::BEATS;
use crate::harness::vhost::Vhost;
use crate::harness::worker::{Worker, WorkerConfig};
use crate::program::{FleetConfig, FleetProgram};
use crate::window::Browser;

/// A token as the configuration takes it.
const TOKEN: &str = "open-sesame";

/// A worker called `name` that beats every second and posts to `gate` what comes to `orders`.
fn config(vhost: &Vhost, name: &str, gate: &Gate) -> WorkerConfig {
    WorkerConfig::for_orders(vhost.url(), gate, "concurrency = 4\nprefetch = 4")
        .name(name)
        .tables(BEATS)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_follows_a_worker_from_its_start_through_its_drain() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let fleet = FleetProgram::ready(&FleetConfig::new(vhost.url())).await;
    let browser = fleet.browser().await;
    browser
        .shows("#verdict", "No worker has reported yet.")
        .await;
    browser.shows("#none", "Waiting for the first worker").await;

    let gate = Gate::closed().await;
    let mut worker = Worker::ready(&config(&vhost, "web-1", &gate)).await;
    browser
        .shows("#verdict", "The one worker is running.")
        .await;
    browser.shows(".item.running .name", "web-1").await;
    vhost.publish("orders", 3).await;
    gate.started(3).await;
    browser.shows(".item.running .slots", "3 / 4").await;
    browser.shows("#figures .work", "1 node").await;
    browser.click(".item .open").await;
    browser.shows(".item .inside .queue", "orders").await;

    worker.terminate();
    browser.shows("#verdict", "No worker is running.").await;
    browser.shows(".item.draining .lease", "to deadline").await;
    browser.shows("#drains-lead", "1 drain under way.").await;
    gate.release_all();
    assert_eq!(worker.ended().await.code, Some(0));
    browser.shows("#verdict", "No worker is running.").await;
    browser.shows("#lanes .lane.clean", "web-1").await;
    browser
        .shows("#drains-lead", "letting what ran finish")
        .await;
    browser.shows("#figures .drains", "0 of 1 drain").await;

    browser.click(".item.stopped .name").await;
    browser.shows("#worker .state-line", "stopped").await;
    browser.shows("#worker .outcome", "3 finished").await;
    browser
        .shows("#worker .outcome", "because of SIGTERM")
        .await;
    browser.shows("#worker .history", "drain report").await;
    let mut history = browser.texts("#worker .history li .word").await;
    // A worker that runs before its status can be published never says that it started.
    history.retain(|word| word != "starting");
    assert_eq!(history, ["stopped", "draining", "running"]);
    assert_eq!(browser.complaints().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_in_the_headline() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    let fleet = FleetProgram::commanding(vhost.url()).await;
    let gate = Gate::closed().await;
    let _safe = Worker::ready(&config(&vhost, "web-1", &gate)).await;
    let mut killed = Worker::ready(&config(&vhost, "web-2", &gate)).await;
    let browser = fleet.browser().await;
    browser
        .shows("#verdict", "All 2 workers are running.")
        .await;
    killed.kill().await;
    browser
        .shows("#verdict", "1 worker lost in the last hour.")
        .await;
    browser.shows("#verdict-more", "web-2 was lost").await;
    browser.shows(".item.lost .name", "web-2").await;
    let first = browser.texts(".item .name").await;
    assert_eq!(first, ["web-2", "web-1"], "what needs attention is first");
    let title = browser.run("return document.title;", vec![]).await;
    assert_eq!(title, "1 lost · Tidegate");
    let drain = "[data-id^='web-2'] .act:last-child";
    let why = browser
        .run(
            "return document.querySelector(arguments[0]).title;",
            vec![drain.into()],
        )
        .await;
    assert_eq!(why, "it is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_in_order_even_within_a_millisecond() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(&FleetConfig::new(vhost.url())).await;
    let puppet = Puppet::new(&vhost, "web-1").await;
    let starting = puppet.state(1, "starting");
    let mut running = puppet.state(2, "running");
    running["at"] = starting["at"].clone();
    puppet.say("state", &starting).await;
    puppet.say("state", &running).await;
    let browser = Browser::open().await;
    browser.visit(&fleet.url("/#/workers/web-1").await).await;
    browser.shows("#worker .state-line", "running").await;
    browser.shows("#worker .history", "starting").await;
    let history = browser.texts("#worker .history li .word").await;
    assert_eq!(history, ["running", "starting"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_control_has_a_name_and_a_phone_needs_no_sideways_scrolling() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    let fleet = FleetProgram::ready(&FleetConfig::new(vhost.url())).await;
    let gate = Gate::open().await;
    let long = format!("worker-{}", "long".repeat(12));
    let mut first = Worker::ready(&config(&vhost, "web-1", &gate)).await;
    let _second = Worker::ready(&config(&vhost, &long, &gate)).await;
    let browser = Browser::sized(360, 780).await;
    browser.visit(&fleet.url("/").await).await;
    browser.shows(".item.running .name", &long).await;
    first.drained().await;
    browser.shows("#lanes .lane", "web-1").await;
    browser.click(".item.running .open").await;
    browser.shows(".item .inside .queue", "orders").await;
    fits(&browser).await;
    named(&browser).await;
    browser.click(".item.running .name").await;
    browser.shows("#worker .facts", "pid").await;
    fits(&browser).await;
    named(&browser).await;
    browser.click("#help-button").await;
    browser.shows("#help", "What the states mean").await;
    fits(&browser).await;
}

/// Nothing is wider than the page.
async fn fits(browser: &Browser) {
    let script = "return [document.documentElement.scrollWidth, innerWidth];";
    assert_eq!(browser.run(script, vec![]).await, json!([360, 360]));
}

/// Every visible control says what it is.
async fn named(browser: &Browser) {
    let script = "return [...document.querySelectorAll('button, a, input, select, [role=region], dialog, svg')]
        .filter((element) => element.checkVisibility() && element.getAttribute('aria-hidden') !== 'true' && !element.closest('[aria-hidden=true]'))
        .filter((element) => !(element.getAttribute('aria-label') || element.getAttribute('aria-labelledby') || element.innerText || element.labels?.[0]?.innerText))
        .map((element) => element.outerHTML);";
    assert_eq!(browser.run(script, vec![]).await, json!([]));
}
