//! The page in its states and dialogs, wide and narrow, light and dark: axe-core finds nothing to complain of.

use std::path::PathBuf;

use serde_json::json;

use crate::TOKEN;
use crate::harness::puppet::Puppet;
use crate::harness::vhost::Vhost;
use crate::program::{FleetConfig, FleetProgram};
use crate::window::Browser;

/// Wide and narrow windows.
const SIZES: [(u32, u32); 2] = [(1440, 900), (390, 844)];

/// The text of axe-core; nothing if `scripts/test` could not fetch it.
fn axe() -> Option<String> {
    let file = match std::env::var_os("TIDEGATE_TEST_AXE") {
        Some(file) => PathBuf::from(file),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../target/axe/node_modules/axe-core/axe.min.js"),
    };
    match std::fs::read_to_string(&file) {
        Ok(text) => Some(text),
        Err(error) => {
            eprintln!(
                "SKIPPED: axe-core is not at {} ({error}): scripts/test fetches it",
                file.display()
            );
            None
        }
    }
}

/// A browser with axe-core.
struct Checker {
    browser: Browser,
    axe: String,
}

impl Checker {
    /// Asserts that axe-core finds nothing in what is shown, in both themes.
    async fn check(&self, state: &str) {
        let load = format!("if (!window.axe) {{ {} }} return null;", self.axe);
        self.browser.run(&load, vec![]).await;
        let run = "
            document.documentElement.dataset.theme = arguments[0];
            await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
            await Promise.allSettled(document.getAnimations().filter((each) => each.effect.getComputedTiming().iterations !== Infinity).map((each) => each.finished));
            const { violations } = await axe.run(document, { resultTypes: ['violations'], ...arguments[1] });
            return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(' ')).join(', ')}`);";
        // The other theme changes nothing but colours.
        let colours = json!({"runOnly": ["color-contrast"]});
        for (theme, only) in [("light", json!({})), ("dark", colours)] {
            let script = format!("return (async function () {{ {run} }}).apply(null, arguments);");
            let found = self.browser.run(&script, vec![theme.into(), only]).await;
            assert_eq!(found, json!([]), "{state}, {theme}");
        }
    }

    /// Opens the page at `url`, and waits until something visible that `css` selects shows `text`.
    async fn visit(&self, url: &str, css: &str, text: &str) {
        self.browser.visit("about:blank").await;
        self.browser.visit(url).await;
        self.browser.shows(css, text).await;
    }
}

/// One worker in each state. It lives for as long as the puppets are kept.
async fn every_state(vhost: &Vhost) -> Vec<Puppet> {
    let mut puppets = Vec::new();
    for state in ["running", "starting", "paused", "draining"] {
        let puppet = Puppet::new(vhost, &format!("web-{state}")).await;
        let mut message = puppet.state(1, state);
        message["nodes"][0]["title"] = "Orders of today".into();
        if state == "draining" {
            message["deadline_ms"] = 600_000.into();
        }
        puppet.say("state", &message).await;
        puppet.say("beat", &puppet.beat(2, 5)).await;
        puppets.push(puppet);
    }
    let stopped = Puppet::new(vhost, "web-stopped").await;
    stopped.say("state", &stopped.state(1, "running")).await;
    let mut drain = stopped.drain(2);
    drain["outcome"] = "interrupted".into();
    drain["interrupted"] = 2.into();
    drain["interrupted_ids"] = json!(["m-1", "m-2"]);
    stopped.say("drain", &drain).await;
    puppets.push(stopped);
    let mut silent = Puppet::new(vhost, "web-silent").await;
    silent.lease = 1_000;
    silent.hang();
    silent.say("state", &silent.state(1, "running")).await;
    puppets.push(silent);
    let mut lost = Puppet::new(vhost, "web-lost").await;
    lost.lease = 1_000;
    lost.say("state", &lost.state(1, "running")).await;
    lost.say("beat", &lost.beat(2, 5)).await;
    lost.crash().await;
    puppets
}

/// A fleet with a worker in each state, and a token for commands.
async fn fleets() -> (Vhost, FleetProgram, Vec<Puppet>) {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::commanding(vhost.url()).await;
    let puppets = every_state(&vhost).await;
    (vhost, fleet, puppets)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_is_accessible_empty_full_and_filtered() {
    let Some(axe) = axe() else { return };
    let empty = Vhost::new().await;
    let nobody = FleetProgram::ready(&FleetConfig::new(empty.url())).await;
    let closed = FleetConfig::new(empty.url()).lines(&format!("read_token = \"{TOKEN}\""));
    let closed = FleetProgram::ready(&closed).await;
    let (_vhost, fleet, _puppets) = fleets().await;
    for (width, height) in SIZES {
        let checker = Checker {
            browser: Browser::sized(width, height).await,
            axe: axe.clone(),
        };
        let browser = &checker.browser;
        let (none, first) = (nobody.url("/").await, "Waiting for the first worker");
        checker.visit(&none, "#none", first).await;
        checker.check("an empty fleet").await;
        let (secret, title) = (closed.url("/").await, "those who have its token");
        checker.visit(&secret, "#waiting-title", title).await;
        checker.check("a fleet that wants a token").await;
        let queues = fleet.url("/#/queues").await;
        checker.visit(&queues, "main", "orders").await;
        checker.check("the queues").await;
        let queue = fleet.url("/#/queues/orders").await;
        checker.visit(&queue, "#queue h1", "Orders of today").await;
        checker.check("a queue").await;
        let page = fleet.url("/").await;
        checker.visit(&page, ".item.lost .name", "web-lost").await;
        browser.shows(".item.silent .name", "web-silent").await;
        checker.check("a worker in each state").await;
        browser.click(".item.running .open").await;
        browser.shows(".item.running .inside", "Orders").await;
        browser
            .run("document.querySelector('.lane').focus();", vec![])
            .await;
        browser.shows("#drain-detail", "interrupted").await;
        checker.check("an open row and a drain").await;
        browser.fill("#filter", "nothing has this").await;
        browser.shows("#none-title", "No worker matches").await;
        checker.check("a filter that nothing matches").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dialogs_are_accessible() {
    let Some(axe) = axe() else { return };
    let (_vhost, fleet, _puppets) = fleets().await;
    for (width, height) in SIZES {
        let checker = Checker {
            browser: Browser::sized(width, height).await,
            axe: axe.clone(),
        };
        let browser = &checker.browser;
        let page = fleet.url("/").await;
        checker
            .visit(&page, ".item.running .name", "web-running")
            .await;
        for (button, dialog, close) in [
            ("#help-button", "#help", "#help button[type=submit]"),
            ("#token-button", "#token-dialog", "#token-cancel"),
        ] {
            browser.click(button).await;
            browser.shows(dialog, "").await;
            checker.check(dialog).await;
            browser.click(close).await;
            browser.hides(dialog).await;
        }
        browser.click("#bulk button").await;
        browser.shows("#bulk-title", "Drain").await;
        checker.check("the dialog of a bulk command").await;
        // The row's own buttons are hidden in narrow windows; those on the worker's page are not.
        for (worker, command, title) in [
            ("running", "pause", "Pause web-running?"),
            ("paused", "resume", "Resume web-paused?"),
            ("starting", "drain", "Drain web-starting?"),
        ] {
            let page = fleet.url(&format!("/#/workers/web-{worker}")).await;
            checker
                .visit(&page, "#worker h1", &format!("web-{worker}"))
                .await;
            let place = if command == "drain" { 2 } else { 1 };
            browser
                .click(&format!("#worker .buttons button:nth-child({place})"))
                .await;
            browser.shows("#command-title", title).await;
            checker.check(title).await;
            browser.click("#command-go").await;
            browser
                .shows("#command-problem", "The token is missing")
                .await;
            checker.check(&format!("{title} and no token")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_pages_and_outages_are_accessible() {
    let Some(axe) = axe() else { return };
    let (_vhost, mut fleet, _puppets) = fleets().await;
    for (width, height) in SIZES {
        let checker = Checker {
            browser: Browser::sized(width, height).await,
            axe: axe.clone(),
        };
        for (worker, css, text) in [
            ("web-running", "#worker .facts", "Slots in use"),
            ("web-draining", "#worker .state-line", "draining"),
            ("web-stopped", "#worker .outcome", "interrupted"),
            ("web-lost", "#worker .reason", "at its last beat"),
            ("nobody", "#worker", "No such worker"),
        ] {
            let page = fleet.url(&format!("/#/workers/{worker}")).await;
            checker.visit(&page, css, text).await;
            checker.check(worker).await;
        }
    }
    let checker = Checker {
        browser: Browser::open().await,
        axe,
    };
    let page = fleet.url("/").await;
    checker
        .visit(&page, ".item.running .name", "web-running")
        .await;
    fleet.kill().await;
    let title = "Not connected since";
    checker.browser.shows("#stale-title", title).await;
    checker.check("a program that is gone").await;
}
