//! Listen queues: what a connector's callback answers, and what comes of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::bench::{Bench, CONNECTOR_EXCHANGE};
use crate::harness::wait::{eventually_within, expect_that, limit};

/// First answers of a callback; all but the refusals are followed by a 202.
const ANSWERS: [u16; 11] = [202, 200, 400, 404, 503, 429, 408, 425, 401, 403, 204];

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_takes_a_message_refuses_it_or_has_it_wait() {
    let Some(bench) = Bench::new(&[]).await else {
        return;
    };
    for queue in ["push_a", "listen_a"] {
        bench.vhost.declare_with(queue, []).await;
        let exchange = CONNECTOR_EXCHANGE;
        bench.vhost.bind(queue, exchange, queue).await;
    }
    let mut connector = bench.listed("a");
    // No name server knows this host: only the proxy leads to it.
    connector["config"]["listen_callback_uri"] = "http://connector.invalid/callback".into();
    bench.platform.set_connectors(json!([connector]));
    let mut answered = BTreeSet::new();
    bench.platform.answer_callbacks(move |headers, body| {
        if headers["authorization"] != "Bearer jwt" || headers["content-type"] != "application/json"
        {
            return 400;
        }
        let number = body["number"].as_u64().unwrap();
        let status = ANSWERS[usize::try_from(number).unwrap()];
        let refuses = [400, 404].contains(&status);
        if answered.insert(number) || refuses {
            status
        } else {
            202
        }
    });
    let bodies = (0..ANSWERS.len()).map(|number| {
        let work = format!("work-{number}");
        json!({"number": number, "internal": {"work_id": work, "applicant_id": "user"}})
    });
    bench.send_to("listen_a", &bodies.collect::<Vec<_>>()).await;
    let mut worker = bench.worker(&[("WORKER_LISTEN_API_HTTP_PROXY", &bench.url)]);
    let taken = async |count: usize| {
        eventually_within(limit() * 2, "all are dealt with", async || {
            let taken = bench.platform.callbacks();
            expect_that(taken.len() == count, || format!("{taken:?}"))
        })
        .await;
    };
    taken(ANSWERS.len() - 2).await;
    bench.vhost.until_ready("tidegate.opencti.dead", 2).await;
    let tokens = bench.platform.calls();
    let tokens = tokens.iter().filter(|call| call.field == "connectorJWT");
    assert_eq!(
        tokens.count(),
        3,
        "one for all, and one after each of 401 and 403"
    );
    let works = bench.platform.works();
    assert_eq!(works.keys().collect::<Vec<_>>(), ["work-2", "work-3"]);
    for work in works.values() {
        assert!(
            work.processed == 1 && work.errors[0].contains("refused"),
            "{works:?}"
        );
    }
    let (code, listed) = bench
        .run(&["dead", "list", "--connector", "a", "--json"])
        .await;
    assert_eq!(code, Some(0));
    for line in listed.lines() {
        let letter: Value = serde_json::from_str(line).unwrap();
        assert_eq!(letter["reason"], "refused");
    }
    // A letter that was reported reports nothing when it is replayed, and it comes as it was sent.
    bench.platform.answer_callbacks(|_headers, _body| 202);
    let (code, _) = bench
        .run(&["dead", "replay", "--connector", "a", "--json"])
        .await;
    assert_eq!(code, Some(0));
    taken(ANSWERS.len()).await;
    let replayed = json!({"number": 2, "internal": {"work_id": null, "applicant_id": "user"}});
    assert!(bench.platform.callbacks().contains(&replayed));
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
    assert_eq!(bench.platform.works(), works);
}
