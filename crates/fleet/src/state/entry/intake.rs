//! The effect of a message on the state of its worker.

use std::sync::Arc;
use std::time::Duration;

use super::{Entry, Facts, Pulse};
use crate::api;
use crate::api::HistoryKind;
use crate::clock::Moment;
use crate::state::NODES_MOST;
use crate::state::Origin;
use crate::state::history::{Record, Stamp};
use crate::state::message::Message;
use crate::state::node::{BeatAt, Node, Role};
use crate::state::text::{NAME_LIMIT, REASON_LIMIT, Texts, cut};
use tidegate::internal::status::wire::{Beat, Drain, State, StateNode};
use tidegate::lifecycle::Phase;

/// Ids of interrupted messages kept of one report.
const IDS_LIMIT: usize = 100;
/// Leases outside are taken for the nearer bound. The longest covers the longest drain.
const LEASE_MIN: Duration = Duration::from_secs(1);
const LEASE_MAX: Duration = Duration::from_hours(25);

impl Entry {
    pub(in super::super) fn apply(
        &mut self,
        message: Message,
        origin: Origin,
        now: Moment,
        after: Option<Moment>,
        room: usize,
        texts: &mut Texts,
    ) {
        let head = message.head();
        let said = Moment::parse(&head.at).unwrap_or(now);
        let at = Stamp {
            said,
            received: now,
            after,
        };
        let behind = now.ms().saturating_sub(said.ms());
        let least = |seen: Option<i64>| Some(seen.map_or(behind, |least| least.min(behind)));
        match origin {
            Origin::Live => self.behind_ms = least(self.behind_ms),
            Origin::Log if behind < 0 => self.behind_by_log_ms = least(self.behind_by_log_ms),
            Origin::Log => {}
        }
        let (seq, lease) = (head.seq, Duration::from_millis(head.lease_ms));
        let newest = seq > self.heard.seq;
        if newest {
            self.name = texts.keep(&head.name, NAME_LIMIT);
        }
        if newest {
            self.hear(&message, lease, at, origin);
            self.heard.seq = seq;
        }
        match message {
            Message::State(state) => self.take_state(&state, at, room, texts),
            Message::Beat(beat) => self.take_beat(&beat, at, room, texts),
            Message::Drain(drain) => self.take_drain(&drain, at, texts),
        }
        if origin == Origin::Log {
            self.follow_log(now);
        }
        self.total();
    }

    /// A message is newer than all before. What that says of the contact comes before what it says itself.
    fn hear(&mut self, message: &Message, lease: Duration, at: Stamp, origin: Origin) {
        let live = origin == Origin::Live;
        self.heard.lease = lease.clamp(LEASE_MIN, LEASE_MAX);
        self.heard.at = if live {
            at.received
        } else {
            at.shown(self.behind_ms())
        };
        self.heard.live |= live;
        if live && !self.has_stopped() && !matches!(message, Message::Drain(_)) {
            let lease = self.heard.lease;
            self.judge(at.received, |contact| contact.heard(at.received, lease));
        }
    }

    fn take_state(&mut self, state: &State, at: Stamp, room: usize, texts: &mut Texts) {
        let seq = state.head.seq;
        let reason = state.reason.as_deref();
        let reason = reason.map(|reason| texts.keep(reason, REASON_LIMIT));
        self.history.put(Record {
            seq,
            kind: HistoryKind::State,
            at,
            phase: state.phase,
            reason: reason.clone(),
        });
        if self.facts.as_ref().is_some_and(|facts| facts.seq >= seq) {
            return;
        }
        self.facts = Some(Facts {
            seq,
            phase: state.phase,
            reason,
            note: state
                .note
                .as_deref()
                .map(|note| texts.keep(note, REASON_LIMIT)),
            deadline_ms: state.deadline_ms,
            at,
            host: texts.keep(&state.host, NAME_LIMIT),
            pid: state.pid,
            version: texts.keep(&state.version, NAME_LIMIT),
            started_at: Moment::parse(&state.started_at),
        });
        self.report_next = None;
        self.take_nodes(&state.nodes, room, texts);
    }

