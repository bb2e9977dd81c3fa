//! Commands to all workers that the list shows: with their number in the confirmation, and followed on the page.

use super::{TOKEN, config};
use crate::harness::gate::Gate;
use crate::harness::vhost::Vhost;
use crate::harness::worker::Worker;
use crate::program::FleetProgram;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_goes_to_those_that_the_filter_shows() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let fleet = FleetProgram::commanding(vhost.url()).await;
    let gate = Gate::open().await;
    let mut first = Worker::ready(&config(&vhost, "web-1", &gate)).await;
    let mut second = Worker::ready(&config(&vhost, "web-2", &gate)).await;
    let mut other = Worker::ready(&config(&vhost, "mail-1", &gate)).await;
    let browser = fleet.browser().await;
    browser.shows("#bulk", "Drain all 3…").await;
    browser.fill("#filter", "web").await;
    browser.shows("#bulk", "Drain 2…").await;
    browser.click("#bulk button:first-child").await;
    browser.shows("#bulk-title", "Drain 2 workers?").await;
    browser.shows("#bulk-who", "web-1, web-2").await;
    browser.shows("#bulk-go", "Drain 2 workers").await;
    browser.click("#bulk-go").await;
    browser.shows("#bulk-problem", "The token is missing").await;
    browser.fill("#bulk-token", TOKEN).await;
    browser.fill("#bulk-reason", "new image").await;
    browser.click("#bulk-go").await;
    browser
        .shows("#rollout-title", "Draining 2 workers, 1 at a time")
        .await;
    assert_eq!(first.ended().await.code, Some(0));
    assert!(!second.has_ended(), "nobody has come for the first");
    browser
        .shows("#rollout-text", "0 of 2 done, 1 under way.")
        .await;
    // The page moves once more when the drain has come, and a click must not fall between.
    browser.shows("#verdict", "drained workers are back").await;
    browser.click("#rollout-stop").await;
    browser
        .shows("#rollout-title", "Drain of 2 workers was stopped.")
        .await;
    browser.click("#rollout-close").await;
    browser.hides("#rollout").await;
    assert!(!second.has_ended(), "no other was begun");
    assert!(!other.has_ended(), "the filter does not show it");
    assert_eq!(browser.complaints().await, [""; 0]);
}
