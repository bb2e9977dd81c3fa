//! What the page tells of what it shows: the workers in sight are asked for figures, and a page that nobody sees tells
//! nothing.

use serde_json::{Value, json};

use crate::harness::puppet::Puppet;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::program::{FleetConfig, FleetProgram};
use crate::window::Browser;

/// Keeps what is told to the fleet program from now on, and fails the next so many requests.
const SPY: &str = "
    window.told = [];
    window.fail = 0;
    window.reads = 0;
    window.seen = 'visible';
    const send = window.fetch;
    window.fetch = (url, options) => {
        if (url !== 'api/v1/watch') return send(url, options);
        window.told.push(JSON.parse(options.body));
        if (window.fail > 0) {
            window.fail -= 1;
            return Promise.reject(new TypeError('failed'));
        }
        return send(url, options);
    };
    Object.defineProperty(document, 'visibilityState', { configurable: true, get() {
        window.reads += 1;
        return window.seen;
    } });";

/// What was told since the spy came, with the workers in order.
async fn told(browser: &Browser) -> Vec<Value> {
    let told =
        "return window.told.map(({ all, workers }) => ({ all, workers: workers.toSorted() }));";
    let told = browser.run(told, vec![]).await;
    told.as_array().expect("a list").clone()
}

/// Waits until the last that was told is this.
async fn tells(browser: &Browser, wanted: &Value) {
    eventually(format_args!("the page tells {wanted}"), async || {
        let told = told(browser).await;
        expect_that(told.last() == Some(wanted), || format!("{told:?}"))
    })
    .await;
}

async fn filter(browser: &Browser, text: &str) {
    let script = "const filter = document.querySelector('#filter'); filter.value = arguments[0]; filter.dispatchEvent(new Event('input'));";
    browser.run(script, vec![text.into()]).await;
}

fn list(workers: &[&str]) -> Value {
    json!({"all": true, "workers": workers})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_tells_what_it_shows_while_somebody_sees_it() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(&FleetConfig::new(vhost.url())).await;
    let mut puppets = Vec::new();
    for id in ["web-1", "web-2", "mail-1"] {
        let puppet = Puppet::new(&vhost, id).await;
        puppet.say("state", &puppet.state(1, "running")).await;
        puppets.push(puppet);
    }
    let browser = fleet.browser().await;
    browser
        .shows("#verdict", "All 3 workers are running.")
        .await;
    browser.run(SPY, vec![]).await;

    filter(&browser, "web").await;
    tells(&browser, &list(&["web-1", "web-2"])).await;
    browser
        .run("location.hash = '#/workers/mail-1';", vec![])
        .await;
    tells(&browser, &json!({"all": false, "workers": ["mail-1"]})).await;
    browser.run("location.hash = '#/';", vec![]).await;
    tells(&browser, &list(&["mail-1", "web-1", "web-2"])).await;

    // What did not arrive is told again.
    browser.run("window.fail = 1;", vec![]).await;
    filter(&browser, "mail").await;
    eventually("it is told twice", async || {
        let told = told(&browser).await;
        let times = told.iter().filter(|each| **each == list(&["mail-1"]));
        expect_that(times.count() >= 2, || format!("{told:?}"))
    })
    .await;

    // In a tab that nobody sees, the page looks at whether it is seen, and tells nothing.
    let hide = "window.seen = 'hidden'; window.told = []; window.reads = 0;";
    browser.run(hide, vec![]).await;
    filter(&browser, "web-2").await;
    eventually("it has looked whether it is seen", async || {
        let reads = browser.run("return window.reads;", vec![]).await;
        expect_that(reads.as_u64() >= Some(3), || reads.to_string())
    })
    .await;
    assert_eq!(told(&browser).await, [] as [Value; 0]);
    filter(&browser, "web-1").await;
    let show = "window.seen = 'visible'; document.dispatchEvent(new Event('visibilitychange'));";
    browser.run(show, vec![]).await;
    tells(&browser, &list(&["web-1"])).await;
    assert_eq!(told(&browser).await, [list(&["web-1"])]);
}
