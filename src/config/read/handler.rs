//! `handler = { <kind> = { … } }`

use std::collections::BTreeMap;

use secrecy::SecretString;
use url::Url;

use super::super::error::Rule;
use super::super::handler::{
    ChildPoolSettings, ExecSettings, HandlerSettings, HttpSettings, LogSettings, PoolChannel, Print,
};
use super::super::section::{Field, Section};
use super::super::tree::Tree;
use super::super::{HandlersFrom, file, rules, value};
use super::pem;

const KINDS: [&str; 4] = ["http", "exec", "pool", "log"];

pub(super) fn read(node: &Section<'_>, handlers: HandlersFrom) -> Option<HandlerSettings> {
    if !node.has("handler") {
        if handlers == HandlersFrom::Configuration {
            node.lacks(
                "handler",
                "is required: what to do with each message, http, exec, pool or log",
            );
        }
        return None;
    }
    let section = node.table("handler", &KINDS);
    let mut kinds = KINDS.into_iter().filter(|kind| section.has(kind));
    let (kind, more) = (kinds.next(), kinds.next());
    match (kind, more) {
        (None, _) if section.is_empty() => {
            section.wrong("must name one of http, exec, pool and log");
        }
        (Some(_), Some(_)) => section.wrong("must name only one of http, exec, pool and log"),
        _ => {}
    }
    // Every kind that is there is read for its errors; the first is it.
    let http = read_kind(&section, "http", &["url", "headers", "ca"], http);
    let exec = read_kind(&section, "exec", &["command", "directory", "env"], exec);
    let pool = read_kind(&section, "pool", &POOL_KEYS, pool);
    let log = read_kind(&section, "log", &["print"], |log| Some(self::log(log)));
    http.map(HandlerSettings::Http)
        .or(exec.map(HandlerSettings::Exec))
        .or(pool.map(HandlerSettings::Pool))
        .or(log.map(HandlerSettings::Log))
}

fn read_kind<T>(
    section: &Section<'_>,
    kind: &str,
    known: &[&str],
    read: impl FnOnce(&Section<'_>) -> Option<T>,
) -> Option<T> {
    let field = section.field(kind)?;
    read(&field.table(known))
}

fn http(section: &Section<'_>) -> Option<HttpSettings> {
    if !section.has("url") {
        section.lacks("url", "is required");
    }
    let url = section.secret("url", url);
    let headers = headers(section);
    let ca = section.read("ca", pem::certificates);
    if section.has("ca") && url.as_ref().is_some_and(|url| url.scheme() != "https") {
        section.refuse(
            "ca",
            "is for encrypted connections: the URL must begin with https://",
        );
    }
    Some(HttpSettings {
        url: url?,
        headers,
        ca,
    })
}

pub(super) fn url(tree: &Tree) -> Result<Url, Rule> {
    let url = Url::parse(&value::text(tree)?)
        .map_err(|error| format!("is not a URL such as http://host:9000/path: {error}"))?;
    rules::http_url(&url).map(|()| url)
}

pub(super) fn headers(section: &Section<'_>) -> BTreeMap<String, SecretString> {
    let mut headers: BTreeMap<String, SecretString> = BTreeMap::new();
    let Some(table) = section.field("headers") else {
        return headers;
    };
    for (name, field) in table.open().fields() {
        if let Err(rule) = rules::header_name(name, headers.keys()) {
            field.refuse_unshown(rule);
        }
        let value = field.secret(|tree| Ok(rules::header_value(value::text(tree)?)?.into()));
        headers.extend(value.map(|value| (name.to_owned(), value)));
    }
    headers
}

fn exec(section: &Section<'_>) -> Option<ExecSettings> {
    let parts = section.list("command");
    if !section.has("command") {
        section.lacks(
            "command",
            "is required: the program and its arguments, as a list",
        );
    } else if parts.is_empty()
        && section
            .field("command")
            .is_some_and(|field| field.is_list())
    {
        section.refuse("command", "must name a program");
    }
    let command: Vec<String> = parts
        .iter()
        .enumerate()
        .filter_map(|(index, part)| part.secret(|tree| rules::argument(value::text(tree)?, index)))
        .collect();
    let directory = section.read("directory", |tree| {
        let path = value::path(tree)?;
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => Ok(path),
            Ok(_) => Err("is not a directory".into()),
            Err(error) => Err(format!("cannot be opened: {}", file::cause(&error))),
        }
    });
    let env = section.field("env").map(|table| variables(&table));
    (!command.is_empty()).then(|| ExecSettings {
        command,
        directory,
        env: env.unwrap_or_default(),
    })
}

const POOL_KEYS: [&str; 8] = [
    "command",
    "directory",
    "env",
    "size",
    "warm",
    "channel",
    "max_deliveries",
    "max_rss",
];

fn pool(section: &Section<'_>) -> Option<ChildPoolSettings> {
    let command = exec(section);
    let size = section.read("size", value::integer(rules::CHILDREN));
    let mut warm = false;
    section.set(&mut warm, "warm", value::boolean);
    if let Err(rule) = rules::warm(warm, section.has("size")) {
        section.refuse("warm", rule);
    }
    let mut channel = PoolChannel::default();
    section.set(&mut channel, "channel", |tree| {
        match value::text(tree).as_deref() {
            Ok("stdio") => Ok(PoolChannel::Stdio),
            Ok("fd") => Ok(PoolChannel::Fd),
            Ok(_) | Err(_) => Err("must be \"stdio\" or \"fd\"".into()),
        }
    });
    let max_deliveries = section.read("max_deliveries", value::integer(rules::MAX_DELIVERIES));
    let max_rss = section.read("max_rss", value::size(rules::MAX_RSS));
    Some(ChildPoolSettings {
        command: command?,
        size,
        warm,
        channel,
        max_deliveries,
        max_rss,
    })
}

fn variables(table: &Field<'_>) -> BTreeMap<String, SecretString> {
    let mut variables = BTreeMap::new();
    for (name, field) in table.open().fields() {
        if let Err(rule) = rules::variable(name) {
            field.refuse_unshown(rule);
        }
        let value = field.secret(|tree| rules::without_nul(value::text(tree)?));
        variables.extend(value.map(|value| (name.to_owned(), SecretString::from(value))));
    }
    variables
}

fn log(section: &Section<'_>) -> LogSettings {
    let mut log = LogSettings::default();
    section.set(&mut log.print, "print", |tree| {
        match value::text(tree).as_deref() {
            Ok("none") => Ok(Print::None),
            Ok("line") => Ok(Print::Line),
            Ok("body") => Ok(Print::Body),
            Ok(_) | Err(_) => Err("must be \"none\", \"line\" or \"body\"".into()),
        }
    });
    log
}
