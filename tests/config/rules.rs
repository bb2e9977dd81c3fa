//! What is said about wrong configurations, word for word.

use std::path::Path;

use super::{Place, errors, load_with, node, toml, with};

const URL: &str = "broker.url = \"amqp://localhost\"\n";

/// Each row: lines before the node, and the one error that they are.
#[test]
fn a_wrong_section_is_named_with_key_value_and_rule() {
    let rows = [
        (
            "",
            "broker.url: is required, here or in the file that url_file names",
        ),
        (
            "broker = \"amqp://u:secret@h\"",
            "broker: must be a table, not a string",
        ),
        ("broker.url = 5", "broker.url: must be a string"),
        (
            "broker.url = \"http://u:secret@h\"",
            "broker.url: must begin with amqp:// or amqps://",
        ),
        ("broker.url = \"amqp:///v\"", "broker.url: must name a host"),
        (
            "broker.url = \"amqp://h:0\"",
            "broker.url: the port must be from 1 to 65535",
        ),
        (
            "broker.url = \"amqp://h:port\"",
            "broker.url: is not a URL such as amqp://user:password@host:5672/vhost: invalid port number",
        ),
        (
            "broker.url = \"amqp://h?heartbeat=5\"",
            "broker.url: must have no query; say it by the keys connect_timeout, heartbeat, ca, cert and key (a \"?\" in a name or password is %3F)",
        ),
        (
            "broker.url = \"amqp://u:p@h/v#x\"",
            "broker.url: must have no fragment (a \"#\" in a name or password is %23)",
        ),
        (
            "broker.url = \"amqp://h/a/b\"",
            "broker.url: must name one virtual host after the host (a \"/\" in its name is %2f)",
        ),
        (
            "broker.url = \"amqp://u:%ff@h\"",
            "broker.url: what it escapes with % must be UTF-8 without NUL",
        ),
        (
            "broker.url = \"amqp://h\"\nbroker.url_file = \"/nowhere\"",
            "broker.url_file = \"/nowhere\": url is given too: only one of the two can be",
        ),
        (
            "broker.url_file = \"/nowhere\"",
            "broker.url_file = \"/nowhere\": cannot be read: No such file or directory",
        ),
        (
            "broker.url_file = \"/\"",
            "broker.url_file = \"/\": cannot be read: Is a directory",
        ),
    ];
    for (lines, message) in rows {
        assert_eq!(errors(toml(&with(lines), &[])), [message], "of {lines}");
    }
}

/// As above, with a right broker.
#[test]
fn a_wrong_value_of_the_worker_is_named_with_its_bounds() {
    let unit = "needs a unit: a string such as \"25s\"";
    let name =
        "must be 1 to 100 letters, digits, \"-\" or \"_\" (no dot: it is a word of routing keys)";
    let http = "must be an IP address and a port such as \"127.0.0.1:8079\", or \"off\"";
    let rows = [
        ("borker.x = 1", "borker: unknown key; did you mean \"broker\"?".to_owned()),
        (
            "threads = 1",
            "threads: unknown key; known here: broker, worker, drain, heartbeat, status, log, pool, node, fleet".into(),
        ),
        ("broker.password-file = \"x\"", "broker.password-file: unknown key; did you mean \"password_file\"?".into()),
        ("broker.heartbeat = 20", "broker.heartbeat = 20: needs a unit: a string such as \"25s\"".into()),
        ("broker.heartbeat = \"1500ms\"", "broker.heartbeat = \"1500ms\": must be whole seconds".into()),
        ("broker.connect_timeout = \"1h\"", "broker.connect_timeout = \"1h\": must be from 100ms to 5m".into()),
        ("broker.password_file = \"/nowhere\"", "broker.password_file = \"/nowhere\": cannot be read: No such file or directory".into()),
        ("worker.name = \"web.1\"", format!("worker.name = \"web.1\": {name}")),
        ("worker.name = \"\"", format!("worker.name = \"\": {name}")),
        ("worker.http = \"localhost:0\"", format!("worker.http = \"localhost:0\": {http}")),
        ("worker.http = false", format!("worker.http = false: {http}")),
        ("drain.grace = 25", format!("drain.grace = 25: {unit}")),
        ("drain.grace = \"25\"", "drain.grace = \"25\": needs a unit, such as \"25s\"".into()),
        ("drain.grace = \"soon\"", "drain.grace = \"soon\": must be a duration such as \"25s\", \"5m\" or \"100ms\"".into()),
        ("drain.grace = \"2d\"", "drain.grace = \"2d\": must be from 1s to 24h".into()),
        ("drain.grace = { a = 1 }", "drain.grace = {…}: must be a string with a unit, such as \"25s\"".into()),
        ("heartbeat.busy = \"20m\"", "heartbeat.busy = \"20m\": must not be longer than idle, which is 10m".into()),
        ("heartbeat.idle = \"5s\"", "heartbeat.idle = \"5s\": must not be shorter than busy, which is 5m".into()),
        ("status.enabled = \"yes\"", "status.enabled = \"yes\": must be true or false".into()),
        ("status.exchange = \"\"", "status.exchange = \"\": must have 1 to 127 bytes, and has 0".into()),
        ("status.exchange = \"amq.topic\"", "status.exchange = \"amq.topic\": must not begin with \"amq.\", which RabbitMQ keeps for itself".into()),
        ("status.control = \"tidegate.status\"", "status.control = \"tidegate.status\": must differ from exchange".into()),
        ("pool.a = {}", "pool.a.slots: is required: how many deliveries run at once".into()),
        ("pool.a.slots = 0", "pool.a.slots = 0: must be a whole number from 1 to 65535".into()),
        ("pool.a.slots = 1.5", "pool.a.slots = 1.5: must be a whole number from 1 to 65535".into()),
    ];
    for (lines, message) in rows {
        let text = with(&format!("{URL}{lines}"));
        assert_eq!(errors(toml(&text, &[])), [message], "of {lines}");
    }
}

