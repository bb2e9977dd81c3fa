//! Metrics that a program serves together with its worker's.

use std::fmt;
use std::sync::Arc;

/// The last line of a text in `OpenMetrics`.
const END: &str = "# EOF\n";

/// Metrics of a program, in the text format of `OpenMetrics`.
#[derive(Clone)]
pub(crate) struct MoreMetrics(Arc<dyn Fn() -> String + Send + Sync>);

impl MoreMetrics {
    pub(crate) fn new(encode: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(encode))
    }

    /// The worker's metrics and the program's, as one text.
    pub(crate) fn after(&self, worker: &str) -> String {
        let mut text = worker.strip_suffix(END).unwrap_or(worker).to_owned();
        text += &(self.0)();
        if !text.ends_with(END) {
            text += END;
        }
        text
    }
}

impl fmt::Debug for MoreMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MoreMetrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_texts_become_one_with_one_end() {
        for more in ["b 2\n# EOF\n", "b 2\n"] {
            let more = MoreMetrics::new(|| more.to_owned());
            assert_eq!(more.after("a 1\n# EOF\n"), "a 1\nb 2\n# EOF\n");
        }
    }
}
