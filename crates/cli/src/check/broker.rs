//! Asks the broker: can it be reached, and do the queues fit their nodes?
//!
//! Nothing is created and nothing is consumed. An existing queue or exchange is declared again as it should be. That
//! changes nothing, and if the two differ the broker says how.

use super::nodes::single_active_consumer;
use super::{Finding, Section};
use crate::declare::refusal;
use tidegate::config::{NodeSettings, Settings};
use tidegate::internal::broker::{
    AmqpRuntime, BrokerError, Link, QueueFacts, RPC_LIMIT, connect, declare_topic_exchange,
    ensure_queue, find_exchange, find_queue, queue_type,
};

mod aside;

/// Connects as the worker would, and looks at everything it needs, queue by queue. Ends early if the connection
/// fails. Every step has a limit: `broker.connect_timeout`, then [`RPC_LIMIT`] each.
pub(crate) async fn broker_findings(settings: &Settings) -> Vec<Finding> {
    let runtime = match AmqpRuntime::start() {
        Ok(runtime) => runtime,
        Err(error) => {
            let message = format!("cannot start a thread for it: {error}");
            return vec![Finding::error(Section::Broker, "connection", message)];
        }
    };
    let (mut findings, link) = log_in(settings, &runtime).await;
    let Some(link) = link else {
        return findings;
    };
    if let Err(error) = look(settings, &link, &mut findings).await {
        let message = format!("{error}; what follows was not looked at");
        findings.push(Finding::error(Section::Broker, "connection", message));
    } else if let Err(error) = link.close(RPC_LIMIT).await {
        let message = format!("it did not close in order: {error}");
        findings.push(Finding::warning(Section::Broker, "connection", message));
    }
    findings
}

/// Connects: which broker answers, and whether it accepts the login.
async fn log_in(settings: &Settings, runtime: &AmqpRuntime) -> (Vec<Finding>, Option<Link>) {
    let broker = &settings.broker;
    let address = broker.address();
    let vhost = format!("vhost {}", broker.vhost);
    let user = format!("user {}", broker.username);
    let error = |subject: &str, message: String| Finding::error(Section::Broker, subject, message);
    let link = match connect(broker, "tidegate check", runtime).await {
        Ok(link) => link,
        Err(cause) => {
            let finding = match cause.code() {
                Some(403) => error(&user, cause.to_string()),
                Some(_) => error(&vhost, cause.to_string()),
                None => error(&address, cause.to_string()),
            };
            return (vec![finding], None);
        }
    };
    let server = link.server();
    let tls = if broker.tls { ", over TLS" } else { "" };
    let answers = format!("{} {} answers{tls}", server.product, server.version);
    let answers = if server.product == "RabbitMQ" {
        Finding::ok(Section::Broker, address, answers)
    } else {
        let message = format!("{answers}; tidegate is made for RabbitMQ");
        Finding::warning(Section::Broker, address, message)
    };
    let message = format!("{user} is let in");
    let let_in = Finding::ok(Section::Broker, vhost, message);
    (vec![answers, let_in], Some(link))
}

/// Looks at everything. Refusals become findings; an error means that the connection is of no more use.
async fn look(
    settings: &Settings,
    link: &Link,
    findings: &mut Vec<Finding>,
) -> Result<(), BrokerError> {
    findings.push(channels(settings, link));
    status(settings, link, findings).await?;
    for node in &settings.nodes {
        queue(settings, node, link, findings).await?;
    }
    Ok(())
}

/// Whether there is a channel for each node, and one more for declaring.
fn channels(settings: &Settings, link: &Link) -> Finding {
    let negotiated = link.negotiated();
    let needed = settings.nodes.len() + 1;
    let allowed = match negotiated.channel_max {
        0 => usize::from(u16::MAX),
        limit => usize::from(limit),
    };
    let message = format!(
        "{needed} needed on a connection, {allowed} allowed; frames up to {} bytes, heartbeat {}",
        negotiated.frame_max,
        humantime::format_duration(negotiated.heartbeat)
    );
    if needed > allowed {
        return Finding::error(Section::Broker, "channels", message);
    }
    Finding::ok(Section::Broker, "channels", message)
}

