//! The content of state messages, and when the next one is due. Pure.
//!
//! Changes within [`GATHER`] are one state: a start, a pause, a resume, or a hundred nodes that come at once.

use std::time::Duration;

use tokio::time::Instant;

use super::{NodeInfo, Snapshot};
use crate::lifecycle::Phase;
use crate::status::Remarks;
use crate::status::wire::StateNode;

/// A change is told after this time, together with everything that changes until then.
const GATHER: Duration = Duration::from_millis(100);
/// A worker that has been starting for longer than this tells which of its nodes consume already.
const LONG_START: Duration = Duration::from_secs(30);

/// The content of a state message beside the worker's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StateContent {
    pub phase: Phase,
    pub reason: Option<String>,
    pub note: Option<String>,
    pub deadline: Option<Instant>,
    pub nodes: Vec<StateNode>,
}

impl StateContent {
    /// The content of a state message for `snapshot`, from a worker that started so long ago.
    pub(super) fn of(snapshot: &Snapshot, remarks: &Remarks, since_start: Duration) -> Self {
        let phase = snapshot.phase;
        let long_start = since_start >= LONG_START;
        let nodes = snapshot.nodes.iter();
        Self {
            phase,
            reason: snapshot.reason.clone(),
            note: remarks.worker.clone(),
            deadline: snapshot.deadline,
            nodes: nodes
                .map(|node| {
                    let phase = node_phase(phase, node.phase, long_start);
                    state_node(node, remarks, phase)
                })
                .collect(),
        }
    }
}

/// The phase of a node in a state message. It follows the worker's phase; the other phases of its own are steps that are
/// over in a moment, and each would be a message.
fn node_phase(worker: Phase, node: Phase, long_start: bool) -> Phase {
    match (worker, node) {
        (Phase::Starting, _) if !long_start => Phase::Starting,
        (Phase::Running, Phase::Paused) => Phase::Running,
        (Phase::Paused, Phase::Running) => Phase::Paused,
        (Phase::Draining | Phase::Stopped, _) => worker,
        (Phase::Starting | Phase::Running | Phase::Paused, _) => node,
    }
}

/// The program's own note on a node comes before the reason why its queue is refused. Only a node that starts is refused:
/// in a drain the reason does not go away in a message of its own.
fn state_node(node: &NodeInfo, remarks: &Remarks, phase: Phase) -> StateNode {
    let remark = remarks.nodes.get(&node.queue).cloned().unwrap_or_default();
    let refusal = node.refusal.clone().filter(|_| phase == Phase::Starting);
    StateNode {
        queue: node.queue.clone(),
        title: remark.title,
        note: remark.note.or(refusal),
        kind: node.kind.map(str::to_owned),
        handler: node.handler.to_owned(),
        slots: node.slots as u64,
        prefetch: node.prefetch,
        retry_ms: node.retry_ms.clone(),
        phase,
    }
}

/// The last state that was sent, and since when there is another.
#[derive(Debug, Default)]
pub(super) struct States {
    told: Option<StateContent>,
    changed: Option<Instant>,
    asked: bool,
}

impl States {
    /// Somebody asks for a state, though nothing may have changed.
    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    /// When a state that says `current` is due. A time that has passed means now; nothing if it has been told.
    pub(super) fn due(&mut self, current: &StateContent, now: Instant) -> Option<Instant> {
        if self.asked {
            return Some(now);
        }
        if self.told.as_ref() == Some(current) {
            self.changed = None;
            return None;
        }
        let changed = *self.changed.get_or_insert(now);
        match current.phase {
            // The drain may be over in less time, and its state must come before its report.
            Phase::Draining | Phase::Stopped => Some(now),
            Phase::Starting | Phase::Running | Phase::Paused => Some(changed + GATHER),
        }
    }

    /// A state is on its way: it answers who has asked so far.
    pub(super) fn sending(&mut self) {
        self.asked = false;
    }

