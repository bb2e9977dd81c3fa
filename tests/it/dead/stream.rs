//! A queue of dead letters that is a stream: it cannot be read, and harms no other queue.

use lapin::types::AMQPValue;

use super::scene::{Letter, dead, scene, taken_ids};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_refused_by_name_and_the_next_queue_is_dealt_with() {
    let vhost = scene("quorum").await;
    let stream = AMQPValue::LongString("stream".into());
    vhost
        .declare_with("bills.dead", [("x-queue-type", stream)])
        .await;
    vhost.publish("bills.dead", 1).await;
    for (arguments, done) in [
        (&["list", "bills", "orders"][..], "1 picked"),
        (&["show", "bills", "orders"], "1 picked"),
        (&["replay", "bills", "orders"], "1 picked, 1 replayed"),
        (&["drop", "bills", "orders", "--yes"], "1 picked, 1 dropped"),
    ] {
        let letter = Letter::new("a").message();
        vhost.publish_messages("orders.dead", [letter]).await;
        let run = dead(&vhost, arguments).await;
        assert_eq!(run.code, Some(1), "{run:?}");
        let refused =
            "queue \"bills.dead\" is a stream, and a stream cannot be read with basic.get";
        assert!(run.stdout.contains(refused), "{run:?}");
        let done = format!("orders.dead: 1 dead letter seen, {done}\n");
        assert!(run.stdout.ends_with(&done), "{run:?}");
        taken_ids(&vhost, "orders.dead").await;
    }
    assert_eq!(vhost.facts("bills.replay").await, None, "no journal");
}
