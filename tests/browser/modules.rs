//! The page's pure parts, in the browser that runs them: numbers in words, the reader of events, what is said of drains.

use serde_json::{Value, json};

use crate::harness::vhost::Vhost;
use crate::program::{FleetConfig, FleetProgram};
use crate::window::Browser;

/// What `script` makes of the page's module `name`, which it has as `module`.
async fn module(browser: &Browser, name: &str, script: &str) -> Value {
    let script = format!("return import('/{name}').then((module) => {script});");
    browser.run(&script, vec![]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pure_parts_of_the_page_do_what_they_say() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(&FleetConfig::new(vhost.url())).await;
    let browser = fleet.browser().await;
    durations(&browser).await;
    events(&browser).await;
    drains(&browser).await;
    headlines(&browser).await;
    missed_drains(&browser).await;
}

/// When the stream begins again, drains between those known and those it brings may be missing.
async fn missed_drains(browser: &Browser) {
    let script = "{
        const { store, receive } = module;
        const drain = (number) => ({ worker: `w-${number}`, name: 'w', reason: 'r', outcome: 'clean', at: new Date(number * 1000).toISOString(), duration_ms: 1 });
        const newest = (from, to) => Array.from({ length: to - from }, (_, index) => drain(to - 1 - index));
        const begin = (drains) => {
            receive('snapshot', { summary: store.summary, workers: [], drains });
            return [store.drains.length, store.gaps];
        };
        return [begin(newest(0, 200)), begin(newest(100, 300)), begin(newest(1000, 1200)), begin(newest(1190, 1205))];
    }";
    let expected = json!([[200, 0], [300, 0], [200, 1], [15, 2]]);
    assert_eq!(module(browser, "store.js", script).await, expected);
}

async fn durations(browser: &Browser) {
    let script = "[0, 812, 1000, 9949, 9951, 59499, 200000, 3600000, 18600000, 273600000, null].map(module.duration)";
    let expected = json!([
        "0 ms",
        "812 ms",
        "1.0 s",
        "9.9 s",
        "10 s",
        "59 s",
        "3 min 20 s",
        "1 h",
        "5 h 10 min",
        "3 d 4 h",
        "–"
    ]);
    assert_eq!(module(browser, "format.js", script).await, expected);
    let script = "[null, 0, 0.034, 12.34, 1234.5].map(module.rate)";
    let expected = json!(["–", "0", "0.03", "12.3", "1,235"]);
    assert_eq!(module(browser, "format.js", script).await, expected);
    // Marks of an axis are told apart, whatever its length; the zone is the browser's.
    let script = "{
        const at = new Date(2026, 10, 25, 4, 37, 18, 120).getTime();
        return [100, 60_000, 3_600_000, 7 * 86_400_000].map((length) => module.tick(at, length));
    }";
    let expected = json!(["04:37:18.120", "04:37:18", "04:37", "25 Nov"]);
    assert_eq!(module(browser, "format.js", script).await, expected);
    let script = "[0, 0.0123, 0.5, null].map(module.percent)";
    let expected = json!(["0 %", "1.2 %", "50 %", "–"]);
    assert_eq!(module(browser, "format.js", script).await, expected);
}

/// Events come through however the network cuts them.
async fn events(browser: &Browser) {
    let script = "{
        const text = ': hello\\n\\nid: 1\\nevent: a\\ndata: {\"x\":\\ndata: 1}\\n\\nevent: b\\r\\ndata:[2]\\r\\n\\r\\ndata: 3\\n\\nevent: cut\\ndata: 4';
        const pieces = [1, 2, 3, 7, 1000].map((size) => {
            const got = [];
            const parser = new module.Parser((kind, data) => got.push([kind, data]));
            for (let from = 0; from < text.length; from += size) parser.push(text.slice(from, from + size));
            return got;
        });
        return pieces;
    }";
    let all = json!([["a", {"x": 1}], ["b", [2]], ["message", 3]]);
    let expected = json!([all, all, all, all, all]);
    assert_eq!(module(browser, "stream.js", script).await, expected);
}

