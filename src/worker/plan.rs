//! The changes that lead from the present nodes to those that are wanted. Pure.

use super::Node;

/// One change. Removals come first: a queue is consumed once at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Drain the node at this place of those present. It is not wanted any more, or not as it is.
    Remove(usize),
    /// Host the node at this place of those wanted.
    Add(usize),
}

/// The changes that lead from `present` to `wanted`. A node whose settings or handler changed is removed and added
/// again. If `wanted` names a queue twice, the first stands.
pub(super) fn changes(present: &[&Node], wanted: &[Node]) -> Vec<Change> {
    let first = |place: usize| {
        let queue = wanted[place].queue();
        wanted[..place].iter().all(|node| node.queue() != queue)
    };
    let stays = |node: &Node| {
        let same = wanted.iter().find(|other| other.queue() == node.queue());
        same.is_some_and(|other| other.is_like(node))
    };
    let removed = present.iter().enumerate();
    let removed = removed.filter(|(_, node)| !stays(node));
    let added = wanted.iter().enumerate();
    let added = added
        .filter(|(place, node)| first(*place) && !present.iter().any(|other| other.is_like(node)));
    removed
        .map(|(place, _)| Change::Remove(place))
        .chain(added.map(|(place, _)| Change::Add(place)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::delivery::Delivery;

    async fn work(_delivery: Arc<Delivery>) {}

    fn node(queue: &str) -> Node {
        Node::new(queue)
    }

    #[test]
    fn what_is_like_it_was_stays() {
        let (orders, bills) = (node("orders").handler(work), node("bills").handler(work));
        let wanted = [bills.clone(), orders.clone()];
        assert_eq!(changes(&[&orders, &bills], &wanted), []);
    }

    #[test]
    fn what_comes_is_added_and_what_goes_is_removed() {
        let (orders, bills) = (node("orders").handler(work), node("bills").handler(work));
        let wanted = [bills, node("letters").handler(work)];
        let all = [Change::Remove(0), Change::Add(0), Change::Add(1)];
        assert_eq!(changes(&[&orders], &wanted), all);
        assert_eq!(changes(&[&orders], &[]), [Change::Remove(0)]);
        assert_eq!(changes(&[], &wanted[..1]), [Change::Add(0)]);
    }

    #[test]
    fn other_settings_or_another_handler_make_another_node() {
        let orders = node("orders").handler(work);
        let more = orders.clone().slots(20);
        let both = [Change::Remove(0), Change::Add(0)];
        assert_eq!(changes(&[&orders], &[more]), both);
        let other = node("orders").handler(work);
        assert_eq!(changes(&[&orders], &[other]), both);
    }

    #[test]
    fn a_queue_that_is_wanted_twice_is_hosted_once() {
        let orders = node("orders").handler(work);
        let twice = [orders.clone(), orders.clone().slots(1)];
        assert_eq!(changes(&[], &twice), [Change::Add(0)]);
        assert_eq!(changes(&[&orders], &twice), []);
    }
}
