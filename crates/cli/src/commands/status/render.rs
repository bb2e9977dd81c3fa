//! The fleet as lines for people. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use console::style;

use super::FleetSnapshot;
use crate::commands::table::{Column, Table, plain};
use tidegate_fleet::api::{Counts, Overview, Week, Worker, WorkerState};
use tidegate_fleet::clock::Moment;

/// The least width with room for counters.
const WIDE: usize = 120;
/// Workers listed at most.
const LISTED: usize = 1_000;

/// Figures older than this are shown with their age.
const FRESH: Duration = Duration::from_secs(10);

/// The order of workers: those that need attention come first.
pub(super) fn order(worker: &Worker) -> (u8, &str, &str) {
    let rank = match worker.state {
        WorkerState::Lost => 0,
        WorkerState::Silent => 1,
        WorkerState::Draining => 2,
        WorkerState::Starting => 3,
        WorkerState::Paused => 4,
        WorkerState::Running => 5,
        WorkerState::Stopped => 6,
    };
    (rank, &worker.name, &worker.id)
}

/// Whether a worker in this state has ended.
pub(super) fn has_ended(state: WorkerState) -> bool {
    matches!(state, WorkerState::Stopped | WorkerState::Lost)
}

/// The lines, none wider than `width`.
pub(super) fn lines(snapshot: &FleetSnapshot, width: Option<usize>, colours: bool) -> Vec<String> {
    let mut lines = summary(snapshot, colours);
    if !snapshot.workers.is_empty() {
        let wide = width.is_none_or(|width| width >= WIDE);
        lines.push(String::new());
        lines.extend(table(snapshot, wide, colours).lines(width, colours));
    }
    let listed = snapshot.workers.len().min(LISTED);
    let hidden = snapshot.workers.len() - listed;
    if hidden > 0 {
        lines.push(format!("… and {hidden} more"));
    }
    if snapshot.left_out > 0 {
        lines.push(String::new());
        lines.push(format!(
            "{} that ended more than 10 minutes ago are left out (--all shows them)",
            snapshot.left_out
        ));
    }
    lines
}

fn summary(snapshot: &FleetSnapshot, colours: bool) -> Vec<String> {
    let overview = &snapshot.summary;
    let counts = overview.workers;
    let live = counts.starting + counts.running + counts.paused + counts.draining;
    let mut lines = Vec::new();
    // Nobody could be asked: that no worker is known says nothing.
    if snapshot.problem.is_none() || !snapshot.workers.is_empty() {
        let live = style(format!("{live} live")).bold().force_styling(colours);
        lines.push(format!("{live}  {}", states(counts, colours)));
    }
    if live > 0 {
        lines.push(figures(overview));
    }
    lines.extend(week(&overview.week));
    if !snapshot.log {
        let text = "there is no log (tidegate.status.log), which a fleet program declares: only workers that answer are known";
        lines.push(style(text).yellow().force_styling(colours).to_string());
    }
    if let Some(problem) = &snapshot.problem {
        let text = if snapshot.workers.is_empty() {
            format!("workers cannot be asked, and may run: {problem}")
        } else {
            format!("workers cannot be asked, so this is the last known state: {problem}")
        };
        lines.push(style(plain(&text)).red().force_styling(colours).to_string());
    }
    lines
}

/// The number of workers in each state.
fn states(counts: Counts, colours: bool) -> String {
    let states = [
        (counts.running, WorkerState::Running),
        (counts.starting, WorkerState::Starting),
        (counts.paused, WorkerState::Paused),
        (counts.draining, WorkerState::Draining),
        (counts.silent, WorkerState::Silent),
        (counts.lost, WorkerState::Lost),
        (counts.stopped, WorkerState::Stopped),
    ];
    let states: Vec<String> = states
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| format!("{count} {}", coloured(*state, colours)))
        .collect();
    if states.is_empty() {
        return "no worker is known".to_owned();
    }
    states.join(", ")
}

fn figures(overview: &Overview) -> String {
    let mut figures = format!(
        "{} nodes, {} of {} slots taken",
        overview.nodes, overview.in_flight, overview.slots
    );
    // A rate needs two beats.
    if overview.rate > 0.0 {
        write!(figures, ", {:.1} done a second", overview.rate).expect("a string takes it");
    }
    let age = overview.figures_age_ms.map(Duration::from_millis);
    if let Some(age) = age.filter(|age| *age > FRESH) {
        write!(figures, "; figures up to {} old", short(age)).expect("a string takes it");
    }
    figures
}

