//! Findings for people and for scripts.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Finding, Level, Section};

/// The subject's column is as wide as the longest subject, but no wider than this; longer ones push their
/// message to the right.
const SUBJECT_LIMIT: usize = 40;

/// How many findings are errors and warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Totals {
    /// How many keep the worker from starting or from stopping in order.
    pub errors: usize,
    /// How many may surprise.
    pub warnings: usize,
}

impl Totals {
    /// Counts.
    pub(crate) fn of(findings: &[Finding]) -> Self {
        let count = |level| {
            findings
                .iter()
                .filter(|finding| finding.level == level)
                .count()
        };
        Self {
            errors: count(Level::Error),
            warnings: count(Level::Warning),
        }
    }
}

/// One line for each finding under the heading of its section, aligned, and a line that sums up.
/// `colours` adds terminal colours.
pub(crate) fn text(findings: &[Finding], colours: bool) -> String {
    let widest = findings
        .iter()
        .map(|finding| console::measure_text_width(&finding.subject))
        .filter(|width| *width <= SUBJECT_LIMIT)
        .max()
        .unwrap_or(0);
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.section);

    let mut text = String::new();
    let mut section = None;
    for finding in sorted {
        if section != Some(finding.section) {
            let gap = if section.is_some() { "\n" } else { "" };
            let heading = console::style(heading(finding.section)).bold();
            line(
                &mut text,
                &format!("{gap}{}", heading.force_styling(colours)),
            );
            section = Some(finding.section);
        }
        let subject = console::pad_str(&finding.subject, widest, console::Alignment::Left, None);
        let mark = mark(finding.level).force_styling(colours);
        line(
            &mut text,
            &format!("  {mark} {subject}  {}", finding.message),
        );
    }
    line(&mut text, &format!("\n{}", summary(Totals::of(findings))));
    text
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a string cannot fail");
}

/// One JSON object: whether all is well, the totals, and the findings in the order of their sections.
pub(crate) fn json(findings: &[Finding]) -> String {
    #[derive(Serialize)]
    struct Report<'a> {
        ok: bool,
        #[serde(flatten)]
        totals: Totals,
        findings: Vec<&'a Finding>,
    }

    let totals = Totals::of(findings);
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.section);
    let report = Report {
        ok: totals.errors == 0,
        totals,
        findings: sorted,
    };
    serde_json::to_string_pretty(&report).expect("text and numbers always serialise")
}

const fn heading(section: Section) -> &'static str {
    match section {
        Section::Configuration => "configuration",
        Section::ShutdownBudget => "shutdown budget",
        Section::Python => "python",
        Section::Platform => "platform",
        Section::Broker => "broker",
        Section::Queues => "queues",
    }
}

fn mark(level: Level) -> console::StyledObject<&'static str> {
    match level {
        Level::Ok => console::style("✓").green(),
        Level::Warning => console::style("!").yellow(),
        Level::Error => console::style("✗").red(),
    }
}

fn summary(totals: Totals) -> String {
    let plural = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    match totals {
        Totals {
            errors: 0,
            warnings: 0,
        } => "all is well".to_owned(),
        Totals { errors, warnings } => format!(
            "{}, {}",
            plural(errors, "error"),
            plural(warnings, "warning")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![
            Finding::error(Section::Queues, "orders", "not there"),
            Finding::ok(Section::Configuration, "worker.toml", "valid"),
            Finding::warning(Section::Configuration, "node a", "odd"),
        ]
    }

    #[test]
    fn findings_stand_aligned_under_their_sections_in_order() {
        assert_eq!(
            text(&findings(), false),
            "configuration\n  ✓ worker.toml  valid\n  ! node a       odd\n\nqueues\n  ✗ orders       not there\n\
             \n1 error, 1 warning\n"
        );
    }

    #[test]
    fn colours_are_there_only_when_asked_for() {
        assert!(!text(&findings(), false).contains('\u{1b}'));
        let coloured = text(&findings(), true);
        assert!(coloured.contains("\u{1b}[31m✗"), "{coloured:?}");
        assert_eq!(
            console::strip_ansi_codes(&coloured),
            text(&findings(), false)
        );
    }

    #[test]
    fn one_long_subject_does_not_push_the_others_away() {
        let long = "x".repeat(SUBJECT_LIMIT + 1);
        let mut findings = findings();
        findings.push(Finding::ok(Section::Queues, long.clone(), "fine"));
        let text = text(&findings, false);
        assert!(text.contains("  ! node a       odd\n"), "{text}");
        assert!(text.contains(&format!("  ✓ {long}  fine\n")), "{text}");
    }

    #[test]
    fn nothing_wrong_is_said_in_words() {
        assert!(text(&findings()[1..2], false).ends_with("\nall is well\n"));
    }

    #[test]
    fn scripts_get_the_totals_and_every_finding() {
        let json: serde_json::Value = serde_json::from_str(&json(&findings())).expect("valid JSON");
        assert_eq!(json["ok"], false);
        assert_eq!(json["errors"], 1);
        assert_eq!(json["warnings"], 1);
        assert_eq!(
            json["findings"][2],
            serde_json::json!({
                "section": "queues", "level": "error", "subject": "orders", "message": "not there"
            })
        );
    }
}
