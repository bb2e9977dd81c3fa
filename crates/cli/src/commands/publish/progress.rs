//! The progress of a run on a terminal.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::publish::{Extent, Tally};

/// At most so many redraws a second.
const REDRAWS: u8 = 10;

/// A progress bar on standard error, where that is a terminal; else nothing.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    extent: Extent,
}

impl Progress {
    /// A bar for `extent`; none where `quiet`.
    pub(super) fn new(extent: Extent, quiet: bool) -> Self {
        let target = if quiet || !std::io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(REDRAWS)
        };
        let (length, template) = match extent {
            Extent::Messages(count) => (
                Some(count),
                "{bar:30} {percent:>3} %  {msg}  {elapsed} elapsed, {eta} left",
            ),
            Extent::Bytes(bytes) => (
                Some(bytes),
                "{bar:30} {percent:>3} % of {total_bytes}  {msg}  {elapsed} elapsed, {eta} left",
            ),
            Extent::Unknown => (None, "{spinner} {msg}  {elapsed} elapsed"),
        };
        let bar = ProgressBar::with_draw_target(length, target);
        bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
        Self { bar, extent }
    }

    /// Shows how far the run is.
    pub(super) fn show(&mut self, tally: &Tally<'_>) {
        if self.bar.is_hidden() {
            return;
        }
        let confirmed = tally.confirms.confirmed();
        self.bar.set_position(match self.extent {
            Extent::Bytes(_) => tally.input_bytes,
            Extent::Messages(_) | Extent::Unknown => confirmed,
        });
        self.bar.set_message(match &tally.blocked {
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
