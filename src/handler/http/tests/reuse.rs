//! Connections that are used again, and what happens when the server has closed one meanwhile.

use super::*;

async fn outcomes(answer: Answer, requests: usize) -> (Vec<Outcome>, server::Record) {
    let (address, record) = serve(answer).await;
    let handler = HttpHandler::new(&settings(&format!("http://{address}/"))).unwrap();
    let mut outcomes = Vec::new();
    for _ in 0..requests {
        let delivery = testing::delivery("x").send();
        outcomes.push(handler.handle(delivery, testing::context()).await);
    }
    (outcomes, record)
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closes_costs_no_attempt() {
    // The server reads the second request of each connection and closes it without a byte of an answer.
    let (outcomes, record) = outcomes(Answer::Once(Vec::new()), 4).await;
    assert_eq!(outcomes, vec![Outcome::Done; 4]);
    // The first connection serves 1 and fails 2; the second serves 2 and fails 3; and so on.
    assert_eq!(record.connections(), 4);
    assert_eq!(record.received().len(), 7);
}

#[tokio::test]
async fn a_request_is_not_sent_again_after_a_byte_of_its_answer() {
    let (outcomes, record) = outcomes(Answer::Once(b"HTTP/1.1 2".to_vec()), 2).await;
    assert_eq!(outcomes[0], Outcome::Done);
    let error = retried(outcomes[1].clone());
    assert!(error.starts_with("no answer: "), "{error}");
    assert_eq!(record.received().len(), 2);
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_not_used() {
    let (address, record) = serve(Answer::ThenClose).await;
    let handler = HttpHandler::new(&settings(&format!("http://{address}/"))).unwrap();
    for sent in 1..=5 {
        let delivery = testing::delivery("x").send();
        let outcome = handler.handle(delivery, testing::context()).await;
        assert_eq!(outcome, Outcome::Done);
        assert_eq!(record.received().len(), sent);
        eventually("the connection is closed", || record.closed() == sent).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_unused_connection_is_closed_after_its_time() {
    let (address, record) = serve(response("200 OK", &[], "")).await;
    let handler = HttpHandler::new(&settings(&format!("http://{address}/"))).unwrap();
    let delivery = testing::delivery("x").send();
    handler.handle(delivery, testing::context()).await;
    assert_eq!(record.closed(), 0);
    tokio::time::sleep(Duration::from_secs(55)).await;
    eventually("the connection is closed", || record.closed() == 1).await;
}
