//! What a program adds to what its worker says of itself.

use std::collections::BTreeMap;

/// What a program adds to state messages and to the text of `/readyz`. It changes no decision of the worker.
///
/// A change is told with a state message. A program must not put figures here that change all the time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks {
    /// What holds the whole worker up, if anything does.
    pub worker: Option<String>,
    /// Remarks on single nodes, by queue.
    pub nodes: BTreeMap<String, NodeRemark>,
}

/// What a program adds about one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeRemark {
    /// A name for people, shown above the queue's.
    pub title: Option<String>,
    /// What waits in this node, and why. It is told instead of the reason why the broker refuses the node's queue.
    pub note: Option<String>,
}
