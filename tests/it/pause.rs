//! Pauses and resumptions, one right after the other.

use serde_json::json;

use crate::harness::commander::Commander;
use crate::harness::scene::listening_worker;

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_resumed_at_once_is_no_cancel_by_the_broker() {
    let (vhost, tap, gate, mut worker) = listening_worker("").await;
    let id = tap.running_id().await;
    let commander = Commander::new(&vhost).await;
    for round in 1..=10 {
        for word in ["pause", "resume"] {
            let reply = commander.command(&id, &json!({"command": word})).await;
            assert!(reply.ok, "{reply:?}");
        }
        vhost.publish_all("orders", [round.to_string()]).await;
        gate.finished(round).await;
    }
    worker.until_ready().await;
    worker.drained().await;
    let log = worker.log().text();
    for wrong in ["the broker cancelled the consumer", "cannot consume"] {
        assert!(!log.contains(wrong), "{log}");
    }
}
