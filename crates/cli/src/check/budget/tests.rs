//! What a drain needs against what platforms leave for it.

use super::*;

const GRACE: Duration = Duration::from_secs(25);

fn seconds(seconds: u64) -> Limit {
    Limit {
        platform: Platform::Kubernetes,
        workload: "Deployment/orders".to_owned(),
        allowed: Allowed::For(Duration::from_secs(seconds)),
        is_default: false,
        hook: Hook::NONE,
        is_worker: true,
    }
}

fn one(limit: Limit) -> Finding {
    let mut findings = judge(GRACE, &[limit], |_| None);
    assert_eq!(findings.len(), 1);
    findings.remove(0)
}

#[test]
fn a_limit_with_two_seconds_to_spare_is_well() {
    let finding = one(seconds(30));
    assert_eq!(finding.level, Level::Ok);
    assert_eq!(
        finding.message,
        "terminationGracePeriodSeconds allows 30s; a drain may take 28s (drain.grace 25s + 3s to close)"
    );
}

#[test]
fn a_limit_with_less_than_two_seconds_to_spare_is_a_warning() {
    for (limit, level) in [(28, Level::Warning), (29, Level::Warning), (30, Level::Ok)] {
        assert_eq!(one(seconds(limit)).level, level, "{limit}s");
    }
}

#[test]
fn a_limit_that_is_too_short_is_an_error_that_names_both_ways_out() {
    let finding = one(seconds(27));
    assert_eq!(finding.level, Level::Error);
    assert!(
        finding.message.ends_with(
            ", so it would be killed: set terminationGracePeriodSeconds: 30 or drain.grace to 22s"
        ),
        "{}",
        finding.message
    );
}

#[test]
fn a_limit_that_no_grace_fits_in_names_only_the_limit() {
    let finding = one(seconds(5));
    assert!(
        finding
            .message
            .ends_with("set terminationGracePeriodSeconds: 30"),
        "{}",
        finding.message
    );
}

#[test]
fn a_hook_takes_its_time_from_the_limit_and_is_added_to_the_advice() {
    let finding = one(Limit {
        hook: Hook::Takes(Duration::from_secs(10)),
        ..seconds(30)
    });
    assert_eq!(finding.level, Level::Error);
    assert!(
        finding
            .message
            .contains("the preStop hook takes 10s and leaves 20s")
            && finding
                .message
                .ends_with("set terminationGracePeriodSeconds: 40 or drain.grace to 15s"),
        "{}",
        finding.message
    );
}

#[test]
fn a_hook_of_unknown_length_is_never_simply_well() {
    let hook = Hook::Unknown;
    assert_eq!(
        one(Limit {
            hook,
            ..seconds(60)
        })
        .level,
        Level::Warning
    );
    assert_eq!(
        one(Limit {
            hook,
            ..seconds(20)
        })
        .level,
        Level::Error
    );
}

#[test]
fn a_workload_that_may_not_be_the_worker_is_no_error() {
    let finding = one(Limit {
        is_worker: false,
        ..seconds(10)
    });
    assert_eq!(finding.level, Level::Warning);
    assert!(finding.message.starts_with("if this runs the worker: "));
}

#[test]
fn no_limit_at_all_is_well_and_an_unreadable_one_a_warning() {
    let unlimited = one(Limit {
        allowed: Allowed::Unlimited,
        ..seconds(0)
    });
    assert_eq!(unlimited.level, Level::Ok);
    let unreadable = one(Limit {
        allowed: Allowed::Unknown("${GRACE}".to_owned()),
        ..seconds(0)
    });
    assert_eq!(unreadable.level, Level::Warning);
    assert!(unreadable.message.contains("\"${GRACE}\""));
}

#[test]
fn the_advice_rounds_the_limit_up_and_the_grace_down() {
    let findings = judge(
        Duration::from_millis(25_500),
        &[Limit {
            allowed: Allowed::For(Duration::from_millis(10_900)),
            platform: Platform::Compose,
            ..seconds(0)
        }],
        |_| None,
    );
    assert!(
        findings[0]
            .message
            .ends_with("set stop_grace_period: 31s or drain.grace to 5s"),
        "{}",
        findings[0].message
    );
}

#[test]
fn without_a_limit_the_advice_fits_the_platform_the_process_runs_on() {
    for (variable, subject, advice) in [
        ("INVOCATION_ID", "systemd", "TimeoutStopSec=30s"),
        (
            "KUBERNETES_SERVICE_HOST",
            "Kubernetes",
            "terminationGracePeriodSeconds: 30",
        ),
        ("HOME", "platform", "--platform-grace"),
    ] {
        let findings = judge(GRACE, &[], |name| {
            (name == variable).then(|| "set".to_owned())
        });
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Warning);
        assert_eq!(findings[0].subject, subject);
        assert!(
            findings[0].message.contains(advice),
            "{}",
            findings[0].message
        );
    }
}