    /// The broker has taken a state with this content.
    pub(super) fn sent(&mut self, told: StateContent) {
        self.told = Some(told);
        self.changed = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::status::NodeRemark;

    const NODES: usize = 100;

    fn snapshot(metrics: &Metrics, count: usize) -> Snapshot {
        let nodes = (0..count).map(|number| NodeInfo {
            queue: format!("q{number}"),
            kind: Some("quorum"),
            handler: "http",
            slots: 8,
            prefetch: 16,
            retry_ms: vec![1_000],
            phase: Phase::Starting,
            refusal: None,
            figures: metrics.node(&format!("q{number}").into(), 8),
        });
        Snapshot {
            phase: Phase::Starting,
            reason: None,
            deadline: None,
            slots: 8 * count,
            nodes: nodes.collect(),
        }
    }

    /// A state without remarks.
    fn plain(snapshot: &Snapshot, since_start: Duration) -> StateContent {
        StateContent::of(snapshot, &Remarks::default(), since_start)
    }

    /// Counts the states that a publisher sends of the changes that it is shown.
    struct Counted {
        states: States,
        begin: Instant,
        phases: Vec<Phase>,
    }

    impl Counted {
        fn new() -> Self {
            Self {
                states: States::default(),
                begin: Instant::now(),
                phases: Vec::new(),
            }
        }

        /// Shows `snapshot`, and then lets `passed` go by.
        fn show(&mut self, snapshot: &Snapshot, now: Instant, passed: Duration) {
            for at in [now, now + passed] {
                let current = plain(snapshot, at - self.begin);
                if self.states.due(&current, at).is_some_and(|due| due <= at) {
                    self.states.sending();
                    self.phases.push(current.phase);
                    self.states.sent(current);
                }
            }
        }
    }

    #[test]
    fn a_start_is_two_states_and_a_pause_and_a_resume_are_one_each_however_many_nodes() {
        let metrics = Metrics::new();
        let mut snapshot = snapshot(&metrics, NODES);
        let mut counted = Counted::new();
        let mut now = counted.begin;
        let mut step = |snapshot: &Snapshot, millis: u64| {
            let passed = Duration::from_millis(millis);
            counted.show(snapshot, now, passed);
            now += passed;
            counted.phases.clone()
        };
        assert!(step(&snapshot, 99).is_empty());
        assert_eq!(step(&snapshot, 1), [Phase::Starting]);
        for node in 0..NODES {
            snapshot.nodes[node].phase = Phase::Running;
            step(&snapshot, 50);
        }
        snapshot.phase = Phase::Running;
        assert_eq!(step(&snapshot, 100), [Phase::Starting, Phase::Running]);
        snapshot.phase = Phase::Paused;
        for node in 0..NODES {
            step(&snapshot, 70);
            snapshot.nodes[node].phase = Phase::Paused;
        }
        assert_eq!(step(&snapshot, 100).len(), 3);
        snapshot.phase = Phase::Running;
        for node in 0..NODES {
            step(&snapshot, 70);
            snapshot.nodes[node].phase = Phase::Running;
        }
        let phases = step(&snapshot, 100);
        let expected = [
            Phase::Starting,
            Phase::Running,
            Phase::Paused,
            Phase::Running,
        ];
        assert_eq!(phases, expected);
    }

    #[test]
    fn nodes_that_come_or_go_together_are_one_state() {
        let metrics = Metrics::new();
        let mut snapshot = snapshot(&metrics, NODES);
        snapshot.phase = Phase::Running;
        let all = std::mem::take(&mut snapshot.nodes);
        let mut counted = Counted::new();
        let begin = counted.begin;
        counted.show(&snapshot, begin, GATHER);
        assert_eq!(counted.phases.len(), 1);
        let later = begin + Duration::from_secs(1);
        for (node, number) in all.into_iter().zip(0..) {
            snapshot.nodes.push(node);
            let at = later + Duration::from_micros(900) * number;
            counted.show(&snapshot, at, Duration::ZERO);
        }
        counted.show(&snapshot, later, GATHER);
        assert_eq!(counted.phases.len(), 2, "a hundred nodes came");
        snapshot.nodes.pop();
        counted.show(&snapshot, later + GATHER * 5, GATHER);
        assert_eq!(counted.phases.len(), 3, "one node went");
    }

    #[test]
    fn a_drain_is_told_at_once_and_once() {
        let metrics = Metrics::new();
        let mut snapshot = snapshot(&metrics, NODES);
        let mut counted = Counted::new();
        snapshot.phase = Phase::Draining;
        counted.show(&snapshot, counted.begin, Duration::ZERO);
        for node in &mut snapshot.nodes {
            node.phase = Phase::Draining;
        }
        counted.show(&snapshot, counted.begin, GATHER * 9);
        assert_eq!(counted.phases, [Phase::Draining]);
    }

    #[test]
    fn what_the_program_adds_is_told_with_the_node_it_is_about() {
        let metrics = Metrics::new();
        let mut snapshot = snapshot(&metrics, 2);
        snapshot.phase = Phase::Running;
        let remark = NodeRemark {
            title: Some("Orders".into()),
            note: Some("1 waits".into()),
        };
        let remarks = Remarks {
            worker: Some("no platform".into()),
            nodes: [("q1".to_owned(), remark)].into(),
        };
        let told = StateContent::of(&snapshot, &remarks, Duration::ZERO);
        assert_eq!(told.note.as_deref(), Some("no platform"));
        let said = |node: &StateNode| (node.title.clone(), node.note.clone());
        assert_eq!(said(&told.nodes[0]), (None, None));
        let expected = (Some("Orders".to_owned()), Some("1 waits".to_owned()));
        assert_eq!(said(&told.nodes[1]), expected);
        assert_ne!(told, plain(&snapshot, Duration::ZERO));
    }

    #[test]
    fn a_node_that_is_refused_says_why_unless_its_program_has_a_note() {
        let metrics = Metrics::new();
        let mut snapshot = snapshot(&metrics, 3);
        snapshot.phase = Phase::Running;
        snapshot.nodes[2].phase = Phase::Running;
        let remark = NodeRemark {
            title: None,
            note: Some("1 waits".into()),
        };
        let remarks = Remarks {
            worker: None,
            nodes: [("q1".to_owned(), remark)].into(),
        };
        let of = |snapshot: &Snapshot, reason: &str| {
            let mut refused = snapshot.clone();
            for node in &mut refused.nodes {
                node.refusal = Some(reason.to_owned());
            }
            StateContent::of(&refused, &remarks, Duration::ZERO)
        };
        let notes = |told: &StateContent| {
            let notes = told.nodes.iter().map(|node| node.note.clone());
            notes.collect::<Vec<_>>()
        };
        let missing = of(&snapshot, "404");
        let waits = Some("1 waits".to_owned());
        let expected = [Some("404".to_owned()), waits.clone(), None];
        assert_eq!(notes(&missing), expected);
        let mut states = States::default();
        states.sent(missing);
        let now = Instant::now();
        assert_eq!(states.due(&of(&snapshot, "404"), now), None);
        let another = states.due(&of(&snapshot, "403"), now);
        assert_eq!(another, Some(now + GATHER), "another reason is a change");
        snapshot.phase = Phase::Draining;
        assert_eq!(notes(&of(&snapshot, "404")), [None, waits, None]);
    }

    #[test]
    fn a_long_start_tells_which_nodes_consume() {
        let metrics = Metrics::new();
        let mut snapshot = snapshot(&metrics, 2);
        snapshot.nodes[0].phase = Phase::Running;
        let phases = |since_start| {
            let told = plain(&snapshot, since_start);
            let phases = told.nodes.iter().map(|node| node.phase);
            phases.collect::<Vec<_>>()
        };
        assert_eq!(phases(Duration::ZERO), [Phase::Starting, Phase::Starting]);
        assert_eq!(phases(LONG_START), [Phase::Running, Phase::Starting]);
    }

    #[test]
    fn a_state_that_is_asked_for_comes_at_once_and_a_change_that_is_undone_is_not_told() {
        let metrics = Metrics::new();
        let mut snapshot = snapshot(&metrics, 1);
        snapshot.phase = Phase::Running;
        let mut counted = Counted::new();
        let begin = counted.begin;
        counted.show(&snapshot, begin, GATHER);
        counted.states.ask();
        counted.show(&snapshot, begin + GATHER, Duration::ZERO);
        assert_eq!(counted.phases.len(), 2);
        snapshot.phase = Phase::Paused;
        counted.show(&snapshot, begin + GATHER * 2, GATHER / 2);
        snapshot.phase = Phase::Running;
        counted.show(&snapshot, begin + GATHER * 3, GATHER * 9);
        assert_eq!(counted.phases.len(), 2, "{:?}", counted.phases);
    }
}