/// Each row: lines in the node.
#[test]
fn a_wrong_node_is_named_by_its_number() {
    let rows = [
        (
            "concurency = 4",
            "node[0].concurency: unknown key; did you mean \"concurrency\"?",
        ),
        (
            "concurrency = 0",
            "node[0].concurrency = 0: must be a whole number from 1 to 10000",
        ),
        (
            "concurrency = \"8\"",
            "node[0].concurrency = \"8\": must be a whole number from 1 to 10000",
        ),
        (
            "pool = \"shared\"",
            "node[0].pool = \"shared\": unknown pool",
        ),
        ("pool = 1", "node[0].pool = 1: must be a string"),
        (
            "prefetch = 65536",
            "node[0].prefetch = 65536: must be a whole number from 1 to 65535",
        ),
        (
            "type = \"stream\"",
            "node[0].type = \"stream\": must be \"quorum\" or \"classic\"",
        ),
        (
            "declare = false\nmax_length = 5",
            "node[0].max_length = 5: needs declare = true: nothing is declared here",
        ),
        (
            "declare = false\ntype = \"quorum\"",
            "node[0].type = \"quorum\": needs declare = true: nothing is declared here",
        ),
        (
            "declare = false\nbind = []",
            "node[0].bind = […]: needs declare = true: nothing is declared here",
        ),
        (
            "max_length = -1",
            "node[0].max_length = -1: must be a whole number from 1 to 9223372036854775807",
        ),
        (
            "bind = [{ exchange = \"x\" }]",
            "node[0].bind[0].key: is required: the binding key, \"\" for none",
        ),
        ("bind = \"x\"", "node[0].bind: must be a list, not a string"),
        (
            "timeout = \"1ms\"",
            "node[0].timeout = \"1ms\": must be from 10ms to 24h",
        ),
        (
            "max_body = 1024",
            "node[0].max_body = 1024: needs a unit: a string such as \"16MiB\"",
        ),
        (
            "max_body = \"1GiB\"",
            "node[0].max_body = \"1GiB\": must be from 1 B to 512.0 MiB",
        ),
        (
            "max_body = \"big\"",
            "node[0].max_body = \"big\": must be a size such as \"16MiB\", \"512kB\" or \"1B\"",
        ),
        ("retry = 3", "node[0].retry: must be a table, not a number"),
        (
            "retry.max_attempts = 0",
            "node[0].retry.max_attempts = 0: must be a whole number from 1 to 1000",
        ),
        (
            "retry.min = \"10m\"",
            "node[0].retry.min = \"10m\": must not be longer than max, which is 5m",
        ),
        (
            "retry.max = \"500ms\"",
            "node[0].retry.max = \"500ms\": must not be shorter than min, which is 1s",
        ),
        (
            "handler.exec.command = [\"x\"]",
            "node[0].handler: must name only one of http, exec, pool and log",
        ),
        (
            "handler.log.print = \"all\"",
            "node[0].handler.log.print = \"all\": must be \"none\", \"line\" or \"body\"",
        ),
    ];
    for (lines, message) in rows {
        // A row's own `log` takes the place of the empty one.
        let mut text = node(lines);
        if lines.contains("handler.log") {
            text = text.replacen("handler.log = {}\n", "", 1);
        }
        assert_eq!(errors(toml(&text, &[])), [message], "of {lines}");
    }
}

