//! A worker inside an axum service: one process answers requests and works on a queue.
//!
//! With RabbitMQ on this machine, `cargo run --example axum` starts it. `curl localhost:3000/shipped` says how many
//! orders it has shipped. SIGTERM or Ctrl-C drains the worker; the service answers until the drain is over.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tidegate::lifecycle::Phase;
use tidegate::worker::DrainOutcome;
use tidegate::{Json, Node, Outcome, Worker};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

#[derive(serde::Deserialize)]
struct Order {
    articles: u64,
}

/// What requests and deliveries share.
#[derive(Clone)]
struct Service {
    shipped: Arc<AtomicU64>,
    phase: watch::Receiver<Phase>,
}

async fn shipped(State(service): State<Service>) -> String {
    service.shipped.load(Ordering::Relaxed).to_string()
}

/// For a load balancer: it sends no requests once the drain has begun.
async fn ready(State(service): State<Service>) -> StatusCode {
    match *service.phase.borrow() {
        Phase::Running | Phase::Paused => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://localhost".to_owned());
    let mut terminate = signal(SignalKind::terminate())?;
    let shipped_orders = Arc::new(AtomicU64::new(0));

    let counter = Arc::clone(&shipped_orders);
    let ship = move |Json(order): Json<Order>| {
        let counter = Arc::clone(&counter);
        async move {
            if order.articles == 0 {
                return Outcome::dead("an order needs at least one article");
            }
            counter.fetch_add(1, Ordering::Relaxed);
            Outcome::Done
        }
    };
    let mut worker = Worker::builder(&url)
        .node(Node::new("orders").slots(8).handler(ship))
        .start()
        .await?;

    let service = Service {
        shipped: shipped_orders,
        phase: worker.phase(),
    };
    let app = Router::new()
        .route("/shipped", get(shipped))
        .route("/ready", get(ready))
        .with_state(service);
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async {
        // A sender that is dropped stops the server, too.
        let _ = stopped.await;
    });
    let server = tokio::spawn(server.into_future());

    // The worker also ends by itself: after a remote `drain`, or when the broker refuses it.
    let handle = worker.handle();
    let report = loop {
        tokio::select! {
            report = worker.finished() => break report?,
            _ = terminate.recv() => handle.drain("SIGTERM").await,
            _ = tokio::signal::ctrl_c() => handle.drain("SIGINT").await,
        }
    };
    drop(stop);
    server.await??;
    Ok(match report.outcome {
        DrainOutcome::Clean | DrainOutcome::Unconfirmed => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
