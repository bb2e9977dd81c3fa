//! The progress of a run on a terminal.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::publish::{InputSize, PublishProgress};

/// Redraws a second, at most.
const REDRAWS: u8 = 10;

/// A progress bar on standard error, if that is a terminal.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    extent: InputSize,
}

impl Progress {
    /// A bar for an input of this size; none if `quiet`.
    pub(super) fn new(extent: InputSize, quiet: bool) -> Self {
        let target = if quiet || !std::io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(REDRAWS)
        };
        let (length, template) = match extent {
            InputSize::Messages(count) => (
                Some(count),
                "{bar:30} {percent:>3} %  {msg}  {elapsed} elapsed, {eta} left",
            ),
            InputSize::Bytes(bytes) => (
                Some(bytes),
                "{bar:30} {percent:>3} % of {total_bytes}  {msg}  {elapsed} elapsed, {eta} left",
            ),
            InputSize::Unknown => (None, "{spinner} {msg}  {elapsed} elapsed"),
        };
        let bar = ProgressBar::with_draw_target(length, target);
        bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
        Self { bar, extent }
    }

    /// Shows how far the run is.
    pub(super) fn show(&mut self, done: &PublishProgress<'_>) {
        if self.bar.is_hidden() {
            return;
        }
        let confirmed = done.confirms.confirmed();
        self.bar.set_position(match self.extent {
            InputSize::Bytes(_) => done.input_bytes,
            InputSize::Messages(_) | InputSize::Unknown => confirmed,
        });
        self.bar.set_message(match &done.blocked {
            Some(reason) => {
                format!("{confirmed} confirmed; the broker blocks publishers: {reason}")
            }
            None => format!("{confirmed} confirmed"),
        });
    }

    /// Takes the bar away.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
