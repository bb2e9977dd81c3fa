//! The text formats of metrics: OpenMetrics for who asks for it, else the older one of Prometheus, which every
//! scraper and browser reads.

use std::fmt::Write as _;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The content type and the text for a request whose `Accept` header is this, from a text in `OpenMetrics`.
pub fn exposition(open_metrics: String, accept: Option<&[u8]>) -> (&'static str, String) {
    let accept = String::from_utf8_lossy(accept.unwrap_or_default()).to_ascii_lowercase();
    if accept.contains("application/openmetrics-text") {
        (OPEN_METRICS, open_metrics)
    } else {
        (PLAIN, plain(&open_metrics))
    }
}

/// The same metrics in Prometheus' text format 0.0.4: a counter is named there with its `_total`, and there are no
/// units and no end mark.
fn plain(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let counters: Vec<&str> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    for line in open_metrics.lines() {
        let described = line
            .strip_prefix("# ")
            .and_then(|rest| rest.split_once(' '));
        let written = match described {
            None if line == "# EOF" => continue,
            Some(("UNIT", _)) => continue,
            Some((word, rest)) => {
                let (name, words) = rest.split_once(' ').unwrap_or((rest, ""));
                let total = if counters.contains(&name) {
                    "_total"
                } else {
                    ""
                };
                writeln!(text, "# {word} {name}{total} {words}")
            }
            None => writeln!(text, "{line}"),
        };
        written.expect("writing to a string does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: &str = "# HELP tidegate_beats Beats sent.\n# TYPE tidegate_beats counter\ntidegate_beats_total 3\n\
                        # HELP tidegate_drain_seconds Drains.\n# TYPE tidegate_drain_seconds histogram\n\
                        # UNIT tidegate_drain_seconds seconds\ntidegate_drain_seconds_sum 1.5\n# EOF\n";

    #[test]
    fn who_asks_for_open_metrics_gets_it() {
        let asked = b"application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2";
        let (kind, text) = exposition(OPEN.to_owned(), Some(asked));
        assert_eq!((kind, text.as_str()), (OPEN_METRICS, OPEN));
    }

    #[test]
    fn everybody_else_gets_the_older_format() {
        for accept in [None, Some(b"*/*".as_slice()), Some(b"text/html")] {
            let (kind, text) = exposition(OPEN.to_owned(), accept);
            assert_eq!(kind, PLAIN);
            let expected = "# HELP tidegate_beats_total Beats sent.\n# TYPE tidegate_beats_total counter\n\
                            tidegate_beats_total 3\n# HELP tidegate_drain_seconds Drains.\n\
                            # TYPE tidegate_drain_seconds histogram\ntidegate_drain_seconds_sum 1.5\n";
            assert_eq!(text, expected);
        }
    }
}
