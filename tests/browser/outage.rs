//! The fleet program ends, and is back.

use super::config;
use crate::harness::gate::Gate;
use crate::harness::vhost::Vhost;
use crate::harness::worker::Worker;
use crate::program::{FleetConfig, FleetProgram};

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_said_and_what_happened_meanwhile_is_caught_up_with() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let gate = Gate::open().await;
    let mut first = Worker::ready(&config(&vhost, "web-1", &gate)).await;
    let _second = Worker::ready(&config(&vhost, "web-2", &gate)).await;
    let mut fleet = FleetProgram::ready(&FleetConfig::new(vhost.url())).await;
    let address = fleet.address().await;
    let browser = fleet.browser().await;
    browser
        .shows("#verdict", "All 2 workers are running.")
        .await;
    browser.shows("#pulse", "Live").await;
    browser.hides("#stale").await;

    fleet.kill().await;
    browser.shows("#stale-title", "Not connected since").await;
    browser
        .shows("#stale-text", "What you see is from then")
        .await;
    browser.shows("#pulse", "Not connected").await;
    browser
        .shows("#verdict", "All 2 workers are running.")
        .await;
    first.drained().await;
    // In vain; once the program is back, the page may be sooner than a click.
    browser.click("#stale-retry").await;
    browser.shows("#pulse", "Not connected").await;

    let again = FleetConfig::new(vhost.url()).http(&address);
    let _fleet = FleetProgram::ready(&again).await;
    browser.hides("#stale").await;
    browser.shows("#pulse", "Live").await;
    browser
        .shows("#verdict", "0 of 1 drained workers are back.")
        .await;
    browser.shows(".item.stopped .name", "web-1").await;
    browser.shows("#lanes .lane.clean", "web-1").await;
}