/// A worker goes on without the exchanges for status messages and commands, so nothing about them is an error.
async fn status(
    settings: &Settings,
    link: &Link,
    findings: &mut Vec<Finding>,
) -> Result<(), BrokerError> {
    let status = &settings.status;
    for (exchange, without) in [
        (&status.exchange, "no status messages can be sent"),
        (&status.control, "no commands can be taken"),
    ] {
        let subject = format!("exchange {exchange}");
        if !status.enabled {
            let message = "not used: status.enabled = false";
            findings.push(Finding::ok(Section::Broker, subject, message));
            continue;
        }
        let found = match find_exchange(link, exchange).await {
            Ok(()) => declare_topic_exchange(link, exchange)
                .await
                .map(|()| "there, durable, of type topic"),
            Err(error) if error.code() == Some(404) => Ok("not there yet; the worker declares it"),
            Err(error) => Err(error),
        };
        findings.push(match found {
            Ok(message) => Finding::ok(Section::Broker, subject, message),
            // The worker may use it all the same.
            Err(error) if error.code() == Some(403) => {
                let message = format!("whether it is there cannot be seen: {}", refusal(error)?);
                Finding::ok(Section::Broker, subject, message)
            }
            Err(error) => {
                let message = format!("{without}: {}", refusal(error)?);
                Finding::warning(Section::Broker, subject, message)
            }
        });
    }
    Ok(())
}

async fn queue(
    settings: &Settings,
    node: &NodeSettings,
    link: &Link,
    findings: &mut Vec<Finding>,
) -> Result<(), BrokerError> {
    let finding = match find_queue(link, &node.queue).await {
        Ok(facts) => there(settings, node, link, facts, findings).await?,
        Err(error) if error.code() == Some(404) && node.declare => {
            let message = format!(
                "not there yet; the worker declares it, of type {}",
                node.kind.as_str()
            );
            Finding::ok(Section::Queues, &node.queue, message)
        }
        Err(error) if error.code() == Some(404) => {
            let message = "not there, and declare = false: nothing will declare it";
            Finding::error(Section::Queues, &node.queue, message)
        }
        Err(error) => Finding::error(Section::Queues, &node.queue, refusal(error)?),
    };
    findings.push(finding);
    aside::beside(node, link, findings).await?;
    if node.declare {
        bindings(node, link, findings).await?;
    }
    Ok(())
}

/// The queue exists: is it as the node needs it, and may the user consume from it?
async fn there(
    settings: &Settings,
    node: &NodeSettings,
    link: &Link,
    mut facts: QueueFacts,
    findings: &mut Vec<Finding>,
) -> Result<Finding, BrokerError> {
    let mut used = "";
    if node.declare {
        // Without its bindings: those would be new.
        let mut unbound = node.clone();
        unbound.bind = Vec::new();
        match ensure_queue(link, &unbound).await {
            Ok(ensured) => facts = ensured,
            Err(error) => {
                let message = refusal(error)?;
                return Ok(Finding::error(Section::Queues, &node.queue, message));
            }
        }
        used = if facts.differences.is_empty() {
            " as configured"
        } else {
            " and used as it is"
        };
    }
    if !facts.differences.is_empty() {
        let subject = format!("arguments of {}", node.queue);
        let message = facts.differences.join("; ");
        findings.push(Finding::warning(Section::Queues, subject, message));
    }
    if facts.single_active_consumer && !node.single_active_consumer {
        findings.push(single_active_consumer(
            Section::Queues,
            node.queue.clone(),
            settings,
            node,
        ));
    }
    if facts.delivery_limit {
        let message = "there is one, by default 20: the broker drops a message that was lost with its channel more \
                       often";
        let subject = format!("delivery limit of {}", node.queue);
        findings.push(Finding::warning(Section::Queues, subject, message));
    }
    if let Err(error) = queue_type(link, &node.queue).await {
        let message = match error {
            BrokerError::Stream { .. } | BrokerError::Unworkable { .. } => error.to_string(),
            _ => format!("there, but not to consume from: {}", refusal(error)?),
        };
        return Ok(Finding::error(Section::Queues, &node.queue, message));
    }
    let message = format!(
        "there{used}: {} ready, {}",
        count(facts.messages, "message"),
        count(facts.consumers, "consumer")
    );
    Ok(Finding::ok(Section::Queues, &node.queue, message))
}

/// Bindings need their exchange, and the worker declares none. Looking at an exchange takes more permission
/// (configure) than binding to it (read), so a refused look tells nothing.
async fn bindings(
    node: &NodeSettings,
    link: &Link,
    findings: &mut Vec<Finding>,
) -> Result<(), BrokerError> {
    for binding in &node.bind {
        let exchange = &binding.exchange;
        let finding = match find_exchange(link, exchange).await {
            Ok(()) => continue,
            Err(error) if error.code() == Some(403) => {
                let message = format!(
                    "whether its exchange {exchange} is there cannot be seen: {}",
                    refusal(error)?
                );
                Finding::warning(Section::Queues, &node.queue, message)
            }
            Err(error) => {
                let message = format!("cannot be bound to {exchange}: {}", refusal(error)?);
                Finding::error(Section::Queues, &node.queue, message)
            }
        };
        findings.push(finding);
    }
    Ok(())
}

fn count(count: u32, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}
