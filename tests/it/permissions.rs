//! Who may command whom: the broker's permissions, as docs/status-protocol.md names them.

use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;
use serde_json::json;
use tidegate::internal::status::control::COMMAND_TYPE;
use tidegate::lifecycle::Phase;

use crate::harness::commander::Commander;
use crate::harness::fleet::FleetProgram;
use crate::harness::gate::Gate;
use crate::harness::run;
use crate::harness::status::{StatusMessage, StatusTap};
use crate::harness::user::User;
use crate::harness::vhost::Vhost;
use crate::harness::wait::within;
use crate::harness::worker::{Worker, WorkerConfig};

const NOTHING: &str = "^$";

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_needs_no_more_than_is_written_down_and_a_commander_one_exchange() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.declare("orders.dead", "quorum").await;
    let tap = StatusTap::start(&vhost).await;
    let channel = vhost.channel().await;
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let none = FieldTable::default();
    let name = "tidegate.control".into();
    let declare = channel.exchange_declare(name, ExchangeKind::Topic, durable, none);
    within("exchange.declare", declare).await.unwrap();

    let gate = Gate::open().await;
    let own = |rest: &str| format!(r"^(orders.*|tidegate\.control\.web-1-.*{rest})$");
    let may_reply = r"|tidegate\.status|amq\.default";
    let (configure, write) = (own(""), own(may_reply));
    let read = own(r"|tidegate\.control");
    let worker_user = User::new(&vhost, &configure, &write, &read).await;
    let config = WorkerConfig::for_orders(worker_user.url(), &gate, "").name("web-1");
    let mut worker = Worker::listening(&config).await;
    let id = tap.running_id().await;

    let user = User::new(&vhost, NOTHING, r"^tidegate\.control$", NOTHING).await;
    let commander = Commander::connect(user.url()).await;
    let ping = json!({"command": "ping"});
    let reply = commander.command(&id, &ping).await;
    assert!(reply.ok && reply.phase == Phase::Running, "{reply:?}");

    let user = User::new(&vhost, NOTHING, NOTHING, NOTHING).await;
    let nobody = Commander::connect(user.url()).await;
    let drain = json!({"command": "drain"}).to_string().into_bytes();
    let refused = nobody
        .send(&format!("worker.{id}"), Some(COMMAND_TYPE), drain.clone())
        .await
        .unwrap_err();
    assert!(refused.contains("ACCESS_REFUSED"), "{refused}");

    let reply = commander.command(&id, &json!({"command": "drain"})).await;
    assert!(reply.ok, "{reply:?}");
    assert_eq!(worker.ended().await.code, Some(0));
    tap.drain().await;
    let log = worker.log().log();
    let warnings = log.iter().filter(|line| line.level() == "WARN");
    assert_eq!(warnings.count(), 0, "{}", worker.log().text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_may_not_reply_obeys_all_the_same() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let tap = StatusTap::start(&vhost).await;
    let gate = Gate::open().await;
    let all_but_replies = r"^(?!amq\.default$)";
    let user = User::new(&vhost, ".*", all_but_replies, ".*").await;
    let config = WorkerConfig::for_orders(user.url(), &gate, "");
    let mut worker = Worker::listening(&config).await;
    let key = format!("worker.{}", tap.running_id().await);
    let commander = Commander::new(&vhost).await;
    let send = async |command: &str| {
        let body = json!({"command": command}).to_string().into_bytes();
        commander
            .send(&key, Some(COMMAND_TYPE), body)
            .await
            .unwrap()
    };
    send("ping").await;
    let refused = worker
        .logged("a reply to a command could not be sent")
        .await;
    assert!(refused.text("error").contains("amq.default"), "{refused:?}");
    send("pause").await;
    tap.state("paused").await;
    send("drain").await;
    assert_eq!(worker.ended().await.code, Some(0));
    tap.drain().await;
    tap.messages()
        .iter()
        .for_each(StatusMessage::obeys_its_schema);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_need_no_more_than_is_written_down() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let gate = Gate::open().await;
    let own = r"tidegate\.fleet\.client-.*";
    let user = User::new(
        &vhost,
        &format!("^{own}"),
        &format!(r"^({own}|tidegate\.control|amq\.default)$"),
        &format!(r"^({own}|tidegate\.status(\.log)?)$"),
    )
    .await;
    let command = async |arguments: &[&str]| {
        let url = ["--url", user.url().as_str()];
        run::ended(run::spawn(&[arguments, &url].concat())).await
    };
    // Without a log first, and then with one.
    for with_log in [false, true] {
        let _fleet = if with_log {
            Some(FleetProgram::ready(vhost.url(), "").await)
        } else {
            None
        };
        let config = WorkerConfig::for_orders(vhost.url(), &gate, "").name("web");
        let mut worker = Worker::listening(&config).await;
        for arguments in [
            &["status"][..],
            &["pause", "web"],
            &["resume", "--all"],
            &["drain", "web", "--wait"],
        ] {
            let run = command(arguments).await;
            assert_eq!(run.code, Some(0), "{arguments:?}, log {with_log}: {run:?}");
        }
        assert_eq!(worker.ended().await.code, Some(0));
    }
    let user = User::new(&vhost, NOTHING, r"^tidegate\.control$", NOTHING).await;
    let url = ["drain", "--all", "--url", user.url().as_str()];
    let refused = run::ended(run::spawn(&url)).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let expected = "the user lacks a permission; see \"Permissions\"";
    assert!(refused.stderr.contains(expected), "{refused:?}");
}