async fn drains(browser: &Browser) {
    let script = "{
        const item = (start, ms, finish, outcome = 'clean') => ({ name: `w${start}`, start, end: start + ms, ms, outcome, steps: [ms - finish, 0, finish, 0, 0, 0] });
        return [
            module.explain([item(0, 1000, 900)]),
            module.explain([item(0, 10000, 9000), item(10000, 20000, 18000), item(15000, 10000, 9000, 'interrupted')]),
            module.explain([item(0, 1000, 900), item(60000, 1000, 900), item(120000, 2000, 1800)]),
            module.inRange([item(1000000, 1, 1), item(900000, 1, 1), item(100000, 1, 1)], 'roll', 1000000).length,
            module.inRange([item(1000000, 1, 1), item(900000, 1, 1), item(100000, 1, 1)], 'hour', 4000000).length,
            module.leftOut(50000, 61234, false).trim(),
            module.leftOut(50000, 61234, true),
            module.leftOut(50000, 50000, false),
        ];
    }";
    let idle = "For 1 min 58 s between them nothing drained: there the roll waited for its platform, not for a drain.";
    let expected = json!([
        "One drain, 1.0 s. 90 % of it went to letting what ran finish.",
        "3 drains in 30 s, up to 2 at once. 90 % of their time went to letting what ran finish. The longest, w10000, took 20 s. 1 was not clean.",
        format!(
            "3 drains in 2 min 2 s, one at a time. 90 % of their time went to letting what ran finish. The longest, w120000, took 2.0 s. {idle}"
        ),
        2,
        2,
        "Only the latest 50,000 of 61,234 drains are here; the figures above count them all.",
        "",
        "",
    ]);
    assert_eq!(module(browser, "drains.js", script).await, expected);
}

/// What matters first is the headline.
async fn headlines(browser: &Browser) {
    let script = "{
        const at = 10 * 3_600_000;
        const worker = (name, state, ago, started = ago, more = {}) => ({ id: `${name} ${state} ${ago}`, name, state, sinceAt: at - ago, startedAt: at - started, deadlineAt: null, ...more });
        const said = (workers, drains = []) => {
            const counts = { running: 0, starting: 0, paused: 0, draining: 0, silent: 0, lost: 0, stopped: 0 };
            for (const { state } of workers) counts[state] += 1;
            const { title, alarm } = module.verdict(counts, module.situation(workers, drains, at), at);
            return `${alarm ?? 'calm'}: ${title}`;
        };
        const [long, minute] = [7_200_000, 60_000];
        const old = ['web-1', 'web-2'].map((name) => worker(name, 'running', long));
        const cut = { worker: 'x', endAt: at - minute, outcome: 'interrupted', interrupted: 2, unconfirmed: 0 };
        return [
            said([]),
            said(old),
            said([worker('web-1', 'lost', minute), worker('web-2', 'paused', minute)]),
            said([...old, worker('web-3', 'lost', minute)]),
            said([worker('web-1', 'running', 2 * minute), worker('web-2', 'lost', minute, 2 * minute)]),
            said([...old, worker('web-1', 'lost', long + minute)]),
            said([old[0], worker('web-2', 'running', 30_000), worker('web-2', 'lost', minute)]),
            said([old[0], worker('web-2', 'running', 30_000), worker('web-2', 'stopped', minute)]),
            said([...old, worker('web-3', 'stopped', minute), worker('web-4', 'stopped', minute)]),
            said([...old, worker('api-5d8c7f9b6-x2x4q', 'stopped', minute), worker('api-77c9d6f5d-bbkzt', 'running', minute)]),
            said(old, [cut]),
            said(old, [{ ...cut, endAt: at - long }]),
        ];
    }";
    let expected = json!([
        "calm: No worker has reported yet.",
        "calm: All 2 workers are running.",
        "lost: No worker is running.",
        "lost: 1 worker lost in the last hour.",
        "lost: 1 worker lost in the last hour.",
        "calm: All 2 workers are running.",
        "calm: All 2 workers are running.",
        "calm: All 2 workers are running.",
        "silent: 0 of 2 drained workers are back.",
        "calm: All 3 workers are running.",
        "unclean: 1 of 1 drain in the last hour was not clean.",
        "calm: All 2 workers are running.",
    ]);
    assert_eq!(module(browser, "verdict.js", script).await, expected);
}
