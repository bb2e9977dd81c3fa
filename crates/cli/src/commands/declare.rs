//! `tidegate declare`: creates the queues and exchanges that a worker needs.

use std::fmt::Write as _;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::{ConfigArgs, Exit};
use crate::declare::{Declared, Kind, Purpose, State, declare_all};
use crate::output::{conclude, print_aside};
use tidegate::config::HandlersFrom;
use tidegate::internal::broker::{AmqpRuntime, RPC_LIMIT, connect};

/// The options of `tidegate declare`.
#[derive(Debug, Args)]
pub(super) struct DeclareArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only list what is there and what is missing
    #[arg(long)]
    dry_run: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Declares, and lists everything on standard output.
///
/// Ends with [`Exit::Failure`] if something is not usable afterwards.
///
/// # Errors
/// If the configuration is wrong, the broker cannot be reached, or standard output cannot be written to.
pub(super) async fn run(args: DeclareArgs) -> anyhow::Result<Exit> {
    let settings = super::load_for(&args.config, HandlersFrom::Configuration)?;
    let runtime = AmqpRuntime::start().context("cannot start a thread for the connection")?;
    let link = connect(&settings.broker, "tidegate declare", &runtime).await?;
    let declared = declare_all(&settings, &link, args.dry_run).await?;
    link.close(RPC_LIMIT).await?;
    let failed = declared.iter().any(|item| item.state == State::Failed);
    let exit = if failed { Exit::Failure } else { Exit::Clean };
    let output = if args.json {
        json(&declared, args.dry_run)
    } else {
        text(&declared)
    };
    Ok(conclude(print_aside(output).await, exit)?)
}

fn json(declared: &[Declared], dry_run: bool) -> String {
    #[derive(Serialize)]
    struct Report<'d> {
        dry_run: bool,
        items: &'d [Declared],
    }
    let report = Report {
        dry_run,
        items: declared,
    };
    serde_json::to_string_pretty(&report).expect("the report is plain data") + "\n"
}

/// One line for each queue and exchange.
fn text(declared: &[Declared]) -> String {
    let mut text = String::new();
    for item in declared {
        let state = match item.state {
            State::Exists => "exists ",
            State::Created => "created",
            State::Missing => "missing",
            State::Failed => "FAILED ",
        };
        let kind = match item.kind {
            Kind::Queue => "queue",
            Kind::Exchange => "exchange",
        };
        let purpose = match item.purpose {
            Purpose::Status => "status messages",
            Purpose::Control => "commands",
            Purpose::Work => "the node's queue",
            Purpose::DeadLetters => "dead letters",
            Purpose::Retries => "retries",
        };
        let node = item.node.as_deref().filter(|node| *node != item.name);
        let node = node.map_or_else(String::new, |node| format!(" of {node}"));
        let error = item.error.as_deref();
        let error = error.map_or_else(String::new, |error| format!(": {error}"));
        writeln!(
            text,
            "{state}  {kind} {}  ({purpose}{node}){error}",
            item.name
        )
        .expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_one_line_with_its_state_and_purpose() {
        let item = |name: &str, purpose, state, error: Option<&str>| Declared {
            kind: Kind::Queue,
            name: name.to_owned(),
            node: Some("orders".to_owned()),
            purpose,
            state,
            error: error.map(str::to_owned),
        };
        let items = [
            item("orders", Purpose::Work, State::Exists, None),
            item(
                "orders.dead",
                Purpose::DeadLetters,
                State::Failed,
                Some("no"),
            ),
        ];
        assert_eq!(
            text(&items),
            "exists   queue orders  (the node's queue)\n\
             FAILED   queue orders.dead  (dead letters of orders): no\n"
        );
        let json: serde_json::Value = serde_json::from_str(&json(&items, true)).unwrap();
        assert_eq!(json["dry_run"], true);
        assert_eq!(json["items"][1]["purpose"], "dead_letters");
        assert_eq!(json["items"][1]["state"], "failed");
    }
}
