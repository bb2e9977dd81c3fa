//! A broker of a test's own can be ended and started again, and it can raise its alarm.

use crate::harness::broker::DedicatedBroker;
use crate::harness::wait::{eventually, expect_that};

#[tokio::test(flavor = "multi_thread")]
async fn a_dedicated_broker_keeps_its_messages_over_an_end_of_either_kind() {
    let mut broker = DedicatedBroker::start().await;
    let mut vhost = broker.vhost().await;
    vhost.declare("q", "quorum").await;
    vhost.publish("q", 3).await;
    broker.kill().await;
    broker.start_again().await;
    vhost.reconnect().await;
    vhost.until_ready("q", 3).await;
    broker.stop().await;
    broker.start_again().await;
    vhost.reconnect().await;
    vhost.until_ready("q", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_alarm_stops_publishing_until_it_ends() {
    let broker = DedicatedBroker::start().await;
    let vhost = broker.vhost().await;
    vhost.declare("q", "classic").await;
    broker.set_memory_alarm(true).await;
    let publishing = tokio::spawn(async move {
        vhost.publish("q", 1).await;
        vhost
    });
    let management = broker.server().management();
    eventually("the publishing connection is blocked", async || {
        let found = management.get("/api/connections").await?;
        let states: Vec<_> = found.as_array().into_iter().flatten().collect();
        let blocked = states.iter().any(|one| one["state"] == "blocked");
        expect_that(blocked, || format!("{found}"))
    })
    .await;
    assert!(!publishing.is_finished());
    broker.set_memory_alarm(false).await;
    let vhost = publishing.await.unwrap();
    vhost.until_ready("q", 1).await;
}