    /// Takes the nodes of a state, as far as their bytes have room.
    fn take_nodes(&mut self, nodes: &[StateNode], room: usize, texts: &mut Texts) {
        let mut known = std::mem::take(&mut self.nodes);
        let mut room = Room { bytes: room };
        self.nodes_left_out = nodes.len().saturating_sub(NODES_MOST);
        for said in nodes.iter().take(NODES_MOST) {
            let queue = cut(&said.queue, NAME_LIMIT);
            if self.nodes.iter().any(|node| &*node.queue == queue) {
                continue;
            }
            if !room.take(Node::bytes_of(said)) {
                self.nodes_left_out += 1;
                continue;
            }
            let place = known.iter().position(|node| &*node.queue == queue);
            let mut node = match place {
                Some(place) => known.remove(place),
                None => Node::new(texts.keep(queue, NAME_LIMIT)),
            };
            node.role = Some(Role::of(said, texts));
            self.nodes.push(node);
        }
        // What beats say of a node that this state does not name may belong to the next one.
        for mut node in known {
            node.role = None;
            if node.seq > 0 && self.nodes.len() < NODES_MOST && room.take(node.bytes()) {
                self.nodes.push(node);
            }
        }
    }

    fn take_beat(&mut self, beat: &Beat, at: Stamp, room: usize, texts: &mut Texts) {
        let (seq, sent) = (beat.head.seq, at.said);
        let before = self.pulse;
        if beat.full {
            self.full_seq = self.full_seq.max(seq);
        }
        if before.is_none_or(|before| before.seq < seq) {
            self.pulse = Some(Pulse {
                seq,
                load: if beat.load.is_finite() {
                    beat.load.clamp(0.0, 1.0)
                } else {
                    0.0
                },
                sent,
                received: at.received,
                rated: before.is_some(),
            });
        }
        let beat_at = BeatAt {
            seq,
            full: beat.full,
            sent,
            before: before.map(|before| before.sent),
            received: at.received,
        };
        let mut room = Room {
            bytes: room.saturating_sub(self.node_bytes),
        };
        let mut place = 0;
        for said in beat.nodes.iter().take(NODES_MOST) {
            let queue = cut(&said.queue, NAME_LIMIT);
            // Beats name nodes in the order of the state, mostly.
            let after = self.nodes.iter().skip(place);
            let found = after.zip(place..).find(|(node, _)| &*node.queue == queue);
            let found = found.map(|(_, place)| place);
            let found = found.or_else(|| {
                let mut before = self.nodes.iter().take(place);
                before.position(|node| &*node.queue == queue)
            });
            place = match found {
                Some(place) => place,
                None if self.nodes.len() < NODES_MOST && room.take(Node::bytes_named(queue)) => {
                    self.nodes.push(Node::new(texts.keep(queue, NAME_LIMIT)));
                    self.nodes.len() - 1
                }
                None => continue,
            };
            self.nodes[place].beat(said, beat_at);
            place += 1;
        }
    }

    fn take_drain(&mut self, drain: &Drain, at: Stamp, texts: &mut Texts) {
        let reason = texts.keep(&drain.report.reason, REASON_LIMIT);
        self.history.put(Record {
            seq: drain.head.seq,
            kind: HistoryKind::Drain,
            at,
            phase: Phase::Stopped,
            reason: Some(Arc::clone(&reason)),
        });
        if self.report.is_some() {
            return;
        }
        self.report_at = Some(at);
        let report = report(drain, at.shown(self.behind_ms()), reason);
        self.report = Some(Box::new(report));
    }
}

/// A drain that ended `at` this moment, as it is shown.
pub(in crate::state) fn report(drain: &Drain, at: Moment, reason: Arc<str>) -> api::Drain {
    let report = &drain.report;
    let ids = report.interrupted_ids.iter().take(IDS_LIMIT);
    api::Drain {
        at,
        reason,
        outcome: report.outcome,
        duration_ms: report.duration_ms,
        steps: report.steps,
        finished: report.finished,
        handed_back: report.handed_back,
        interrupted: report.interrupted,
        unconfirmed: report.unconfirmed,
        interrupted_ids: ids.map(|id| cut(id, NAME_LIMIT).into()).collect(),
    }
}

/// Bytes that nodes may take.
struct Room {
    bytes: usize,
}

impl Room {
    fn take(&mut self, bytes: usize) -> bool {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.unwrap_or(self.bytes);
        left.is_some()
    }
}

impl Entry {
    /// The nodes that the newest state names; before the first state, those that beats name.
    pub(in crate::state) fn shown_nodes(&self) -> impl Iterator<Item = &super::Node> {
        let all = self.facts.is_none();
        self.nodes
            .iter()
            .filter(move |node| all || node.role.is_some())
    }
}
