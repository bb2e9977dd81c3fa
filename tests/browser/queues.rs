//! The queues on the page: what waits in each and why, and what the page says when it cannot know.

use serde_json::json;

use super::{TOKEN, config};
use crate::harness::gate::Gate;
use crate::harness::puppet::Puppet;
use crate::harness::status::BEATS;
use crate::harness::vhost::Vhost;
use crate::harness::worker::{Worker, WorkerConfig};
use crate::program::{FleetConfig, FleetProgram};
use crate::window::Browser;

#[tokio::test(flavor = "multi_thread")]
async fn the_queues_tell_what_waits_and_who_works_it() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let fleet = FleetProgram::ready(&FleetConfig::new(vhost.url())).await;
    let gate = Gate::closed().await;
    let mut worker = Worker::ready(&config(&vhost, "web-1", &gate)).await;
    vhost.publish("orders", 7).await;
    gate.started(4).await;
    let browser = fleet.browser().await;
    browser.click("#view-queues").await;
    browser
        .shows("#queues-title", "The one queue is consumed.")
        .await;
    let row = "[data-queue=orders]";
    browser.shows(&format!("{row} .name"), "orders").await;
    browser.shows(&format!("{row} .ready"), "3").await;
    browser.shows(&format!("{row} .busy"), "4 / 4").await;
    browser.shows(&format!("{row} .workers"), "1").await;
    browser
        .shows("#queues-more", "3 messages wait, 4 run")
        .await;
    browser.fill("#queue-filter", "nothing").await;
    browser.shows("#queues-tally", "0 of 1 queue").await;
    browser.fill("#queue-filter", "ord").await;
    browser.shows("#queues-tally", "1 queue").await;

    worker.kill().await;
    browser
        .shows(
            "#queues-title",
            "1 queue is not consumed, and 7 messages wait there.",
        )
        .await;
    browser
        .shows(&format!("{row} .held"), "no worker consumes it")
        .await;
    browser.click("#view-workers").await;
    browser.shows(".item.lost .name", "web-1").await;
    browser.hides("#queues").await;
    assert_eq!(browser.complaints().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_what_is_on_hold_and_why_it_waits() {
    const WHY: &str = "no queue 'orders' in vhost '/'";
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(&FleetConfig::new(vhost.url())).await;
    let puppet = Puppet::new(&vhost, "web-1").await;
    let mut state = puppet.state(1, "running");
    state["nodes"][0]["note"] = WHY.into();
    puppet.say("state", &state).await;
    // Two beats, so that the queue has a graph.
    puppet.say("beat", &puppet.beat(2, 10)).await;
    let mut beat = puppet.beat(3, 11);
    beat["nodes"][0]["held"] = 3.into();
    puppet.say("beat", &beat).await;
    let browser = fleet.browser().await;
    browser.shows(".item .more", "1 node · 3 held").await;
    browser.click(".item .open").await;
    browser
        .shows(".item .inside .n.slots", "4 / 8 · 3 held")
        .await;
    browser.shows(".item .inside .queue", WHY).await;
    let title = "return document.querySelector('.item .inside .on-hold').title;";
    let title = browser.run(title, vec![]).await;
    assert!(title.as_str().unwrap().starts_with("On hold: "), "{title}");
    browser.click(".item .name").await;
    browser.shows("#worker .facts", "4 of 8 · 3 held").await;
    browser.shows("#worker .n.slots", "4 / 8 · 3 held").await;
    browser.visit(&fleet.url("/#/queues").await).await;
    browser
        .shows("[data-queue=orders] .busy", "4 / 8 · 3 held")
        .await;
    browser.shows("[data-queue=orders] .held", WHY).await;
    browser.click("[data-queue=orders] .name").await;
    browser.shows("#queue .facts", "7 to 16").await;

    puppet.say("beat", &puppet.beat(4, 12)).await;
    browser.visit(&fleet.url("/").await).await;
    browser.click(".item .open").await;
    browser.shows(".item .inside .n.done", "12").await;
    let held = "return document.body.textContent.includes(' held');";
    assert_eq!(browser.run(held, vec![]).await, json!(false));
    assert_eq!(browser.complaints().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_fit_on_a_phone() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    let fleet = FleetProgram::ready(&FleetConfig::new(vhost.url())).await;
    let gate = Gate::open().await;
    let _worker = Worker::ready(&config(&vhost, "web-1", &gate)).await;
    let browser = Browser::sized(360, 780).await;
    browser.visit(&fleet.url("/#/queues").await).await;
    browser.shows("[data-queue=orders] .ready", "0").await;
    let script = "return [document.documentElement.scrollWidth, innerWidth];";
    assert_eq!(browser.run(script, vec![]).await, json!([360, 360]));
    let labels = "return getComputedStyle(document.querySelector('[data-queue=orders] .dead'), '::before').content;";
    assert_eq!(browser.run(labels, vec![]).await, json!("\"Dead\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_read_looked_at_and_dropped_on_the_page() {
    let vhost = Vhost::new().await;
    let lines = format!("token = \"{TOKEN}\"\ndead_letters = true");
    let fleet = FleetProgram::ready(&FleetConfig::new(vhost.url()).lines(&lines)).await;
    let gate = Gate::open().await;
    gate.answer(|_| 400);
    let config = WorkerConfig::new(vhost.url())
        .name("web-1")
        .tables(BEATS)
        .declaring_node("orders", "quorum", &gate.url(), "");
    let _worker = Worker::ready(&config).await;
    // One after the other: two at a time could die in either order.
    for (id, dead) in [("m-1", 1), ("<b>m-2</b>", 2)] {
        vhost.publish_all("orders", [id.to_owned()]).await;
        vhost.until_ready("orders.dead", dead).await;
    }
    let browser = Browser::open().await;
    browser.visit(&fleet.url("/#/queues").await).await;
    browser.shows("[data-queue=orders] .dead", "2").await;
    browser.click("[data-queue=orders] .name").await;
    browser.shows("#queue h1", "orders").await;
    browser.shows("#queue .facts", "1 consumer").await;
    browser
        .shows("#queue .graph.failed_per_second", "Failed /s")
        .await;
    browser.click("#queue .letter-acts button").await;
    browser.fill("#token-input", TOKEN).await;
    browser.click("#token-form button[type=submit]").await;
    browser.hides("#token-dialog").await;
    browser.click("#queue .letter-acts button").await;
    browser.shows("#queue .reasons", "handler 2").await;
    browser.click(".letters li:nth-child(2) summary").await;
    browser.shows(".letters pre", "<b>m-2</b>").await;
    browser.shows(".letter-inside", "x-tidegate-reason").await;
    browser
        .click(".letters li:nth-child(2) .letter-acts button:last-child")
        .await;
    browser.shows("#letters-title", "Drop 1 dead letter?").await;
    browser.click("#letters-go").await;
    browser.shows("#toasts", "orders.dead: 1 dropped.").await;
    vhost.until_ready("orders.dead", 1).await;
    browser.shows("#queue .reasons", "handler 1").await;

    gate.answer(|_| 200);
    browser
        .click("#queue .letter-acts button:nth-child(2)")
        .await;
    browser
        .shows("#letters-title", "Replay 1 dead letter?")
        .await;
    browser.click("#letters-go").await;
    browser.shows("#toasts", "orders.dead: 1 replayed.").await;
    vhost.until_ready("orders.dead", 0).await;

    // By its address alone, before the page knows anything.
    browser.visit("about:blank").await;
    browser.visit(&fleet.url("/#/queues/orders").await).await;
    browser
        .shows("#queue .letter-acts", "Read the dead letters")
        .await;
    assert_eq!(browser.complaints().await, [""; 0]);
}
