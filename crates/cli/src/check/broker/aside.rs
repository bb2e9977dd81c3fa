//! What stands beside a node's queue: its dead letters, and the delay queues of its retries.

use super::super::{Finding, Section};
use super::count;
use crate::declare::refusal;
use tidegate::config::NodeSettings;
use tidegate::internal::broker::{BrokerError, Link, find_exchange, find_queue};
use tidegate::internal::retry;

/// Looks at all of it. Delay queues are declared when they are needed, so we look for them only if
/// nothing is declared.
pub(super) async fn beside(
    node: &NodeSettings,
    link: &Link,
    findings: &mut Vec<Finding>,
) -> Result<(), BrokerError> {
    findings.push(dead_letters(node, link).await?);
    if !node.declare && !node.delayed_retry && node.retry.max_attempts > 1 {
        findings.push(delay_queues(node, link).await?);
    }
    Ok(())
}

async fn dead_letters(node: &NodeSettings, link: &Link) -> Result<Finding, BrokerError> {
    let dead = &node.dead_letter;
    let (subject, found) = if dead.exchange.is_empty() {
        let found = find_queue(link, &dead.routing_key).await;
        let found = found.map(|facts| count(facts.messages, "dead letter"));
        (dead.routing_key.clone(), found)
    } else {
        let found = find_exchange(link, &dead.exchange).await;
        let takes = || format!("takes the dead letters of {}", node.queue);
        (
            format!("exchange {}", dead.exchange),
            found.map(|()| takes()),
        )
    };
    Ok(match found {
        Ok(what) => Finding::ok(Section::Queues, subject, format!("there: {what}")),
        Err(error) if error.code() == Some(404) && node.declare && dead.exchange.is_empty() => {
            let message = format!("not there yet; the worker declares it for {}", node.queue);
            Finding::ok(Section::Queues, subject, message)
        }
        Err(error) if error.code() == Some(404) => {
            let message = format!(
                "not there, and nothing will declare it: the dead letters of {} need it",
                node.queue
            );
            Finding::error(Section::Queues, subject, message)
        }
        Err(error) => Finding::error(Section::Queues, subject, refusal(error)?),
    })
}

async fn delay_queues(node: &NodeSettings, link: &Link) -> Result<Finding, BrokerError> {
    let mut missing = Vec::new();
    for step in retry::delays(&node.retry) {
        let name = retry::delay_queue(&node.queue, step);
        match find_queue(link, &name).await {
            Ok(_) => {}
            Err(error) if error.code() == Some(404) => missing.push(name),
            Err(error) => {
                let message = refusal(error)?;
                return Ok(Finding::error(Section::Queues, name, message));
            }
        }
    }
    let subject = format!("{}.retry.*", node.queue);
    if missing.is_empty() {
        return Ok(Finding::ok(
            Section::Queues,
            subject,
            "there, one for each delay",
        ));
    }
    let message = format!(
        "declare = false, and these are not there: {}; with retry.max_attempts = 1 none is needed",
        missing.join(", ")
    );
    Ok(Finding::error(Section::Queues, subject, message))
}
