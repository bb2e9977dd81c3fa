//! The walk: from the tree of what was given to the settings, noting everything that breaks a rule.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::error::{ConfigError, ConfigErrors, Rule};
use super::section::{Errors, Section};
use super::settings::{
    DrainSettings, HeartbeatSettings, LogLevel, LogLevelSettings, PoolSettings, Settings,
    StatusSettings, WorkerSettings,
};
use super::tree::Tree;
use super::{HandlersFrom, rules, value};

mod arguments;
mod broker;
mod fleet;
mod handler;
mod node;
mod pem;

const WORKER_KEYS: [&str; 2] = ["name", "http"];
const DRAIN_KEYS: [&str; 1] = ["grace"];
const HEARTBEAT_KEYS: [&str; 2] = ["busy", "idle"];
const STATUS_KEYS: [&str; 3] = ["enabled", "exchange", "control"];
const LOG_KEYS: [&str; 1] = ["level"];
const POOL_KEYS: [&str; 2] = ["slots", "overflow"];

/// The sections with their keys. Those of `pool` have a name before the key, and those of `node` a number.
pub(super) fn section_keys() -> [(&'static str, &'static [&'static str]); 9] {
    [
        ("broker", &broker::KEYS),
        ("worker", &WORKER_KEYS),
        ("drain", &DRAIN_KEYS),
        ("heartbeat", &HEARTBEAT_KEYS),
        ("status", &STATUS_KEYS),
        ("log", &LOG_KEYS),
        ("pool", &POOL_KEYS),
        ("node", &node::KEYS),
        ("fleet", &fleet::KEYS),
    ]
}

/// The settings that the tree says, or every error: those given, and those found.
pub(super) fn settings(
    tree: &Tree,
    errors: Vec<ConfigError>,
    handlers: HandlersFrom,
) -> Result<Settings, Vec<ConfigError>> {
    let errors = Errors::new(errors);
    let sections = section_keys().map(|(section, _)| section);
    let root = Section::root(tree, &sections, &errors);
    let broker = broker::read(&root.table("broker", &broker::KEYS));
    let worker = worker(&root.table("worker", &WORKER_KEYS));
    let drain = drain(&root.table("drain", &DRAIN_KEYS));
    let heartbeat = heartbeat(&root.table("heartbeat", &HEARTBEAT_KEYS));
    let status = status(&root.table("status", &STATUS_KEYS));
    let log = log(&root.table("log", &LOG_KEYS));
    let fleet = fleet::read(&root.table("fleet", &fleet::KEYS), handlers);
    // The fleet program and commands work on no queue: nodes may name what only a worker's host has.
    let without_nodes = matches!(handlers, HandlersFrom::Nobody | HandlersFrom::Command);
    let (pools, nodes) = if without_nodes {
        (BTreeMap::new(), Vec::new())
    } else {
        let pools = pools(&root);
        let nodes = node::read_all(&root, &pools, handlers);
        (pools, nodes)
    };
    let settings = broker.map(|broker| Settings {
        worker,
        drain,
        heartbeat,
        status,
        log,
        pools: pools
            .into_iter()
            .filter_map(|(name, pool)| Some((name, pool?)))
            .collect(),
        nodes,
        fleet,
        ..Settings::new(broker)
    });
    let errors = errors.take();
    match settings {
        Some(settings) if errors.is_empty() => {
            let valid = settings.validate();
            valid.map_err(ConfigErrors::into_errors)?;
            Ok(settings)
        }
        _ => Err(errors),
    }
}

fn worker(section: &Section<'_>) -> WorkerSettings {
    let mut worker = WorkerSettings::default();
    let name = |tree: &Tree| value::text(tree).and_then(rules::worker_name);
    section.set(&mut worker.name, "name", name);
    section.set(&mut worker.http, "http", http);
    worker
}

fn http(tree: &Tree) -> Result<Option<SocketAddr>, Rule> {
    let rule = "must be an IP address and a port such as \"127.0.0.1:8079\", or \"off\"";
    match value::text(tree).map_err(|_type| rule)?.as_str() {
        "off" => Ok(None),
        address => address.parse().map(Some).map_err(|_words| rule.into()),
    }
}

fn drain(section: &Section<'_>) -> DrainSettings {
    let mut drain = DrainSettings::default();
    section.set(&mut drain.grace, "grace", value::duration(rules::GRACE));
    drain
}

fn heartbeat(section: &Section<'_>) -> HeartbeatSettings {
    let mut heartbeat = HeartbeatSettings::default();
    let bounds = value::duration(rules::HEARTBEAT);
    let (busy, idle) = (&mut heartbeat.busy, &mut heartbeat.idle);
    ordered(section, ("busy", busy), ("idle", idle), &bounds);
    heartbeat
}

/// Sets two durations, and notes, at a key that was given, where `short` is longer than `long`.
fn ordered(
    section: &Section<'_>,
    (short, shorter): (&str, &mut Duration),
    (long, longer): (&str, &mut Duration),
    parse: &dyn Fn(&Tree) -> Result<Duration, Rule>,
) {
    let sound = section.set(shorter, short, parse) & section.set(longer, long, parse);
    if !sound {
        return;
    }
    if let Err([of_short, of_long]) = rules::order((short, *shorter), (long, *longer)) {
        if section.has(short) {
            section.refuse(short, of_short);
        } else {
            section.refuse(long, of_long);
        }
    }
}

fn status(section: &Section<'_>) -> StatusSettings {
    let mut status = StatusSettings::default();
    let exchange = |tree: &Tree| value::text(tree).and_then(rules::status_exchange);
    section.set(&mut status.enabled, "enabled", value::boolean);
    let sound = section.set(&mut status.exchange, "exchange", exchange)
        & section.set(&mut status.control, "control", exchange);
    let (key, other) = if section.has("control") {
        ("control", "exchange")
    } else {
        ("exchange", "control")
    };
    if sound && let Err(rule) = rules::exchanges_differ(&status, other) {
        section.refuse(key, rule);
    }
    status
}

fn log(section: &Section<'_>) -> LogLevelSettings {
    let mut log = LogLevelSettings::default();
    section.set(&mut log.level, "level", |tree| {
        let word = value::text(tree).unwrap_or_default();
        let found = LogLevel::ALL
            .into_iter()
            .find(|level| level.as_str() == word);
        found.ok_or_else(|| {
            let words = LogLevel::ALL.map(|level| format!("{:?}", level.as_str()));
            format!("must be one of {}", words.join(", "))
        })
    });
    log
}

/// The pools by name; `None` where one is there but wrong, so that nodes may still name it.
fn pools(root: &Section<'_>) -> BTreeMap<String, Option<PoolSettings>> {
    let Some(pools) = root.field("pool") else {
        return BTreeMap::new();
    };
    let mut read = BTreeMap::new();
    let pools = pools.open();
    let names: Vec<&str> = pools.fields().map(|(name, _)| name).collect();
    for (name, field) in pools.fields() {
        let pool = field.table(&POOL_KEYS);
        if name.is_empty() {
            field.refuse_unshown("a pool needs a name");
        }
        if !pool.has("slots") {
            pool.lacks("slots", "is required: how many deliveries run at once");
        }
        let slots = pool.read("slots", value::integer(rules::POOL_SLOTS));
        let overflow = pool.read("overflow", |tree| {
            let other = value::text(tree)?;
            rules::overflow(name, &other, &names).map(|()| other)
        });
        let settings = |slots| PoolSettings { slots, overflow };
        read.insert(name.to_owned(), slots.map(settings));
    }
    read
}
