//! `[fleet]`: what it takes, what it refuses, and that its file may be a worker's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tidegate::config::{self, ConfigErrors, FleetSettings, HandlersFrom, Settings};

use super::{Place, errors, with};

const BROKER: &str = "broker.url = \"amqp://localhost\"\n";

fn load(path: &Path, variables: &[(&str, &str)]) -> Result<Settings, ConfigErrors> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    config::load(path, variables, HandlersFrom::Nobody)
}

fn fleet(text: &str) -> Result<Settings, ConfigErrors> {
    let place = Place::new();
    load(&place.file("fleet.toml", text), &[])
}

fn sample() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("config/fleet.toml")
}

/// The sample with every commented key uncommented, but those that start with one of `but`.
fn uncommented(but: &[&str]) -> String {
    let text = std::fs::read_to_string(sample()).expect("the sample");
    let key = |line: &str| {
        line.split_once(" = ")
            .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let lines = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(comment) if key(comment) => comment,
        _ => line,
    });
    let kept = lines.filter(|line| !but.iter().any(|but| line.starts_with(but)));
    kept.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_sample_is_right_and_its_comments_show_the_defaults() {
    let plain = load(&sample(), &[]).unwrap();
    assert_eq!(
        format!("{:?}", plain.fleet),
        format!("{:?}", FleetSettings::default())
    );
    let examples = ["hosts", "token", "read_token", "events_vhost", "forward"];
    let shown = fleet(&uncommented(&examples)).unwrap();
    assert_eq!(format!("{shown:?}"), format!("{plain:?}"));
}

#[test]
fn the_sample_has_every_key_that_is_known() {
    let sample = uncommented(&[]);
    let wrong = "fleet.zzzzzzzzzzzz = 1\nfleet.forward.zzzzzzzzzzzz = 1\n";
    let mut tables = 0;
    for line in errors(fleet(wrong)) {
        let Some((_, known)) = line.split_once("unknown key; known here: ") else {
            continue;
        };
        tables += 1;
        for key in known.split(", ") {
            let forms = [
                format!("\n{key} = "),
                format!("{{ {key} = "),
                format!(", {key} = "),
            ];
            assert!(
                forms.iter().any(|form| sample.contains(form.as_str())),
                "the sample lacks {key}, of {line}"
            );
        }
    }
    assert_eq!(tables, 2);
}

#[test]
fn every_key_is_read() {
    let place = Place::new();
    let token = place.file("token", "commander\n");
    let text = format!(
        "{BROKER}[fleet]\nhttp = \"0.0.0.0:81\"\ntoken_file = {token:?}\nread_token = \"read-only\"\n\
         events_vhost = \"/\"\nretention = \"2d\"\nmax_workers = 50\nlog_max_age = \"3d\"\n\
         log_max_bytes = \"64MiB\"\nbeats_per_second = 9\n\
         forward = {{ url = \"http://p/x\", window = \"3s\", headers = {{ a = \"b\" }} }}"
    );
    let read = fleet(&text).unwrap().fleet;
    assert_eq!(read.http.port(), 81);
    assert_eq!(read.token.unwrap().expose_secret(), "commander");
    assert_eq!(read.read_token.unwrap().expose_secret(), "read-only");
    assert_eq!(read.events_vhost.as_deref(), Some("/"));
    assert_eq!(read.retention, Duration::from_hours(48));
    assert_eq!((read.max_workers, read.beats_per_second), (50, 9));
    assert_eq!(read.log_max_age, Duration::from_hours(72));
    assert_eq!(read.log_max_bytes, 64 << 20);
    let forward = read.forward.unwrap();
    assert_eq!(forward.window, Duration::from_secs(3));
    assert_eq!(forward.http.headers.len(), 1);
}

#[test]
fn what_is_wrong_is_named_with_its_rule_and_no_secret() {
    let token = "must be 8 to 1024 printable ASCII characters without spaces";
    let rows = [
        (
            "http = \"off\"",
            "fleet.http = \"off\": must be an IP address and a port such as \"127.0.0.1:8080\""
                .to_owned(),
        ),
        ("token = \"short\"", format!("fleet.token: {token}")),
        (
            "read_token = \"with a space\"",
            format!("fleet.read_token: {token}"),
        ),
        (
            "token = \"commander\"\ntoken_file = \"/nowhere\"",
            "fleet.token_file = \"/nowhere\": token is given too: only one of the two can be"
                .into(),
        ),
        (
            "token_file = \"/nowhere\"",
            "fleet.token_file = \"/nowhere\": cannot be read: No such file or directory".into(),
        ),
        (
            "retention = \"1m\"",
            "fleet.retention = \"1m\": must be from 1h to 8760h".into(),
        ),
        (
            "log_max_bytes = \"1MiB\"",
            "fleet.log_max_bytes = \"1MiB\": must be from 4.0 MiB to 1.0 TiB".into(),
        ),
        (
            "beats_per_second = 0",
            "fleet.beats_per_second = 0: must be a whole number from 1 to 100000".into(),
        ),
        ("forward = {}", "fleet.forward.url: is required".into()),
        (
            "forward = { url = \"ftp://u:secret@h\" }",
            "fleet.forward.url: must begin with http:// or https://".into(),
        ),
    ];
    for (lines, message) in rows {
        let text = format!("{BROKER}[fleet]\n{lines}");
        assert_eq!(errors(fleet(&text)), [message], "of {lines}");
    }
}

#[test]
fn one_file_serves_a_worker_and_the_fleet_program() {
    let shared = with("broker.url = \"amqp://localhost\"\n[fleet]\ntoken_file = \"/nowhere\"");
    let worker = super::toml(&shared, &[]).unwrap();
    assert_eq!(worker.nodes.len(), 1, "its host need not have the token");
    let text = "broker.url = \"amqp://localhost\"\n[[node]]\nqueue = \"q\"\nhandler.exec = { command = [\"x\"], directory = \"/nowhere\" }";
    let fleet = fleet(text).unwrap();
    assert!(fleet.nodes.is_empty(), "nor the fleet's what handlers need");
}

#[test]
fn variables_set_its_keys() {
    let place = Place::new();
    let path = place.file("fleet.toml", BROKER);
    let variables = [
        ("TIDEGATE__FLEET__TOKEN", "from-the-environment"),
        ("TIDEGATE__FLEET__FORWARD__URL", "http://p/x"),
        (
            "TIDEGATE__FLEET__FORWARD__HEADERS__AUTHORIZATION",
            "Bearer x",
        ),
    ];
    let read = load(&path, &variables).unwrap().fleet;
    assert_eq!(read.token.unwrap().expose_secret(), "from-the-environment");
    assert_eq!(read.forward.unwrap().http.headers.len(), 1);
}
