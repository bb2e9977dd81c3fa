//! What the page says while the fleet program is without its broker, or has not read its log yet.

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::basic::AMQPMethod;
use nix::sys::signal::Signal;

use super::config;
use crate::harness::gate::Gate;
use crate::harness::proxy::{Direction, Proxy};
use crate::harness::puppet::Puppet;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::Worker;
use crate::program::{FleetConfig, FleetProgram};
use crate::window::Browser;

/// Keeps every title that the notice about the broker ever has.
const KEEP_TITLES: &str = "
    const title = document.querySelector('#brokerless-title');
    window.titles = [title.textContent];
    new MutationObserver(() => window.titles.push(title.textContent)).observe(title, { childList: true, characterData: true, subtree: true });";

#[tokio::test(flavor = "multi_thread")]
async fn a_program_without_its_broker_says_so_and_then_that_it_reads_its_log() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let gate = Gate::open().await;
    // The log exists, and has something in it.
    drop(FleetProgram::ready(&FleetConfig::new(vhost.url())).await);
    let _worker = Worker::ready(&config(&vhost, "web-1", &gate)).await;
    let proxy = Proxy::start(vhost.url()).await;
    proxy.refuse(true);
    let fleet = FleetProgram::starting(&FleetConfig::new(&proxy.url(vhost.url())));
    let browser = fleet.browser().await;
    browser
        .shows("#brokerless-title", "has no connection to the broker.")
        .await;
    browser
        .shows("#brokerless-text", "commands reach nobody")
        .await;
    browser.shows("#pulse", "No broker").await;
    browser.run(KEEP_TITLES, vec![]).await;

    // The end of the log does not come.
    let hold = proxy.hold(Direction::ToClient, |event| {
        matches!(
            event.method(),
            Some(AMQPClass::Basic(AMQPMethod::Deliver(_)))
        )
    });
    proxy.refuse(false);
    eventually("the page has said that the log is being read", async || {
        let titles = browser.run("return window.titles;", vec![]).await;
        let reading = titles.to_string().contains("still reading its log");
        expect_that(reading, || titles.to_string())
    })
    .await;
    hold.release();
    browser.hides("#brokerless").await;
    browser.shows(".item.running .name", "web-1").await;

    proxy.refuse(true);
    proxy.cut();
    browser
        .shows("#brokerless-title", "has no connection to the broker.")
        .await;
    browser.shows(".item.running .name", "web-1").await;
    proxy.refuse(false);
    browser.hides("#brokerless").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_stay_under_the_pointer_when_a_notice_comes_and_goes() {
    let vhost = Vhost::new().await;
    let proxy = Proxy::start(vhost.url()).await;
    let fleet = FleetProgram::ready(&FleetConfig::new(&proxy.url(vhost.url()))).await;
    let puppet = Puppet::new(&vhost, "web-1").await;
    puppet.say("state", &puppet.state(1, "running")).await;
    let browser = fleet.browser().await;
    // The page is shorter than its window: there is nothing to scroll.
    browser.point_at(".item.running .word").await;
    let before = first_row(&browser).await;
    proxy.refuse(true);
    proxy.cut();
    browser
        .shows("#brokerless-title", "has no connection to the broker.")
        .await;
    let after = first_row(&browser).await;
    assert!((after - before).abs() <= 1.0, "{before} became {after}");
    browser.run("scrollTo(0, 0);", vec![]).await;
    browser.point_at(".item.running .word").await;
    let before = first_row(&browser).await;
    proxy.refuse(false);
    browser.hides("#brokerless").await;
    let after = first_row(&browser).await;
    assert!((after - before).abs() <= 1.0, "{before} became {after}");
}

/// Where the first row begins in the window, in pixels.
async fn first_row(browser: &Browser) -> f64 {
    let place = "return document.querySelector('.item').getBoundingClientRect().top;";
    let place = browser.run(place, vec![]).await;
    place.as_f64().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hangs_is_silent_on_the_page_until_it_goes_on() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let gate = Gate::open().await;
    let fleet = FleetProgram::ready(&FleetConfig::new(vhost.url())).await;
    let hanging = Worker::ready(&config(&vhost, "web-1", &gate)).await;
    let _other = Worker::ready(&config(&vhost, "web-2", &gate)).await;
    let browser = fleet.browser().await;
    browser
        .shows("#verdict", "All 2 workers are running.")
        .await;
    hanging.logged("listening for commands").await;
    hanging.signal(Signal::SIGSTOP);
    browser.shows("#verdict", "1 worker silent.").await;
    browser.shows("#verdict-more", "web-1 went silent").await;
    browser.shows(".item.silent .name", "web-1").await;
    browser.click(".item.silent .name").await;
    browser.shows("#worker .state-line", "silent").await;
    browser.shows("#worker .history", "silent").await;
    hanging.signal(Signal::SIGCONT);
    browser.shows("#worker .state-line", "running").await;
    browser.click("#back").await;
    browser
        .shows("#verdict", "All 2 workers are running.")
        .await;
    assert_eq!(browser.complaints().await, [""; 0]);
}
