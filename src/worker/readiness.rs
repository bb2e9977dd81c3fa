//! Whether a worker is ready. Pure.

use crate::lifecycle::Phase;

/// Whether a worker in `phase` takes new work when `consumers` of its `nodes` consume; the reason if it does not.
pub(super) fn readiness(phase: Phase, consumers: usize, nodes: usize) -> Result<(), String> {
    match phase {
        Phase::Running if consumers == 0 && nodes == 0 => {
            Err("there is no node that can consume".to_owned())
        }
        Phase::Running if consumers == nodes => Ok(()),
        Phase::Running => Err(format!(
            "{consumers} of {nodes} nodes consume; the others reconnect"
        )),
        _ => Err(format!("the worker is {phase}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_running_worker_whose_nodes_all_consume_is_ready() {
        assert_eq!(readiness(Phase::Running, 2, 2), Ok(()));
        assert!(
            readiness(Phase::Running, 0, 0).is_err(),
            "nothing to consume"
        );
        let why = "1 of 2 nodes consume; the others reconnect".to_owned();
        assert_eq!(readiness(Phase::Running, 1, 2), Err(why));
        for phase in [
            Phase::Starting,
            Phase::Paused,
            Phase::Draining,
            Phase::Stopped,
        ] {
            let why = format!("the worker is {phase}");
            assert_eq!(readiness(phase, 2, 2), Err(why));
        }
    }
}
