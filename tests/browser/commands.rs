//! Commands from the page: confirmed, with a token, and where there is none the reason why not.

use serde_json::Value;

use super::{TOKEN, config};
use crate::harness::gate::Gate;
use crate::harness::vhost::Vhost;
use crate::harness::worker::Worker;
use crate::program::{FleetConfig, FleetProgram};

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_confirmed_and_sent_with_the_token() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let fleet = FleetProgram::commanding(vhost.url()).await;
    let gate = Gate::closed().await;
    let mut worker = Worker::ready(&config(&vhost, "web-1", &gate)).await;
    let browser = fleet.browser().await;
    browser.shows(".item.running .name", "web-1").await;

    let pause = ".item [data-command=pause]";
    browser.click(pause).await;
    browser.shows("#command-title", "Pause web-1?").await;
    browser.click("#command-go").await;
    browser
        .shows("#command-problem", "The token is missing")
        .await;
    browser.fill("#command-token", "not-the-token").await;
    browser.click("#command-go").await;
    browser
        .until("#command-problem", "says that it is wrong", |text| {
            text.contains("token") && !text.contains("is the one")
        })
        .await;
    browser.fill("#command-token", TOKEN).await;
    browser.click("#command-go").await;
    browser.shows("#toasts", "web-1: now paused.").await;
    browser.shows(".item.paused .name", "web-1").await;
    worker.until_readiness(503).await;

    // The token is remembered, in the tab alone.
    browser.click(".item [data-command=resume]").await;
    browser.hides("#command-token").await;
    browser.click("#command-go").await;
    browser.shows(".item.running .name", "web-1").await;
    let kept = "return [sessionStorage.getItem('tidegate.token'), JSON.stringify(localStorage), document.cookie, location.href.includes(arguments[0])];";
    let kept = browser.run(kept, vec![TOKEN.into()]).await;
    assert_eq!(kept, serde_json::json!([TOKEN, "{}", "", false]));

    browser.click(".item .name").await;
    browser.click("#worker .buttons button:nth-child(2)").await;
    browser
        .fill("#command-reason", "maintenance <of> host 7")
        .await;
    browser.click("#command-go").await;
    let ended = worker.ended().await;
    assert_eq!(ended.code, Some(0));
    browser.shows("#worker .state-line", "stopped").await;
    browser
        .shows("#worker .outcome", "maintenance <of> host 7")
        .await;
    browser
        .shows("#worker .why", "No commands: it has stopped.")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_in_the_configuration_the_buttons_say_why_they_are_off() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    let fleet = FleetProgram::ready(&FleetConfig::new(vhost.url())).await;
    let gate = Gate::open().await;
    let _worker = Worker::ready(&config(&vhost, "web-1", &gate)).await;
    let browser = fleet.browser().await;
    browser.shows("#commands-off", "Commands are off").await;
    let drain = ".item .act[aria-disabled=true]:last-child";
    browser.click(drain).await;
    browser
        .shows("#toasts", "the fleet program has no token configured")
        .await;
    browser.hides("#command").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_is_read_by_token_asks_for_it() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    let config_of_fleet = FleetConfig::new(vhost.url()).lines(&format!("read_token = \"{TOKEN}\""));
    let fleet = FleetProgram::ready(&config_of_fleet).await;
    let gate = Gate::open().await;
    let _worker = Worker::ready(&config(&vhost, "web-1", &gate)).await;
    let browser = fleet.browser().await;
    browser
        .shows("#waiting-title", "those who have its token")
        .await;
    browser.hides(".item").await;
    browser.click("#waiting-token").await;
    browser.fill("#token-input", "not-the-token").await;
    browser.click("#token-form button[type=submit]").await;
    let kept = "return sessionStorage.getItem('tidegate.token');";
    crate::harness::wait::eventually("the wrong token is thrown away", async || {
        let kept = browser.run(kept, vec![]).await;
        crate::harness::wait::expect_that(kept == Value::Null, || kept.to_string())
    })
    .await;
    // The page may still be on its way back to the question.
    browser
        .shows("#waiting-title", "those who have its token")
        .await;
    browser.click("#waiting-token").await;
    browser.fill("#token-input", TOKEN).await;
    browser.click("#token-form button[type=submit]").await;
    browser.shows(".item.running .name", "web-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_about_a_worker_that_is_lost_is_closed() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    let fleet = FleetProgram::commanding(vhost.url()).await;
    let gate = Gate::closed().await;
    let mut worker = Worker::ready(&config(&vhost, "web-1", &gate)).await;
    let browser = fleet.browser().await;
    browser.click(".item.running [data-command=pause]").await;
    browser.shows("#command-title", "Pause web-1?").await;
    worker.kill().await;
    browser.hides("#command").await;
    browser
        .shows("#toasts", "web-1 is lost: pause was not sent.")
        .await;
    browser.shows("#verdict", "No worker is running.").await;
}
