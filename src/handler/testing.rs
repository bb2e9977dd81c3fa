//! Deliveries and contexts for the handlers' tests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Context;
use crate::delivery::{Delivery, HeaderValue, Properties};
use crate::lifecycle::DrainTrigger;

/// A delivery to be changed and then sent.
pub(super) struct Draft(pub(super) Delivery);

/// A first delivery of `body` on the queue `orders`, with the message id `m-1`.
pub(super) fn delivery(body: impl Into<Bytes>) -> Draft {
    Draft(Delivery {
        queue: "orders".into(),
        exchange: "shop".into(),
        routing_key: "order.new".into(),
        redelivered: false,
        attempt: 1,
        properties: Properties {
            message_id: Some("m-1".into()),
            ..Properties::default()
        },
        body: body.into(),
    })
}

impl Draft {
    pub(super) fn header(mut self, name: &str, value: impl Into<HeaderValue>) -> Self {
        self.0.properties.headers.insert(name.into(), value.into());
        self
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Delivery)) -> Self {
        change(&mut self.0);
        self
    }

    pub(super) fn send(self) -> Arc<Delivery> {
        Arc::new(self.0)
    }
}

/// The context of a worker that is not draining.
pub(super) fn context() -> Context {
    Context::new(DrainTrigger::new().signal())
}

/// Waits until `condition` holds; far longer than any machine needs, and then it is a failure.
pub(super) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
