//! What the tests share: the interpreter with `pycti`, and settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tidegate::delivery::Delivery;
use tidegate::handler::Context;
use tidegate::lifecycle::DrainTrigger;
use tidegate_opencti::discovery::{Selection, discover};
use tidegate_opencti::python::Python;
use tidegate_opencti::settings::{Settings, Sources};
use tidegate_opencti::{Engine, OpenCtiHandler};

use tidegate_platform_stub::Platform;

/// The newest version of `pycti` that is tested.
const NEWEST: &str = "7.261026.0";
/// The oldest that has what is needed.
const OLDEST: &str = "7.260309.0.8";

/// The Python with the newest `pycti`: `TIDEGATE_TEST_PYCTI`, or what `scripts/pycti` made. `None` after saying loudly
/// that the test is skipped.
pub(crate) fn interpreter() -> Option<PathBuf> {
    let given = std::env::var_os("TIDEGATE_TEST_PYCTI").map(PathBuf::from);
    there(given.unwrap_or_else(|| cached(NEWEST)))
}

/// The Python with the oldest `pycti`, likewise.
pub(crate) fn oldest_interpreter() -> Option<PathBuf> {
    there(cached(OLDEST))
}

/// Both, as far as they are there.
pub(crate) fn interpreters() -> Vec<PathBuf> {
    let both = [interpreter(), oldest_interpreter()];
    both.into_iter().flatten().collect()
}

fn cached(version: &str) -> PathBuf {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    home.join(format!(".cache/tidegate/pycti-{version}/bin/python3"))
}

fn there(program: PathBuf) -> Option<PathBuf> {
    if program.exists() {
        return Some(program);
    }
    let shown = program.display();
    eprintln!("SKIPPED: no Python with pycti at {shown}; run scripts/pycti");
    None
}

/// Settings as the environment would give them.
pub(crate) fn settings(url: &str, program: &Path, more: &[(&str, &str)]) -> Settings {
    let program = program.display().to_string();
    let mut variables = BTreeMap::from([
        ("OPENCTI_URL", url),
        ("OPENCTI_TOKEN", "token"),
        ("TIDEGATE__OPENCTI__PYTHON", program.as_str()),
    ]);
    variables.extend(more.iter().copied());
    Settings::read(&Sources {
        environment: &|name| variables.get(name).map(|&value| value.to_owned()),
        platform: None,
        section: None,
    })
    .unwrap()
}

/// Children of `program` that import into `platform`.
pub(crate) fn python(platform: &Platform, program: &Path, more: &[(&str, &str)]) -> Python {
    Python::new(&settings(&platform.url(), program, more), 4).unwrap()
}

/// A handler of a push queue of `platform`.
pub(crate) fn handler(
    platform: &Platform,
    program: &Path,
    more: &[(&str, &str)],
) -> (Arc<Engine>, OpenCtiHandler) {
    let engine = Engine::new(settings(&platform.url(), program, more)).unwrap();
    let node = discover(
        &json!([connector("a", None)]),
        &Selection::default(),
        &BTreeMap::new(),
    );
    let node = node.unwrap().nodes.remove("push_a").unwrap();
    (Arc::clone(&engine), OpenCtiHandler::new(engine, node))
}

/// A connector as the platform lists it.
pub(crate) fn connector(id: &str, callback: Option<&str>) -> Value {
    json!({"id": id, "name": format!("Connector {id}"), "connector_priority_group": "DEFAULT",
        "config": {"connection": {"host": "127.0.0.1", "vhost": "/", "use_ssl": false, "port": 5672,
            "user": "guest", "pass": "guest"},
        "listen": format!("listen_{id}"), "listen_exchange": "amqp.connector.exchange",
        "listen_callback_uri": callback, "push": format!("push_{id}"),
        "push_exchange": "amqp.worker.exchange", "push_routing": format!("push_routing_{id}"),
        "dead_letter_routing": format!("dead_{id}")}})
}

/// A message with `bundle` and the keys in `more`.
pub(crate) fn delivery(bundle: &Value, more: &Value) -> Arc<Delivery> {
    let content = STANDARD.encode(bundle.to_string());
    let mut message = json!({"type": "bundle", "content": content});
    message
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let mut delivery = Delivery::new("push_a", message.to_string());
    delivery.exchange = "amqp.worker.exchange".into();
    delivery.routing_key = "push_routing_a".into();
    Arc::new(delivery)
}

/// A context outside a worker: no drain ever begins.
pub(crate) fn context() -> Context {
    Context::new(DrainTrigger::new().signal())
}
