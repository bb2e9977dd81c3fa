//! The changes that lead from the present nodes to those that are wanted. Pure.

use super::Node;

/// One change. Those of present nodes come first: a queue is consumed once at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Drain the node at this place of those present. It is not wanted any more, or not as it is.
    Remove(usize),
    /// Host the node at this place of those wanted.
    Add(usize),
    /// Have the node at the first place, of those present, go over to the settings at the second, of those wanted.
    Renew(usize, usize),
}

/// The changes that lead from `present` to `wanted`. A node goes over to other settings by itself if it can; otherwise it
/// is removed and added again. If `wanted` names a queue twice, the first stands.
pub(super) fn changes(present: &[&Node], wanted: &[Node]) -> Vec<Change> {
    let first = |place: usize| {
        let queue = wanted[place].queue();
        wanted[..place].iter().all(|node| node.queue() != queue)
    };
    let kept = present.iter().enumerate().map(|(place, node)| {
        let mut same = wanted.iter().enumerate();
        let (with, other) = same.find(|(_, other)| other.queue() == node.queue())?;
        let change = (!other.is_like(node)).then_some(Change::Renew(place, with));
        node.may_become(other).then_some(change)
    });
    let kept: Vec<_> = kept.collect();
    let is_kept = |node: &Node| {
        let mut present = present.iter().zip(&kept);
        present.any(|(other, kept)| kept.is_some() && other.queue() == node.queue())
    };
    let renewed = kept.iter().flatten().filter_map(|change| *change);
    let removed = (0..present.len()).filter(|place| kept[*place].is_none());
    let added = wanted.iter().enumerate();
    let added = added.filter(|(place, node)| first(*place) && !is_kept(node));
    renewed
        .chain(removed.map(Change::Remove))
        .chain(added.map(|(place, _)| Change::Add(place)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Slots;
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
    fn what_concerns_deliveries_changes_in_the_node_that_runs() {
        let (orders, bills) = (node("orders").handler(work), node("bills").handler(work));
        let changed = [
            orders.clone().slots(20),
            orders.clone().configure(|node| {
                node.retry.max_attempts = 9;
                node.timeout *= 2;
                node.hold_max /= 2;
                node.max_body += 1;
            }),
        ];
        for changed in changed {
            let wanted = [bills.clone(), changed];
            let renewed = [Change::Renew(0, 1), Change::Add(0)];
            assert_eq!(changes(&[&orders], &wanted), renewed);
        }
    }

    #[test]
    fn what_concerns_the_queue_or_the_handler_makes_another_node() {
        let orders = node("orders").handler(work);
        let both = [Change::Remove(0), Change::Add(0)];
        let pooled = Slots::Pool("shared".to_owned());
        for changed in [
            node("orders").handler(work),
            orders.clone().configure(|node| node.priority = 1),
            orders.clone().configure(|node| node.slots = pooled),
        ] {
            assert_eq!(changes(&[&orders], &[changed]), both);
        }
    }

    #[test]
    fn a_queue_that_is_wanted_twice_is_hosted_once() {
        let orders = node("orders").handler(work);
        let twice = [orders.clone(), orders.clone().slots(1)];
        assert_eq!(changes(&[], &twice), [Change::Add(0)]);
        assert_eq!(changes(&[&orders], &twice), []);
        let twice = [orders.clone().slots(1), orders.clone()];
        assert_eq!(changes(&[&orders], &twice), [Change::Renew(0, 0)]);
    }
}
