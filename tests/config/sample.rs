//! The sample is right, knows every key, and says the true defaults.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tidegate::config::{
    BrokerSettings, HandlerSettings, LogSettings, NodeSettings, Settings, Slots,
};

use super::{Place, errors, load_with, toml};

fn sample() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("config/worker.toml")
}

/// The sample with every commented key uncommented, and without the lines that start with one of `but`.
fn uncommented(but: &[&str]) -> String {
    let text = std::fs::read_to_string(sample()).expect("the sample");
    let lines = text.lines().filter_map(|line| {
        let line = match line.strip_prefix("# ") {
            Some(comment) if is_key(comment) => comment,
            Some(_) => return None,
            None => line,
        };
        (!but.iter().any(|but| line.starts_with(but))).then_some(line)
    });
    lines.fold(String::new(), |mut text, line| {
        writeln!(text, "{line}").expect("a string takes all");
        text
    })
}

/// `key = …`, as opposed to prose.
fn is_key(comment: &str) -> bool {
    comment.split_once(" = ").is_some_and(|(key, _)| {
        !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    })
}

#[test]
fn the_sample_is_a_working_worker_on_a_local_broker() {
    let settings = load_with(&sample(), &[]).unwrap();
    assert_eq!(settings.broker.host, "localhost");
    assert_eq!(settings.broker.vhost, "/");
    assert_eq!(settings.nodes.len(), 1);
    assert_eq!(settings.nodes[0].queue, "orders");
    let handler = settings.nodes[0].handler.as_ref().unwrap();
    assert_eq!(handler.kind(), "log");
}

#[test]
fn the_sample_s_comments_show_the_defaults() {
    let examples = [
        "url_file",
        "hosts ",
        "overflow ",
        "password_file",
        "ca ",
        "cert ",
        "key ",
        "name ",
        "max_length",
        "arguments ",
        "bind ",
        "pool ",
        "handler = { http",
        "handler = { exec",
        "handler = { pool",
    ];
    let shown = toml(&uncommented(&examples), &[]).unwrap();
    let plain = load_with(&sample(), &[]).unwrap();
    assert_eq!(format!("{shown:?}"), format!("{plain:?}"));
    // And those are what a program gets that builds its settings in code.
    let mut built = Settings::new(BrokerSettings::from_url("amqp://localhost").unwrap());
    built.pools = shown.pools.clone();
    let mut node = NodeSettings::new("orders");
    node.handler = Some(HandlerSettings::Log(LogSettings::default()));
    built.nodes.push(node);
    assert_eq!(format!("{built:?}"), format!("{shown:?}"));
}

/// Everything uncommented, minus what excludes each other, is right as far as it can be: only the files of the
/// examples are not there.
#[test]
fn every_key_of_the_sample_is_known() {
    let place = Place::new();
    let certificate = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let pem = place.file("cert.pem", &certificate.cert.pem());
    let key = place.file("key.pem", &certificate.signing_key.serialize_pem());
    let secret = place.file("secret", "amqps://u:p@h/v\n");
    let text = |but: &[&str]| {
        uncommented(but)
            .replace("/etc/tidegate/ca.pem", pem.to_str().unwrap())
            .replace("/etc/tidegate/client.pem", pem.to_str().unwrap())
            .replace("/etc/tidegate/client-key.pem", key.to_str().unwrap())
            .replace("/run/secrets/amqp-url", secret.to_str().unwrap())
            .replace("/run/secrets/amqp-password", secret.to_str().unwrap())
            .replace("/var/lib/orders", place.0.path().to_str().unwrap())
    };
    let handlers = [
        "handler = { log",
        "handler = { http",
        "handler = { exec",
        "handler = { pool",
    ];
    for kept in 0..handlers.len() {
        let mut but = vec!["url = ", "concurrency", "overflow "];
        but.extend(
            handlers
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != kept)
                .map(|(_, line)| *line),
        );
        let settings = toml(&text(&but), &[]).unwrap();
        assert_eq!(settings.nodes[0].slots, Slots::Pool("shared".into()));
        assert_eq!(settings.nodes[0].bind.len(), 1);
        assert_eq!(settings.nodes[0].arguments.len(), 2);
        assert!(settings.broker.identity.is_some());
    }
}

/// The keys are asked of the program itself: a wrong key names all that are known beside it.
#[test]
fn the_sample_has_every_key_that_is_known() {
    let sample = uncommented(&[]);
    let wrong = "\
        zzzzzzzzzzzz = 1\n\
        broker.zzzzzzzzzzzz = 1\n\
        worker.zzzzzzzzzzzz = 1\n\
        drain.zzzzzzzzzzzz = 1\n\
        heartbeat.zzzzzzzzzzzz = 1\n\
        status.zzzzzzzzzzzz = 1\n\
        log.zzzzzzzzzzzz = 1\n\
        pool.x.zzzzzzzzzzzz = 1\n\
        [[node]]\n\
        zzzzzzzzzzzz = 1\n\
        retry.zzzzzzzzzzzz = 1\n\
        bind = [{ zzzzzzzzzzzz = 1 }]\n\
        handler.zzzzzzzzzzzz = 1\n\
        handler.http.zzzzzzzzzzzz = 1\n\
        handler.exec.zzzzzzzzzzzz = 1\n\
        handler.pool.zzzzzzzzzzzz = 1\n\
        handler.log.zzzzzzzzzzzz = 1\n";
    let mut tables = 0;
    for line in errors(toml(wrong, &[])) {
        let Some((_, known)) = line.split_once("zzzzzzzzzzzz: unknown key; known here: ") else {
            continue;
        };
        tables += 1;
        // The fleet program has a sample of its own.
        for key in known.split(", ").filter(|key| *key != "fleet") {
            let written = [
                format!("\n{key} = "),
                format!("[{key}]"),
                format!("[{key}."),
                format!("{{ {key} = "),
                format!(", {key} = "),
            ];
            assert!(
                written.iter().any(|form| sample.contains(form.as_str())),
                "the sample lacks {key}, of {line}"
            );
        }
    }
    assert_eq!(tables, 16);
}