/// Each row: the handler.
#[test]
fn a_wrong_handler_is_named_without_its_secrets() {
    let rows = [
        (
            "{}",
            "node[0].handler: must name one of http, exec, pool and log",
        ),
        (
            "{ htpp = {} }",
            "node[0].handler.htpp: unknown key; did you mean \"http\"?",
        ),
        (
            "{ http = \"http://h/token\" }",
            "node[0].handler.http: must be a table, not a string",
        ),
        ("{ http = {} }", "node[0].handler.http.url: is required"),
        (
            "{ http = { url = \"h/token\" } }",
            "node[0].handler.http.url: is not a URL such as http://host:9000/path: relative URL without a base",
        ),
        (
            "{ http = { url = \"ftp://h\" } }",
            "node[0].handler.http.url: must begin with http:// or https://",
        ),
        (
            "{ http = { url = \"http://h\", headers = { Host = \"x\" } } }",
            "node[0].handler.http.headers.Host: the HTTP client sets this header itself",
        ),
        (
            "{ http = { url = \"http://h\", headers = { Tidegate-Queue = \"x\" } } }",
            "node[0].handler.http.headers.Tidegate-Queue: names that begin with tidegate- are those of the worker itself",
        ),
        (
            "{ http = { url = \"http://h\", headers = { \"a b\" = \"x\" } } }",
            "node[0].handler.http.headers.\"a b\": is not the name of an HTTP header",
        ),
        (
            "{ http = { url = \"http://h\", headers = { a = \"secret\\n\" } } }",
            "node[0].handler.http.headers.a: the value has characters that an HTTP header cannot carry",
        ),
        (
            "{ http = { url = \"http://h\", headers = { a = \"1\", A = \"2\" } } }",
            "node[0].handler.http.headers.A: is there twice, in upper and lower case",
        ),
        (
            "{ http = { url = \"https://h\", ca = \"/nowhere\" } }",
            "node[0].handler.http.ca = \"/nowhere\": cannot be read: No such file or directory",
        ),
        (
            "{ exec = {} }",
            "node[0].handler.exec.command: is required: the program and its arguments, as a list",
        ),
        (
            "{ exec = { command = \"curl -u u:secret\" } }",
            "node[0].handler.exec.command: must be a list, not a string",
        ),
        (
            "{ exec = { command = [] } }",
            "node[0].handler.exec.command = […]: must name a program",
        ),
        (
            "{ exec = { command = [\"\"] } }",
            "node[0].handler.exec.command[0]: must name a program",
        ),
        (
            "{ exec = { command = [\"x\", 5] } }",
            "node[0].handler.exec.command[1]: must be a string",
        ),
        (
            "{ exec = { command = [\"x\"], directory = \"/nowhere\" } }",
            "node[0].handler.exec.directory = \"/nowhere\": cannot be opened: No such file or directory",
        ),
        (
            "{ exec = { command = [\"x\"], env = { \"A=B\" = \"secret\" } } }",
            "node[0].handler.exec.env.\"A=B\": a variable's name must not be empty or contain \"=\" or NUL",
        ),
    ];
    for (handler, message) in rows {
        let text = format!("{URL}[[node]]\nqueue = \"orders\"\nhandler = {handler}");
        assert_eq!(errors(toml(&text, &[])), [message], "of {handler}");
    }
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
    let place = Place::new();
    let text = "[[node]]\nretry = { max = \"1s\", min = \"5s\" }\nqueue = 5\nhandler.log = {}\n\
        [drain]\ngrace = 25\n[broker]\nurl = \"x\"\n";
    let path = place.file("bad.toml", text);
    let error = load_with(&path, &[("TIDEGATE__WORKER__NAME", "a.b")]).unwrap_err();
    let expected = format!(
        "{}: 5 errors in the configuration\n  \
        node[0].retry.min = \"5s\": must not be longer than max, which is 1s\n  \
        node[0].queue = 5: must be a string\n  \
        drain.grace = 25: needs a unit: a string such as \"25s\"\n  \
        broker.url: is not a URL such as amqp://user:password@host:5672/vhost: relative URL without a base\n  \
        worker.name = \"a.b\" (from TIDEGATE__WORKER__NAME): must be 1 to 100 letters, digits, \"-\" or \"_\" (no dot: it is a word of routing keys)",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_file_that_cannot_be_read_is_one_clear_error() {
    let missing = load_with(Path::new("/nowhere/worker.toml"), &[]).unwrap_err();
    let expected = "/nowhere/worker.toml: 1 error in the configuration\n  cannot be read: No such file or directory";
    assert_eq!(missing.to_string(), expected);
    let other = errors(load_with(Path::new("/nowhere/worker.ini"), &[]));
    let expected =
        "the file's name must end in .toml, .yaml, .yml or .json, which says how to read it";
    assert_eq!(other, [expected]);
}
