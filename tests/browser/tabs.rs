//! Many tabs of one browser: they share a stream of events, because a browser opens six connections to a server.

use super::config;
use crate::harness::gate::Gate;
use crate::harness::vhost::Vhost;
use crate::harness::worker::Worker;
use crate::program::{FleetConfig, FleetProgram};
use crate::window::Browser;

/// More than the connections that a browser opens to one server.
const TABS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn more_tabs_than_connections_are_all_live() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    let fleet = FleetProgram::ready(&FleetConfig::new(vhost.url())).await;
    let gate = Gate::open().await;
    let mut worker = Worker::ready(&config(&vhost, "web-1", &gate)).await;
    let browser = Browser::open().await;
    let page = fleet.url("/").await;
    browser.visit(&page).await;
    for _ in 1..TABS {
        browser.shows(".item.running .name", "web-1").await;
        browser.visit_in_new_tab(&page).await;
    }
    browser.shows("#pulse", "Live").await;
    browser.shows(".item.running .name", "web-1").await;
    worker.drained().await;
    browser.shows(".item.stopped .name", "web-1").await;
    browser.click(".item.stopped .name").await;
    browser.shows("#worker .outcome", "clean").await;
}
