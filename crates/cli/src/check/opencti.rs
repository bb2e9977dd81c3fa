//! What OpenCTI's worker would find: Python, the platform, its queues.

use super::broker::broker_findings;
use super::{Finding, Level, Section};
use tidegate::config::Settings;
use tidegate_opencti::dead_letter::QUEUE;
use tidegate_opencti::discovery::Discovered;
use tidegate_opencti::python::Versions;
use tidegate_opencti::settings::Settings as OpenCti;
use tidegate_opencti::{InspectedBroker, brokers, inspect, pools};

/// Asks Python, the platform and the broker; starts, declares and consumes nothing.
pub(crate) async fn opencti_findings(own: &Settings, opencti: &OpenCti) -> Vec<Finding> {
    let mut findings = vec![slots(opencti)];
    let inspection = match inspect(opencti.clone()).await {
        Ok(inspection) => inspection,
        Err(error) => {
            let error = Finding::error(Section::Configuration, "opencti", error.to_string());
            findings.push(error);
            return findings;
        }
    };
    findings.push(python(opencti, &inspection.python));
    findings.push(versions(&inspection.platform, &inspection.python));
    match inspection.discovered {
        Ok(found) => findings.extend(queues(own, opencti, found).await),
        Err(why) => findings.push(Finding::error(Section::Platform, "queues", why)),
    }
    findings
}

/// The pools, each with its slots.
fn slots(opencti: &OpenCti) -> Finding {
    let pools = pools(opencti);
    let pools = pools.iter().map(|(name, pool)| {
        let overflow = pool.overflow.as_deref();
        let overflow =
            overflow.map_or_else(String::new, |other| format!(", then those of {other}"));
        format!("{name} has {}{overflow}", count(pool.slots, "slot"))
    });
    let message = pools.collect::<Vec<_>>().join("; ");
    Finding::ok(Section::Configuration, "pools", message)
}

fn python(opencti: &OpenCti, versions: &Result<Versions, String>) -> Finding {
    let program = opencti.python.program.display().to_string();
    match versions {
        Ok(versions) => {
            let message = format!("Python {} with pycti {}", versions.python, versions.pycti);
            Finding::ok(Section::Python, program, message)
        }
        Err(why) => Finding::error(Section::Python, program, why.as_str()),
    }
}

/// Compares the versions of the platform and of pycti.
fn versions(platform: &Result<String, String>, python: &Result<Versions, String>) -> Finding {
    let subject = "version";
    match (platform, python) {
        (Err(why), _) => Finding::error(Section::Platform, subject, why.as_str()),
        (Ok(platform), Ok(python)) if *platform != python.pycti => {
            let message = format!(
                "{platform}, but pycti is {}: imports may fail; install pycti=={platform}",
                python.pycti
            );
            Finding::error(Section::Platform, subject, message)
        }
        (Ok(platform), _) => Finding::ok(Section::Platform, subject, platform.as_str()),
    }
}

async fn queues(own: &Settings, opencti: &OpenCti, found: Discovered) -> Vec<Finding> {
    let mut findings = Vec::new();
    let message = format!("{} to consume", count(found.nodes.len(), "queue"));
    findings.push(if found.nodes.is_empty() {
        let message = "no connector is selected by opencti.only and opencti.except";
        Finding::error(Section::Platform, "queues", message)
    } else {
        Finding::ok(Section::Platform, "queues", message)
    });
    for broken in found.broken {
        findings.push(Finding::warning(Section::Platform, "connector", broken));
    }
    for word in found.unmatched {
        let message = format!("no connector is named {word:?}");
        findings.push(Finding::warning(Section::Platform, "selection", message));
    }
    match brokers(&found.nodes, opencti) {
        Ok(brokers) => {
            for broker in brokers {
                findings.extend(on_broker(own, broker).await);
            }
        }
        Err(why) => findings.push(Finding::error(Section::Platform, "broker", why)),
    }
    findings
}

/// Looks for the queues on their broker.
async fn on_broker(own: &Settings, group: InspectedBroker) -> Vec<Finding> {
    if !group.is_served {
        let message = format!(
            "{} not consumed: one worker serves one broker",
            count(group.nodes.len(), "queue")
        );
        let address = group.broker.address();
        return vec![Finding::warning(Section::Broker, address, message)];
    }
    let mut settings = own.clone();
    settings.broker = group.broker;
    settings.nodes = group.nodes;
    let mut findings = Vec::new();
    let mut dead = None;
    for finding in broker_findings(&settings).await {
        if finding.subject == QUEUE {
            // All nodes share it, and the worker declares it.
            dead.get_or_insert(dead_letters(finding));
            continue;
        }
        findings.push(match group.connectors.get(&finding.subject) {
            Some(connector) => of_connector(finding, connector),
            None => finding,
        });
    }
    findings.extend(dead);
    findings
}

fn dead_letters(finding: Finding) -> Finding {
    if finding.level == Level::Error && finding.message.starts_with("not there") {
        return Finding::ok(
            Section::Queues,
            QUEUE,
            "not there yet; the worker declares it",
        );
    }
    finding
}

fn of_connector(finding: Finding, connector: &str) -> Finding {
    let message = if finding.message.starts_with("not there") {
        format!("{connector}: not there; the worker consumes it once the platform has declared it")
    } else {
        format!("{connector}: {}", finding.message)
    };
    Finding { message, ..finding }
}

fn count(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_to_be_equal() {
        let python = Ok(Versions {
            pycti: "7.1".into(),
            python: "3.13".into(),
        });
        assert_eq!(versions(&Ok("7.1".into()), &python).level, Level::Ok);
        let other = versions(&Ok("7.2".into()), &python);
        assert_eq!(other.level, Level::Error);
        assert!(
            other.message.contains("install pycti==7.2"),
            "{}",
            other.message
        );
        assert_eq!(
            versions(&Err("HTTP 503".into()), &python).level,
            Level::Error
        );
        // Another line tells why Python cannot be used.
        let without = versions(&Ok("7.2".into()), &Err("no Python".into()));
        assert_eq!(without.level, Level::Ok);
    }

    #[test]
    fn a_missing_queue_of_dead_letters_is_no_fault_and_a_missing_push_queue_is() {
        let missing = "not there, and nothing will declare it";
        let found = dead_letters(Finding::error(Section::Queues, QUEUE, missing));
        assert_eq!(found.level, Level::Ok);
        let queue = Finding::error(Section::Queues, "push_a", missing);
        let found = of_connector(queue, "Mandiant");
        assert_eq!(found.level, Level::Error);
        assert!(
            found.message.starts_with("Mandiant: not there;"),
            "{}",
            found.message
        );
    }
}
