//! The progress of a pass on a terminal.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use tidegate_fleet::dead::QueueReport;

/// Redraws a second, at most.
const REDRAWS: u8 = 10;

/// A progress bar on standard error, if that is a terminal.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar; none if `quiet`.
    pub(super) fn new(quiet: bool) -> Self {
        let target = if quiet || !std::io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(REDRAWS)
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let template = "{bar:30} {percent:>3} %  {msg}  {elapsed} elapsed, {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
        Self(bar)
    }

    /// Shows how far the pass is.
    pub(super) fn show(&mut self, report: &QueueReport) {
        if self.0.is_hidden() {
            return;
        }
        self.0.set_length(report.waiting);
        self.0.set_position(report.seen);
        let done = report.replayed + report.dropped;
        self.0.set_message(format!(
            "{}: {done} of {}",
            report.dead_queue, report.matched
        ));
    }

    /// Takes the bar away.
    pub(super) fn finish(self) {
        self.0.finish_and_clear();
    }
}