fn week(week: &Week) -> Option<String> {
    if week.drains + week.lost == 0 {
        return None;
    }
    let ms = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    Some(format!(
        "last 7 days: {} drains, {} not clean; median {}, p99 {}; {} lost",
        week.drains,
        week.interrupted + week.aborted,
        ms(week.duration_p50_ms),
        ms(week.duration_p99_ms),
        week.lost
    ))
}

fn table(snapshot: &FleetSnapshot, wide: bool, colours: bool) -> Table {
    let mut columns = vec![
        Column::long("name"),
        Column::text("state"),
        Column::number("for"),
        Column::number("load"),
        Column::number("running"),
        Column::number("oldest"),
        Column::number("rate"),
        Column::number("as of"),
    ];
    if wide {
        columns.extend(["done", "retried", "dead"].map(Column::number));
        columns.push(Column::number("heard"));
        columns.push(Column::long("reason"));
    }
    columns.push(Column::long("id"));
    let mut table = Table::new(columns);
    for worker in snapshot.workers.iter().take(LISTED) {
        table.row(row(worker, snapshot.at, wide, colours));
    }
    table
}

fn row(worker: &Worker, now: Moment, wide: bool, colours: bool) -> Vec<String> {
    let dash = || "-".to_owned();
    let live = worker.state.is_live();
    let sum = |of: fn(&tidegate_fleet::api::Node) -> u64| worker.nodes.iter().map(of).sum::<u64>();
    let told = live && worker.load.is_some();
    let or_dash = |text: String| if told { text } else { dash() };
    let oldest = worker
        .nodes
        .iter()
        .map(|node| node.oldest_ms)
        .max()
        .unwrap_or(0);
    let rates: Vec<f64> = worker.nodes.iter().filter_map(|node| node.rate).collect();
    let mut cells = vec![
        plain(&worker.name),
        coloured(worker.state, colours),
        short(now.since(worker.since)),
        worker
            .load
            .filter(|_| live)
            .map_or_else(dash, |load| format!("{:.0} %", load * 100.0)),
        or_dash(format!(
            "{}/{}{}",
            sum(|node| node.in_flight),
            sum(|node| node.slots),
            and_held(sum(|node| node.held))
        )),
        or_dash(short_ms(oldest)),
        if rates.is_empty() || !live {
            dash()
        } else {
            format!("{:.1}/s", rates.iter().sum::<f64>())
        },
        worker
            .figures
            .filter(|_| live)
            .map_or_else(dash, |figures| as_of(Duration::from_millis(figures.age_ms))),
    ];
    if wide {
        cells.push(sum(|node| node.done).to_string());
        cells.push(sum(|node| node.retried).to_string());
        cells.push(sum(|node| node.dead).to_string());
        cells.push(short(now.since(worker.last_heard)));
        let reason = worker.drain.as_ref().map(|drain| {
            format!(
                "{} in {} ms, {} interrupted",
                drain.reason, drain.duration_ms, drain.interrupted
            )
        });
        let reason = reason.or_else(|| {
            worker
                .note
                .as_deref()
                .or(worker.reason.as_deref())
                .map(str::to_owned)
        });
        cells.push(plain(&reason.unwrap_or_default()));
    }
    cells.push(plain(&worker.id));
    cells
}

fn coloured(state: WorkerState, colours: bool) -> String {
    let word = style(state.as_str()).force_styling(colours);
    match state {
        WorkerState::Running => word.green(),
        WorkerState::Starting | WorkerState::Draining => word.cyan(),
        WorkerState::Paused => word.yellow(),
        WorkerState::Lost | WorkerState::Silent => word.red(),
        WorkerState::Stopped => word.dim(),
    }
    .to_string()
}

/// How old figures are.
fn as_of(age: Duration) -> String {
    if age <= FRESH {
        "now".to_owned()
    } else {
        format!("{} ago", short(age))
    }
}

/// A duration in its largest unit.
fn short(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// Deliveries on hold, after the number of those that run; nothing if there are none.
pub(super) fn and_held(held: u64) -> String {
    match held {
        0 => String::new(),
        held => format!(", {held} held"),
    }
}

pub(super) fn short_ms(ms: u64) -> String {
    match ms {
        0 => "-".to_owned(),
        1..10_000 => format!("{ms} ms"),
        ms => short(Duration::from_millis(ms)),
    }
}

#[cfg(test)]
mod tests;
