//! `tidegate status --queues`: the queues that workers work, and how many messages wait in each.

use console::style;
use tokio_util::sync::CancellationToken;

use super::render::{and_held, short_ms};
use super::width;
use crate::commands::connection::explain_client_error;
use crate::commands::table::{Column, Table, plain};
use crate::output::print_aside;
use tidegate::config::BrokerSettings;
use tidegate_fleet::FleetClient;
use tidegate_fleet::api::{Depth, Queue, Queues};

/// Looks at the queues once, and prints them.
pub(super) async fn print(
    client: &FleetClient,
    broker: &BrokerSettings,
    json: bool,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut queues = tokio::select! {
        queues = client.queues(broker) => queues.map_err(explain_client_error)?,
        () = stop.cancelled() => anyhow::bail!("stopped by a signal"),
    };
    if let Some(obstacle) = client.obstacle() {
        let problem = format!("workers cannot be asked, and may work more queues: {obstacle}");
        queues.problem = Some(problem);
    }
    let text = if json {
        serde_json::to_string(&queues)?
    } else {
        lines(&queues, width(), console::colors_enabled()).join("\n")
    };
    tokio::select! {
        printed = print_aside(text + "\n") => printed?,
        () = stop.cancelled() => anyhow::bail!("stopped by a signal"),
    }
    Ok(())
}

fn lines(queues: &Queues, width: Option<usize>, colours: bool) -> Vec<String> {
    if queues.queues.is_empty() {
        let nothing = || "no worker has told of a queue".to_owned();
        return vec![queues.problem.clone().unwrap_or_else(nothing)];
    }
    let mut columns = vec![Column::long("queue")];
    let numbers = ["ready", "running", "oldest", "done/s", "failing"];
    columns.extend(numbers.map(Column::number));
    columns.extend(["workers", "slots", "retrying", "dead"].map(Column::number));
    columns.push(Column::long("held"));
    let mut table = Table::new(columns);
    for queue in &queues.queues {
        table.row(row(queue));
    }
    let mut lines = table.lines(width, colours);
    if queues.left_out > 0 {
        lines.push(format!("… and {} more", queues.left_out));
    }
    if let Some(problem) = &queues.problem {
        lines.push(style(problem).yellow().force_styling(colours).to_string());
    }
    lines
}

fn row(queue: &Queue) -> Vec<String> {
    let name = queue.title.as_ref().map_or_else(
        || plain(&queue.queue),
        |title| plain(&format!("{title} ({})", queue.queue)),
    );
    vec![
        name,
        depth(queue.ready),
        format!("{}{}", queue.running, and_held(queue.on_hold)),
        short_ms(queue.oldest_ms),
        format!("{:.1}", queue.done_per_second),
        queue
            .failing
            .map_or_else(dash, |share| format!("{:.0} %", share * 100.0)),
        queue.workers.to_string(),
        queue.slots.to_string(),
        depth(queue.retrying),
        depth(queue.dead),
        plain(&why(queue)),
    ]
}

fn dash() -> String {
    "-".to_owned()
}

fn depth(depth: Option<Depth>) -> String {
    depth.map_or_else(dash, |depth| depth.messages.to_string())
}

/// Why its depth is not known, or why its messages wait.
fn why(queue: &Queue) -> String {
    let held = queue.held.iter().map(|held| match held.workers {
        0 => held.why.to_string(),
        1 => format!("{} (1 worker)", held.why),
        workers => format!("{} ({workers} workers)", held.why),
    });
    let reasons: Vec<String> = queue.problem.iter().cloned().chain(held).collect();
    reasons.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_fleet::api::Held;
    use tidegate_fleet::clock::Moment;

    fn queues(queues: Vec<Queue>) -> Queues {
        Queues {
            at: Moment::from_ms(0),
            problem: None,
            queues,
            left_out: 0,
        }
    }

    #[test]
    fn a_queue_is_a_line_and_what_is_not_known_is_a_dash() {
        let known = |messages| {
            Some(Depth {
                messages,
                age_ms: 10,
            })
        };
        let orders = Queue {
            queue: "orders".into(),
            workers: 2,
            slots: 16,
            running: 9,
            on_hold: 2,
            oldest_ms: 812,
            done_per_second: 3.25,
            failing: Some(0.125),
            ready: known(41),
            dead: known(3),
            held: vec![Held {
                why: "paused: deploy".into(),
                workers: 1,
            }],
            ..Queue::default()
        };
        let lines = lines(&queues(vec![orders, Queue::default()]), None, false);
        let cells: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(
            cells.join(" "),
            "orders 41 9, 2 held 812 ms 3.2 12 % 2 16 - 3 paused: deploy (1 worker)"
        );
        assert_eq!(lines[2].split_whitespace().next(), Some("-"));
    }

    #[test]
    fn a_queue_that_cannot_be_looked_at_says_why() {
        let queue = Queue {
            queue: "gone".into(),
            problem: Some("there is no such queue".into()),
            held: vec![Held {
                why: "no worker is on it".into(),
                workers: 0,
            }],
            ..Queue::default()
        };
        let lines = lines(&queues(vec![queue]), None, false);
        assert!(
            lines[1].ends_with("there is no such queue; no worker is on it"),
            "{}",
            lines[1]
        );
        assert_eq!(
            super::lines(&queues(vec![]), None, false),
            ["no worker has told of a queue"]
        );
        let unasked = Queues {
            problem: Some("workers cannot be asked".into()),
            ..queues(vec![])
        };
        assert_eq!(
            super::lines(&unasked, None, false),
            ["workers cannot be asked"]
        );
    }
}
