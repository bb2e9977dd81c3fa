//! Looking at letters while nobody reads what is shown.

use tokio::io::AsyncReadExt as _;

use super::scene::{Letter, dead, scene, spawn, taken_ids};
use crate::harness::run::ended;
use crate::harness::wait::within;

/// Bytes of a body: more than a pipe holds in all.
const BODY: usize = 60 << 10;

fn letters() -> impl Iterator<Item = (lapin::BasicProperties, Vec<u8>)> {
    (0..10).map(|number| {
        let (properties, _) = Letter::new(&format!("m-{number}")).message();
        (properties, vec![b'x'; BODY])
    })
}

fn ids() -> Vec<String> {
    (0..10).map(|number| format!("m-{number}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_leaves_the_letters_in_their_order() {
    for kind in ["quorum", "classic"] {
        let vhost = scene(kind).await;
        vhost.publish_messages("orders.dead", letters()).await;
        let mut showing = spawn(vhost.url(), &["show", "orders", "--limit", "5"]);
        drop(showing.stdout.take());
        let shown = ended(showing).await;
        assert_eq!(shown.code, Some(0), "{shown:?}");
        assert!(!shown.stderr.contains("panicked"), "{shown:?}");
        let mut left = taken_ids(&vhost, "orders.dead").await;
        if kind == "quorum" && !vhost.broker_is_at_least(4, 0).await {
            // There a quorum queue takes what comes back behind what is new.
            left.rotate_right(5);
        }
        assert_eq!(left, ids(), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_does_not_keep_letters_from_others() {
    let vhost = scene("quorum").await;
    vhost.publish_messages("orders.dead", letters()).await;
    // Its output is more than the pipe holds. Once some of it is there, the letters must be back.
    let mut showing = spawn(vhost.url(), &["show", "orders"]);
    let mut output = showing.stdout.take().unwrap();
    let mut first = [0];
    let read = output.read_exact(&mut first);
    within("the first byte", read).await.unwrap();
    let listed = dead(&vhost, &["list", "orders", "--json"]).await;
    assert_eq!(listed.lines().len(), 10, "{listed:?}");
    let mut rest = Vec::new();
    let read = output.read_to_end(&mut rest);
    within("the rest", read).await.unwrap();
    assert!(rest.len() > 10 * BODY);
    assert_eq!(ended(showing).await.code, Some(0));
    assert_eq!(taken_ids(&vhost, "orders.dead").await, ids());
}
