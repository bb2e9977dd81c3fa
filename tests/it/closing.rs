//! Connections that close in order.

use std::time::Duration;

use tidegate::config::BrokerSettings;
use tidegate::internal::broker::{AmqpRuntime, Publisher, connect};

use crate::harness::vhost::Vhost;

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_was_just_dropped_does_not_keep_its_connection_from_closing_in_order() {
    let vhost = Vhost::new().await;
    let settings = BrokerSettings::from_url(vhost.url().as_str()).unwrap();
    let runtime = AmqpRuntime::start().unwrap();
    for round in 0..30 {
        let link = connect(&settings, "tidegate test", &runtime).await.unwrap();
        for _ in 0..5 {
            drop(Publisher::open(&link).await.unwrap());
        }
        let closed = link.close(Duration::from_secs(30)).await;
        closed.unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
}
