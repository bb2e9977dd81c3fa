//! What the harness says of queues is what is in them.

use lapin::types::AMQPValue;

use crate::harness::vhost::Vhost;

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_consumers_are_counted_and_taken() {
    let vhost = Vhost::new().await;
    for kind in ["classic", "quorum"] {
        vhost.declare(kind, kind).await;
        vhost.publish(kind, 600).await;
        assert_eq!(vhost.facts(kind).await, Some((600, 0)));
        let channel = vhost.channel().await;
        let got = channel
            .basic_get(kind.into(), lapin::options::BasicGetOptions::default())
            .await
            .unwrap();
        assert!(got.is_some());
        assert_eq!(vhost.ready(kind).await, 599);
        vhost.until_unacked(kind, 1).await;
        channel.close(200, "OK".into()).await.unwrap();
        vhost.until_ready(kind, 600).await;
        let taken = vhost.take_all(kind).await;
        assert_eq!(taken.len(), 600);
        let redelivered: Vec<_> = taken.iter().filter(|message| message.redelivered).collect();
        assert_eq!(redelivered.len(), 1);
        assert_eq!(redelivered[0].id, "0");
        assert_eq!(redelivered[0].body, b"0");
        assert_eq!(redelivered[0].exchange, "");
        assert_eq!(redelivered[0].routing_key, kind);
        assert_eq!(*redelivered[0].properties.delivery_mode(), Some(2));
        vhost.delete(kind).await;
        assert_eq!(vhost.facts(kind).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn virtual_hosts_do_not_see_each_other() {
    let (one, other) = (Vhost::new().await, Vhost::new().await);
    let arguments = [("x-single-active-consumer", AMQPValue::Boolean(true))];
    one.declare_with("q", arguments).await;
    assert_eq!(one.consumers("q").await, 0);
    assert_eq!(other.facts("q").await, None);
}
