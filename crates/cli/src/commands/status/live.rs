//! The fleet while it changes.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use console::{Term, truncate_str};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{render, snapshot};
use crate::output::{OutputError, print_aside};
use tidegate_fleet::FleetClient;

/// The interval of checks for changes.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The fleet is redrawn after this many checks even if nothing has changed, because ages grow.
const REDRAW: u32 = 4;

/// Switch to the alternate screen and hide the cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Go to the upper left corner; clear to the end of the line; clear everything below.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";

/// Draws the fleet on the alternate screen until `stop`.
pub(super) async fn screen(
    client: &FleetClient,
    all: bool,
    stop: &CancellationToken,
) -> Result<(), OutputError> {
    let mut terminal = Term::stdout();
    terminal.write_all(ENTER.as_bytes())?;
    let drawn = draw_until(client, all, stop, &mut terminal).await;
    terminal.write_all(LEAVE.as_bytes())?;
    drawn
}

async fn draw_until(
    client: &FleetClient,
    all: bool,
    stop: &CancellationToken,
    terminal: &mut Term,
) -> Result<(), OutputError> {
    let mut look = interval(CHECK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = REDRAW;
    loop {
        let changed = {
            let mut fleet = client.fleet();
            let changed = fleet.has_changes();
            fleet.take_changes();
            changed
        };
        looks += 1;
        if changed || looks >= REDRAW {
            looks = 0;
            let (height, width) = terminal.size();
            let snapshot = snapshot(client, all);
            let on_screen = snapshot.workers.iter().take(height.into());
            client.show(on_screen.map(|worker| Arc::clone(&worker.id)));
            let lines = render::lines(&snapshot, Some(width.into()), console::colors_enabled());
            terminal.write_all(frame(&lines, height.into(), width.into()).as_bytes())?;
            terminal.flush()?;
        }
        tokio::select! {
            _ = look.tick() => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// One screen. The last line counts the lines that do not fit.
fn frame(lines: &[String], height: usize, width: usize) -> String {
    let room = height.saturating_sub(1).max(1);
    let mut frame = HOME.to_owned();
    let shown = if lines.len() > room {
        room - 1
    } else {
        lines.len()
    };
    for line in &lines[..shown] {
        frame.push_str(&truncate_str(line, width, "…"));
        frame.push_str(CLEAR_LINE);
        frame.push_str("\r\n");
    }
    if shown < lines.len() {
        let more = format!("… {} lines more", lines.len() - shown);
        frame.push_str(&truncate_str(&more, width, "…"));
        frame.push_str(CLEAR_LINE);
    }
    frame.push_str(CLEAR_REST);
    frame
}

/// Prints the fleet as a line of JSON at each change, until `stop`.
pub(super) async fn lines(
    client: &FleetClient,
    all: bool,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut look = interval(CHECK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changed = true;
    loop {
        if changed {
            let line = serde_json::to_string(&snapshot(client, all))? + "\n";
            tokio::select! {
                printed = print_aside(line) => printed?,
                () = stop.cancelled() => return Ok(()),
            }
        }
        tokio::select! {
            _ = look.tick() => {}
            () = stop.cancelled() => return Ok(()),
        }
        let mut fleet = client.fleet();
        changed = fleet.has_changes();
        fleet.take_changes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_its_screen() {
        let lines: Vec<String> = (0..10).map(|n| format!("line {n}")).collect();
        let frame = frame(&lines, 5, 80);
        assert_eq!(frame.matches("\r\n").count(), 3);
        assert!(frame.contains("… 7 lines more"), "{frame:?}");
        let all = super::frame(&lines[..2], 5, 4);
        assert!(all.contains("lin…\x1b[K\r\n"), "{all:?}");
        assert!(!all.contains("more"));
    }
}
