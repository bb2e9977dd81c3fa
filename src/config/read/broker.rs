//! `[broker]`

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::super::broker::BrokerSettings;
use super::super::section::{Rule, Section};
use super::super::tree::Tree;
use super::super::{file, value};
use super::{MINUTE, pem};

pub(super) const KEYS: [&str; 8] = [
    "url",
    "url_file",
    "password_file",
    "ca",
    "cert",
    "key",
    "connect_timeout",
    "heartbeat",
];

pub(super) fn read(section: &Section<'_>) -> Option<BrokerSettings> {
    let broker = url(section);
    let password = section.read("password_file", |tree| {
        let password = secret_file(tree)?;
        if password.contains('\0') {
            return Err("the password must not contain NUL".into());
        }
        Ok(SecretString::from(password))
    });
    let ca = section.read("ca", pem::certificates);
    let identity = identity(section);
    let timeout = value::duration(Duration::from_millis(100), 5 * MINUTE);
    let connect_timeout = section.read("connect_timeout", timeout);
    let heartbeat = section.read("heartbeat", heartbeat);
    let mut broker = broker?;
    if !broker.tls {
        for key in ["ca", "cert", "key"] {
            if section.has(key) {
                section.refuse(
                    key,
                    "is for encrypted connections: the URL must begin with amqps://",
                );
            }
        }
    }
    if let Some(password) = password {
        broker.password = password;
    }
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
            let url = secret_file(tree)?;
            parse(&url).map_err(|rule| format!("the URL in the file {rule}"))
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

/// The text of the file at a path, without the newline that editors put at its end.
pub(super) fn secret_file(tree: &Tree) -> Result<String, Rule> {
    let path = value::path(tree)?;
    let text = file::text(&path).map_err(|cause| format!("cannot be read: {cause}"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err("the file is empty".into());
    }
    Ok(text.to_owned())
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

/// AMQP counts heartbeats in whole seconds.
fn heartbeat(tree: &Tree) -> Result<Duration, Rule> {
    let heartbeat = value::duration(Duration::from_secs(1), 10 * MINUTE)(tree)?;
    if heartbeat.subsec_nanos() == 0 {
        Ok(heartbeat)
    } else {
        Err("must be whole seconds".into())
    }
}
