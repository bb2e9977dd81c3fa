//! The page by keyboard alone: filter, choice, order, pages, help, theme.

use serde_json::json;
use thirtyfour::Key;

use super::config;
use crate::harness::gate::Gate;
use crate::harness::vhost::Vhost;
use crate::harness::worker::Worker;
use crate::program::{FleetConfig, FleetProgram};
use crate::window::Browser;

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_be_done_by_keyboard() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    let fleet = FleetProgram::ready(&FleetConfig::new(vhost.url())).await;
    let gate = Gate::open().await;
    let mut workers = Vec::new();
    for name in ["web-2", "web-10", "mail-1"] {
        workers.push(Worker::ready(&config(&vhost, name, &gate)).await);
    }
    let browser = fleet.browser().await;
    browser
        .shows("#verdict", "All 3 workers are running.")
        .await;
    browser.shows(".item .name", "mail-1").await;
    assert_eq!(
        browser.texts(".item .name").await,
        ["mail-1", "web-2", "web-10"],
        "numbers in names count as numbers"
    );

    browser.press("/").await;
    browser.press("web").await;
    browser.shows("#tally", "2 of 3").await;
    let hash = browser.run("return location.hash;", vec![]).await;
    assert_eq!(hash, "#/?q=web", "the view has an address");
    browser.press_key(Key::Escape).await;
    browser.press("jj").await;
    chosen(&browser, "web-10").await;
    browser.press("k").await;
    chosen(&browser, "web-2").await;
    browser.press("x").await;
    browser
        .shows(".item.selected .inside .queue", "orders")
        .await;
    browser.press("x").await;
    browser.hides(".inside").await;
    browser.press_key(Key::Enter).await;
    browser.shows("#worker h1", "web-2").await;
    browser.press_key(Key::Escape).await;
    browser.shows("#tally", "2 of 3").await;
    chosen(&browser, "web-2").await;

    browser.press("0").await;
    browser.until("#tally", "is 3", |text| text == "3").await;
    browser.press("6").await;
    browser.shows("#none-title", "No worker matches").await;
    browser.press("61").await;
    browser.shows("#tally", "3 of 3").await;
    browser.press("0s").await;
    let sorted = "return document.querySelector('[aria-sort=ascending]').innerText;";
    assert_eq!(browser.run(sorted, vec![]).await, "Worker");

    browser.press("?").await;
    browser.shows("#help", "next order of sorting").await;
    browser.press_key(Key::Escape).await;
    browser.hides("#help").await;
    browser.press("t").await;
    let theme = "return [document.documentElement.dataset.theme ?? null, getComputedStyle(document.body).backgroundColor];";
    let light = browser.run(theme, vec![]).await;
    browser.press("t").await;
    let dark = browser.run(theme, vec![]).await;
    assert_eq!((&light[0], &dark[0]), (&json!("light"), &json!("dark")));
    assert_ne!(light[1], dark[1]);
    browser.visit(&fleet.url("/").await).await;
    assert_eq!(browser.run(theme, vec![]).await, dark, "it is remembered");
}

/// Waits until the row of the worker called `name` is chosen and has the focus.
async fn chosen(browser: &Browser, name: &str) {
    browser.shows(".item.selected:focus .name", name).await;
}
