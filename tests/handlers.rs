//! The examples of `docs/handlers.md`, run as they stand there.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tidegate::config::{
    ChildPoolSettings, ExecSettings, HandlerSettings, HttpSettings, LogSettings, PoolChannel, Print,
};
use tidegate::delivery::Delivery;
use tidegate::handler::{AnyHandler, Context, Outcome, from_settings};

/// Bodies that are JSON, but no object.
const NO_OBJECTS: [&str; 5] = ["null", "7", "true", r#""order""#, "[]"];

/// The guide's one example in `language`.
fn example(language: &str) -> String {
    let guide = include_str!("../docs/handlers.md");
    let fence = format!("```{language}\n");
    let (_, rest) = guide.split_once(&fence).expect("the guide has the example");
    let (code, rest) = rest.split_once("```\n").expect("the example ends");
    assert!(!rest.contains(&fence), "there is one example in {language}");
    code.to_owned()
}

async fn handle(handler: &AnyHandler, message_id: Option<&str>, body: &str) -> Outcome {
    let mut delivery = Delivery::new("orders", body.to_owned());
    delivery.properties.message_id = message_id.map(str::to_owned);
    let (context, _drain) = Context::detached();
    handler.handle(Arc::new(delivery), context).await
}

/// A child that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Starts the guide's server on a free port; `None` on a machine without Python.
fn serve(directory: &Path) -> Option<(Server, u16)> {
    let script = directory.join("orders.py");
    fs::write(&script, example("python")).unwrap();
    let started = Command::new("python3")
        .arg(&script)
        .arg("0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match started {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        started => started.unwrap(),
    };
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    let server = Server(child);
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let port = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
    Some((server, port))
}

#[tokio::test]
async fn the_guides_server_answers_with_every_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let Some((_server, port)) = serve(directory.path()) else {
        eprintln!("skipped: there is no python3 on this machine");
        return;
    };
    let url = format!("http://127.0.0.1:{port}/orders").parse().unwrap();
    let handler = from_settings(&HandlerSettings::Http(HttpSettings::new(url))).unwrap();
    assert_eq!(handler.kind(), "http");
    let id = Some("ü 1");
    assert_eq!(handle(&handler, id, r#"{"id": 1}"#).await, Outcome::Done);
    assert_eq!(
        handle(&handler, id, r#"{"stock": "unknown"}"#).await,
        Outcome::retry_after(
            Duration::from_secs(5),
            "HTTP 503 Service Unavailable: ask again"
        )
    );
    assert_eq!(
        handle(&handler, id, "{").await,
        Outcome::dead(
            "HTTP 400 Bad Request: ü 1: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
        )
    );
    for body in NO_OBJECTS {
        assert_eq!(
            handle(&handler, id, body).await,
            Outcome::dead("HTTP 400 Bad Request: ü 1: not an order"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn the_guides_script_exits_with_every_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("order.sh");
    fs::write(&script, example("sh")).unwrap();
    // Through its interpreter: another test may be starting a process while the file is written, and
    // the system starts no program that anyone holds open for writing.
    let mut command = ExecSettings::new(["sh", "./order.sh", "--strict"]);
    command.directory = Some(directory.path().to_owned());
    let handler = from_settings(&HandlerSettings::Exec(command)).unwrap();
    assert_eq!(handler.kind(), "exec");
    assert_eq!(
        handle(&handler, Some("a/1"), "order").await,
        Outcome::retry("exit code 75: orders is not mounted")
    );
    let orders = directory.path().join("orders");
    fs::create_dir(&orders).unwrap();
    assert_eq!(handle(&handler, Some("a/1"), "order").await, Outcome::Done);
    assert_eq!(
        fs::read_to_string(orders.join("order-a_1")).unwrap(),
        "order"
    );
    assert_eq!(
        handle(&handler, None, "order").await,
        Outcome::dead("exit code 1: an order needs a message id")
    );
}

fn pool(command: &[&str], directory: &Path, env: BTreeMap<String, SecretString>) -> AnyHandler {
    let mut command = ExecSettings::new(command.iter().copied());
    command.directory = Some(directory.to_owned());
    command.env = env;
    let mut settings = ChildPoolSettings::new(command);
    settings.size = Some(1);
    settings.channel = PoolChannel::Fd;
    let handler = from_settings(&HandlerSettings::Pool(settings)).unwrap();
    assert_eq!(handler.kind(), "pool");
    handler
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Whether this machine has the program.
fn has(program: &str) -> bool {
    let version = Command::new(program).arg("--version").output();
    version.is_ok_and(|version| version.status.success())
}

#[tokio::test]
async fn the_guides_program_in_python_answers_with_every_outcome() {
    if !has("python3") {
        eprintln!("skipped: there is no python3 on this machine");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("orders.py"), example("py")).unwrap();
    let package = repository().join("python/src");
    let variables = [
        ("PYTHONPATH", package.to_str().unwrap()),
        ("PYTHONDONTWRITEBYTECODE", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), SecretString::from(value)));
    let handler = pool(
        &["python3", "orders.py"],
        directory.path(),
        variables.into(),
    );
    let id = Some("ü 1");
    assert_eq!(handle(&handler, id, r#"{"stock": 1}"#).await, Outcome::Done);
    assert_eq!(
        handle(&handler, id, r#"{"stock": "unknown"}"#).await,
        Outcome::retry_after(Duration::from_secs(5), "ask again")
    );
    assert_eq!(
        handle(&handler, id, "{}").await,
        Outcome::dead("ü 1: not an order: 'stock'")
    );
    for body in NO_OBJECTS {
        let outcome = handle(&handler, id, body).await;
        let Outcome::Dead { error, .. } = outcome else {
            panic!("{body}: {outcome:?}");
        };
        assert!(error.starts_with("ü 1: not an order: "), "{error}");
    }
    handler.release().await;
}

#[test]
fn python_passes_its_own_tests() {
    if !has("python3") {
        eprintln!("skipped: there is no python3 on this machine");
        return;
    }
    for (directory, tests) in [("python", "tests"), ("scripts/lib/chaos", ".")] {
        let tests = Command::new("python3")
            .args(["-m", "unittest", "discover", "-s", tests])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(repository().join(directory))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&tests.stderr);
        assert!(tests.status.success(), "{directory}: {said}");
        assert!(said.contains("OK"), "{directory}: {said}");
    }
}

#[tokio::test]
async fn the_example_in_node_answers_with_every_outcome() {
    if !has("node") {
        eprintln!("skipped: there is no node on this machine");
        return;
    }
    let directory = repository().join("examples/pool");
    let handler = pool(&["node", "orders.js"], &directory, BTreeMap::new());
    let id = Some("m-1");
    assert_eq!(
        handle(&handler, id, r#"{"number": 1}"#).await,
        Outcome::Done
    );
    assert_eq!(
        handle(&handler, id, r#"{"stock": "unknown"}"#).await,
        Outcome::retry_after(Duration::from_secs(5), "ask again")
    );
    // V8 quotes half of the emoji in its message.
    for body in NO_OBJECTS.into_iter().chain(["{", "😀"]) {
        let outcome = handle(&handler, id, body).await;
        let Outcome::Dead { error, .. } = outcome else {
            panic!("{body}: {outcome:?}");
        };
        assert!(error.starts_with("not an order: "), "{error}");
    }
    handler.release().await;
}

#[tokio::test]
async fn the_log_handler_is_built_by_its_settings() {
    let settings = HandlerSettings::Log(LogSettings::new(Print::None));
    let handler = from_settings(&settings).unwrap();
    assert_eq!(handler.kind(), "log");
    assert_eq!(handle(&handler, None, "order").await, Outcome::Done);
}

#[test]
fn a_handler_that_cannot_be_built_says_which_and_why() {
    let settings = HandlerSettings::Exec(ExecSettings::new([""; 0]));
    assert_eq!(
        from_settings(&settings).unwrap_err().to_string(),
        "handler exec: command: must begin with a program"
    );
}
