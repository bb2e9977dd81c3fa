//! What platforms say they allow, and what is read of it.

use super::*;

fn one(content: &str) -> Limit {
    let mut limits = limits(content).expect("the content should be recognised");
    assert_eq!(limits.len(), 1, "{limits:?}");
    limits.remove(0)
}

fn secs(seconds: u64) -> Allowed {
    Allowed::For(Duration::from_secs(seconds))
}

const DEPLOYMENT: &str = "
apiVersion: v1
kind: Service
metadata: {name: orders}
spec: {ports: [{port: 8079}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: orders}
spec:
  template:
    spec:
      terminationGracePeriodSeconds: 45
      containers:
        - name: worker
          image: ghcr.io/acme/orders:1
          args: [worker, -c, /etc/worker.toml]
          lifecycle: {preStop: {sleep: {seconds: 5}}}
        - name: sidecar
          image: proxy:1
          lifecycle: {preStop: {sleep: {seconds: 20}}}
";

#[test]
fn a_deployment_among_other_documents_gives_its_limit_and_the_workers_own_hook() {
    let limit = one(DEPLOYMENT);
    assert_eq!(limit.platform, Platform::Kubernetes);
    assert_eq!(limit.workload, "Deployment/orders");
    assert_eq!(limit.allowed, secs(45));
    assert!(!limit.is_default);
    assert_eq!(limit.hook, Hook::Takes(Duration::from_secs(5)));
    assert!(limit.is_worker);
}

#[test]
fn a_pod_that_says_nothing_has_thirty_seconds() {
    for pod in [
        "kind: Pod\nspec: {containers: [{image: a}]}",
        "kind: Pod\nspec: {terminationGracePeriodSeconds: null, containers: [{image: a}]}",
        "kind: CronJob\nspec: {jobTemplate: {spec: {template: {spec: {containers: [{image: a}]}}}}}",
        "kind: List\nitems: [{kind: Pod, spec: {containers: [{image: a}]}}]",
    ] {
        let limit = one(pod);
        assert_eq!(limit.allowed, secs(30), "{pod}");
        assert!(limit.is_default, "{pod}");
    }
}

#[test]
fn a_hook_that_sleeps_by_a_command_is_counted_and_any_other_is_unknown() {
    for (hook, expected) in [
        ("exec: {command: [sleep, '5']}", Some(5)),
        ("exec: {command: [/bin/sh, -c, sleep 7]}", Some(7)),
        ("exec: {command: [/bin/sleep, 3s]}", Some(3)),
        ("exec: {command: [/bin/sh, -c, sleep 7 && curl x]}", None),
        ("httpGet: {path: /stop}", None),
    ] {
        let pod = format!(
            "kind: Pod\nspec: {{containers: [{{image: a, lifecycle: {{preStop: {{{hook}}}}}}}]}}"
        );
        let expected = expected.map_or(Hook::Unknown, |s| Hook::Takes(Duration::from_secs(s)));
        assert_eq!(one(&pod).hook, expected, "{hook}");
    }
}

#[test]
fn only_the_workers_service_of_a_compose_file_counts() {
    let limit = one("
x-base: &base {stop_grace_period: 1m30s, image: tidegate}
services:
  rabbitmq: {image: 'rabbitmq:4-management'}
  fleet: {<<: *base, command: [fleet, -c, fleet.toml]}
  orders: {<<: *base, command: worker -c worker.toml}
");
    assert_eq!(limit.platform, Platform::Compose);
    assert_eq!(limit.workload, "service orders");
    assert_eq!(limit.allowed, secs(90));
}

#[test]
fn services_of_which_none_is_known_to_be_the_worker_all_count_as_possible() {
    let limits = limits("services: {a: {image: x}, b: {image: y, stop_grace_period: 30s}}")
        .expect("a Compose file");
    assert_eq!(limits.len(), 2);
    assert!(limits.iter().all(|limit| !limit.is_worker));
    assert_eq!(limits[0].allowed, secs(10));
    assert!(limits[0].is_default);
    assert_eq!(limits[1].allowed, secs(30));
}

#[test]
fn the_only_workload_of_a_file_is_taken_for_the_worker() {
    assert!(one("services: {a: {image: x}}").is_worker);
}

#[test]
fn a_compose_period_that_is_no_duration_is_unknown() {
    for written in ["30", "'30'", "1m 30s", "${GRACE:-30s}", "'-5s'", "''"] {
        let limit = one(&format!(
            "services: {{a: {{stop_grace_period: {written:?}}}}}"
        ));
        assert!(
            matches!(limit.allowed, Allowed::Unknown(_)),
            "{written}: {limit:?}"
        );
    }
}

#[test]
fn a_unit_gives_its_last_stop_time() {
    for (lines, expected) in [
        ("", secs(90)),
        ("TimeoutStopSec=45", secs(45)),
        ("TimeoutStopSec=1min 30s", secs(90)),
        ("TimeoutStopSec = 1min30s", secs(90)),
        ("TimeoutSec=20", secs(20)),
        ("TimeoutStopSec=20\nTimeoutStopSec=", secs(90)),
        ("TimeoutSec=20\nTimeoutStopSec=2 hr", secs(7200)),
        ("#TimeoutStopSec=20", secs(90)),
        ("TimeoutStopSec=infinity", Allowed::Unlimited),
        ("TimeoutStopSec=0", Allowed::Unlimited),
        ("TimeoutStopSec=soon", Allowed::Unknown("soon".to_owned())),
        ("[Install]\nTimeoutStopSec=1", secs(90)),
    ] {
        let limit = one(&format!("[Unit]\nTimeoutStopSec=7\n[Service]\n{lines}\n"));
        assert_eq!(limit.allowed, expected, "{lines}");
        assert_eq!(limit.platform, Platform::Systemd);
    }
}

#[test]
fn a_file_without_anything_that_runs_is_refused() {
    for content in [
        "",
        "a: 1",
        "kind: Service\nspec: {ports: []}",
        "services: []",
    ] {
        assert_eq!(
            limits(content),
            Err(ManifestError::Unrecognised),
            "{content}"
        );
    }
    let template = "kind: Pod\nspec: {{ .Values.spec }}: [";
    assert!(matches!(limits(template), Err(ManifestError::Yaml(_))));
}

#[test]
fn a_program_is_the_workers_by_its_command_or_its_image() {
    assert!(runs_worker("acme/orders", ["worker", "-c", "x"]));
    assert!(runs_worker("tidegate:0.1", []));
    assert!(runs_worker("debian", ["/usr/bin/tidegate"]));
    assert!(!runs_worker("tidegate:0.1", ["fleet", "-c", "x"]));
    assert!(!runs_worker("rabbitmq:4", []));
    assert!(!runs_worker("acme/shop", ["celery", "-A", "app", "worker"]));
}
