//! `[fleet]`

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::SecretString;

use super::super::error::Rule;
use super::super::fleet::{FleetSettings, ForwardSettings};
use super::super::handler::HttpSettings;
use super::super::section::Section;
use super::super::tree::Tree;
use super::super::{HandlersFrom, rules, value};
use super::{broker, handler, pem};

pub(super) const KEYS: [&str; 14] = [
    "http",
    "hosts",
    "token",
    "token_file",
    "read_token",
    "read_token_file",
    "events_vhost",
    "retention",
    "max_workers",
    "log_max_age",
    "log_max_bytes",
    "beats_per_second",
    "dead_letters",
    "forward",
];

/// A file that a worker and the fleet program share may name secrets that the worker's host does not have:
/// only the fleet program opens them.
pub(super) fn read(section: &Section<'_>, handlers: HandlersFrom) -> FleetSettings {
    let mut fleet = FleetSettings::default();
    let secrets = handlers == HandlersFrom::Nobody;
    section.set(&mut fleet.http, "http", address);
    fleet.hosts = section
        .list("hosts")
        .iter()
        .filter_map(|name| name.read(host))
        .collect();
    fleet.token = token(section, "token", "token_file", secrets);
    fleet.read_token = token(section, "read_token", "read_token_file", secrets);
    fleet.events_vhost = section.read("events_vhost", value::bytes(rules::NAME));
    let kept = value::duration(rules::KEPT);
    section.set(&mut fleet.retention, "retention", &kept);
    section.set(&mut fleet.log_max_age, "log_max_age", &kept);
    let workers = value::integer(rules::MAX_WORKERS);
    section.set(&mut fleet.max_workers, "max_workers", workers);
    let sizes = value::size(rules::LOG_BYTES);
    section.set(&mut fleet.log_max_bytes, "log_max_bytes", sizes);
    let beats = value::integer(rules::BEATS_PER_SECOND);
    section.set(&mut fleet.beats_per_second, "beats_per_second", beats);
    section.set(&mut fleet.dead_letters, "dead_letters", value::boolean);
    fleet.forward = section.field("forward").and_then(|field| {
        let keys = ["url", "window", "headers", "ca"];
        forward(&field.table(&keys), secrets)
    });
    fleet
}

fn address(tree: &Tree) -> Result<SocketAddr, Rule> {
    let rule = "must be an IP address and a port such as \"127.0.0.1:8080\"";
    let text = value::text(tree).map_err(|_type| rule)?;
    text.parse().map_err(|_words| rule.into())
}

fn host(tree: &Tree) -> Result<String, Rule> {
    rules::host_name(value::text(tree)?)
}

fn token(section: &Section<'_>, key: &str, file: &str, secrets: bool) -> Option<SecretString> {
    if section.has(key) && section.has(file) {
        section.refuse(
            file,
            format!("{key} is given too: only one of the two can be"),
        );
    }
    if section.has(key) {
        return section.secret(key, |tree| Ok(rules::token(value::text(tree)?)?.into()));
    }
    section.read(file, |tree| {
        if secrets {
            let token = rules::token(broker::secret_file(tree)?.1);
            token
                .map(|token| Some(token.into()))
                .map_err(|rule| format!("the token in the file {rule}"))
        } else {
            value::path(tree).map(|_path| None)
        }
    })?
}

fn forward(section: &Section<'_>, secrets: bool) -> Option<ForwardSettings> {
    if !section.has("url") {
        section.lacks("url", "is required");
    }
    let url = section.secret("url", handler::url);
    let headers = handler::headers(section);
    let ca = section.read("ca", |tree| {
        if secrets {
            pem::certificates(tree)
        } else {
            value::path(tree)
        }
    });
    let mut window = Duration::from_secs(10);
    let windows = value::duration(rules::FORWARD_WINDOW);
    section.set(&mut window, "window", windows);
    Some(ForwardSettings {
        http: HttpSettings {
            url: url?,
            headers,
            ca,
        },
        window,
    })
}
