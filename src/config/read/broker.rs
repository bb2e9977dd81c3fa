//! `[broker]`

use std::path::PathBuf;

use super::super::broker::{BrokerSettings, host_and_port, secret};
use super::super::error::Rule;
use super::super::section::Section;
use super::super::tree::Tree;
use super::super::{rules, value};
use super::pem;

pub(super) const KEYS: [&str; 9] = [
    "url",
    "hosts",
    "url_file",
    "password_file",
    "ca",
    "cert",
    "key",
    "connect_timeout",
    "heartbeat",
];

/// The rule for a host.
const HOST_RULE: &str = "must be a host such as \"rabbit-2\", \"rabbit-2:5672\" or \"[::1]:5672\"";

pub(super) fn read(section: &Section<'_>) -> Option<BrokerSettings> {
    let broker = url(section);
    let password = section.read("password_file", secret_file);
    let port = broker.as_ref().map_or(0, |broker| broker.port);
    let other_hosts = section.list("hosts").into_iter();
    let other_hosts = other_hosts.filter_map(|field| {
        field.read(|tree| host_and_port(&value::text(tree)?, port).map_err(|_| HOST_RULE.into()))
    });
    let other_hosts: Vec<_> = other_hosts.collect();
    if let Err(rule) = rules::other_hosts(other_hosts.len()) {
        section.refuse("hosts", rule);
    }
    let ca = section.read("ca", pem::certificates);
    let identity = identity(section);
    let timeout = value::duration(rules::CONNECT_TIMEOUT);
    let connect_timeout = section.read("connect_timeout", timeout);
    let heartbeat = section.read("heartbeat", |tree| {
        rules::broker_heartbeat(value::any_duration(tree)?)
    });
    let mut broker = broker?;
    for key in ["ca", "cert", "key"] {
        if let Err(rule) = rules::needs_amqps(section.has(key), broker.tls) {
            section.refuse(key, rule);
        }
    }
    if let Some((path, password)) = password {
        broker.password = password.into();
        broker.password_file = Some(path);
    }
    // The URL's own host may be listed again.
    let own = (broker.host.clone(), broker.port);
    broker.other_hosts = other_hosts
        .into_iter()
        .filter(|host| *host != own)
        .collect();
    broker.ca = ca;
    broker.identity = identity;
    broker.connect_timeout = connect_timeout.unwrap_or(broker.connect_timeout);
    broker.heartbeat = heartbeat.unwrap_or(broker.heartbeat);
    Some(broker)
}

fn url(section: &Section<'_>) -> Option<BrokerSettings> {
    let parse = |url: &str| BrokerSettings::from_url(url).map_err(|error| error.to_string());
    if let Some(field) = section.field("url_file")
        && value::text(field.tree).is_ok_and(|text| text.contains("://"))
    {
        // Not shown: what was meant for `url` may hold a password.
        field.refuse_unshown("must name the file that holds the URL; the URL itself goes to url");
        return None;
    }
    match (section.has("url"), section.has("url_file")) {
        (true, true) => {
            section.refuse("url_file", "url is given too: only one of the two can be");
            section.secret("url", |tree| parse(&value::text(tree)?))
        }
        (true, false) => section.secret("url", |tree| parse(&value::text(tree)?)),
        (false, true) => section.read("url_file", |tree| {
            let (path, url) = secret_file(tree)?;
            let broker = parse(&url).map_err(|rule| format!("the URL in the file {rule}"))?;
            Ok(BrokerSettings {
                url_file: Some(path),
                ..broker
            })
        }),
        (false, false) => {
            section.lacks(
                "url",
                "is required, here or in the file that url_file names",
            );
            None
        }
    }
}

/// A path, and the text of the file there.
pub(super) fn secret_file(tree: &Tree) -> Result<(PathBuf, String), Rule> {
    let path = value::path(tree)?;
    let text = secret(&path)?;
    Ok((path, text))
}

fn identity(section: &Section<'_>) -> Option<(PathBuf, PathBuf)> {
    let certificate = section.read("cert", pem::certificates);
    let key = section.read("key", pem::private_key);
    for (key, other) in [("cert", "key"), ("key", "cert")] {
        if section.has(key) && !section.has(other) {
            section.refuse(key, format!("needs {other} beside it"));
        }
    }
    certificate.zip(key)
}
