//! `[fleet]`

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::SecretString;

use super::super::fleet::{FleetSettings, ForwardSettings};
use super::super::handler::HttpSettings;
use super::super::section::{Rule, Section};
use super::super::tree::Tree;
use super::super::{HandlersFrom, value};
use super::{HOUR, MINUTE, broker, handler, pem};

pub(super) const KEYS: [&str; 13] = [
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
    "forward",
];

/// Characters of a token. A short one can be guessed.
const TOKEN_MIN: usize = 8;
const TOKEN_MAX: usize = 1_024;
/// The longest that anything is kept.
const YEAR: Duration = Duration::from_hours(365 * 24);

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
    fleet.events_vhost = section.read("events_vhost", value::bytes(1, 255));
    let kept = value::duration(60 * MINUTE, YEAR);
    section.set(&mut fleet.retention, "retention", &kept);
    section.set(&mut fleet.log_max_age, "log_max_age", &kept);
    let workers = value::integer(10, 1_000_000);
    section.set(&mut fleet.max_workers, "max_workers", workers);
    let sizes = value::size(4 << 20, 1 << 40);
    section.set(&mut fleet.log_max_bytes, "log_max_bytes", sizes);
    let beats = value::integer(1, 100_000);
    section.set(&mut fleet.beats_per_second, "beats_per_second", beats);
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
    let name = value::text(tree)?;
    let of_a_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let right = (1..=253).contains(&name.len()) && name.bytes().all(of_a_host);
    if right || name == "*" {
        Ok(name)
    } else {
        Err(
            "must be a host name without a port, such as \"fleet.example.org\", or \"*\" for any"
                .into(),
        )
    }
}

fn token(section: &Section<'_>, key: &str, file: &str, secrets: bool) -> Option<SecretString> {
    if section.has(key) && section.has(file) {
        section.refuse(
            file,
            format!("{key} is given too: only one of the two can be"),
        );
    }
    if section.has(key) {
        return section.secret(key, |tree| right(value::text(tree)?));
    }
    section.read(file, |tree| {
        if secrets {
            let token = right(broker::secret_file(tree)?.1);
            token
                .map(Some)
                .map_err(|rule| format!("the token in the file {rule}"))
        } else {
            value::path(tree).map(|_path| None)
        }
    })?
}

/// A header carries it, so it is printable ASCII without spaces.
fn right(token: String) -> Result<SecretString, Rule> {
    let printable = token.bytes().all(|byte| byte.is_ascii_graphic());
    if printable && (TOKEN_MIN..=TOKEN_MAX).contains(&token.len()) {
        Ok(token.into())
    } else {
        Err(format!(
            "must be {TOKEN_MIN} to {TOKEN_MAX} printable ASCII characters without spaces"
        ))
    }
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
    section.set(
        &mut window,
        "window",
        value::duration(Duration::from_millis(100), HOUR),
    );
    Some(ForwardSettings {
        http: HttpSettings {
            url: url?,
            headers,
            ca,
        },
        window,
    })
}
