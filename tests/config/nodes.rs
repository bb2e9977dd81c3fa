//! Rules between keys: queues, pools, handlers, certificates.

use tidegate::config::{Argument, HandlersFrom, Slots, load};

use super::{Place, errors, node, toml, with};

const URL: &str = "broker.url = \"amqp://localhost\"\n";

#[test]
fn a_node_needs_a_queue_of_its_own_and_a_handler() {
    let text = format!("{URL}[[node]]");
    let required = [
        "node[0].queue: is required",
        "node[0].handler: is required: what to do with each message, http, exec, pool or log",
    ];
    assert_eq!(errors(toml(&text, &[])), required);
    let twice = node("[[node]]\nqueue = \"orders\"\nhandler.log = {}");
    let twice = errors(toml(&twice, &[]));
    assert_eq!(
        twice,
        ["node[1].queue = \"orders\": node[0] consumes it already"]
    );
    let none = ["node: at least one is required: a worker consumes at least one queue"];
    assert_eq!(errors(toml(URL, &[])), none);
    assert_eq!(
        errors(toml(&format!("{URL}node = {{}}"), &[])),
        ["node: must be a list, not a table"]
    );
    let long = node("").replace("orders", &"q".repeat(256));
    let shown = "q".repeat(80);
    let message = format!("node[0].queue = \"{shown}\"…: must have 1 to 240 bytes, and has 256");
    assert_eq!(errors(toml(&long, &[])), [message]);
}

#[test]
fn a_queue_of_the_broker_s_own_is_consumed_but_never_declared() {
    let text = node("").replace("orders", "amq.gen-1");
    let message = "node[0].queue = \"amq.gen-1\": must not begin with \"amq.\", which RabbitMQ keeps for itself";
    assert_eq!(errors(toml(&text, &[])), [message]);
    assert!(toml(&format!("{text}declare = false"), &[]).is_ok());
}

#[test]
fn a_program_that_registers_handlers_leaves_them_out() {
    let place = Place::new();
    let text = node("").replace("handler.log = {}", "");
    let path = place.file("worker.toml", &text);
    let settings = load(&path, [], HandlersFrom::Program).unwrap();
    assert!(settings.nodes[0].handler.is_none());
}

#[test]
fn a_pool_gives_a_node_its_slots_and_its_prefetch() {
    let pool = with(&format!(
        "{URL}pool.shared.slots = 40000\npool.other.slots = 3"
    )) + "pool = \"shared\"";
    let settings = toml(&pool, &[]).unwrap();
    assert_eq!(settings.nodes[0].slots, Slots::Pool("shared".into()));
    assert_eq!(settings.nodes[0].prefetch, 65535);
    let near = pool.replace("pool = \"shared\"", "pool = \"shard\"");
    let message = "node[0].pool = \"shard\": unknown pool; did you mean \"shared\"?";
    assert_eq!(errors(toml(&near, &[])), [message]);
    let both = format!("{pool}\nconcurrency = 4");
    let message = "node[0].pool = \"shared\": concurrency is given too: only one of the two can be";
    assert_eq!(errors(toml(&both, &[])), [message]);
}

#[test]
fn certificates_are_looked_into_and_need_an_encrypted_connection() {
    let place = Place::new();
    let made = rcgen::generate_simple_self_signed(vec!["h".into()]).unwrap();
    let cert = place.file("c.pem", &made.cert.pem());
    let key = place.file("k.pem", &made.signing_key.serialize_pem());
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let tls = |scheme: &str, lines: &str| {
        errors(toml(
            &with(&format!("broker.url = \"{scheme}://h\"\n{lines}")),
            &[],
        ))
    };
    let right = format!("broker.ca = {cert:?}\nbroker.cert = {cert:?}\nbroker.key = {key:?}");
    assert_eq!(tls("amqps", &right), [""; 0]);
    let plain = format!(
        "broker.ca = {cert:?}: is for encrypted connections: the URL must begin with amqps://"
    );
    assert_eq!(tls("amqp", &format!("broker.ca = {cert:?}")), [plain]);
    let alone = format!("broker.cert = {cert:?}: needs key beside it");
    assert_eq!(tls("amqps", &format!("broker.cert = {cert:?}")), [alone]);
    let wrong = [
        format!("broker.ca = {key:?}: there is no certificate in the file"),
        format!("broker.cert = {cert:?}: needs key beside it"),
    ];
    assert_eq!(
        tls(
            "amqps",
            &format!("broker.ca = {key:?}\nbroker.cert = {cert:?}")
        ),
        wrong
    );
    let swapped = [
        format!("broker.cert = {key:?}: there is no certificate in the file"),
        format!("broker.key = {cert:?}: there is no private key in PEM in the file"),
    ];
    assert_eq!(
        tls(
            "amqps",
            &format!("broker.cert = {key:?}\nbroker.key = {cert:?}")
        ),
        swapped
    );
}

#[test]
fn dead_letters_go_to_a_queue_of_their_own_unless_it_is_said_where() {
    let with = |lines: &str| toml(&node(lines), &[]);
    let dead = |lines| {
        let settings = with(lines).unwrap();
        let dead = settings.nodes[0].dead_letter.clone();
        (dead.exchange, dead.routing_key)
    };
    assert_eq!(dead(""), (String::new(), "orders.dead".to_owned()));
    assert_eq!(
        dead("dead_letter = { exchange = \"graves\", routing_key = \"\" }"),
        ("graves".to_owned(), String::new())
    );
    assert_eq!(
        errors(with("dead_letter = { routing_key = \"orders\" }")),
        ["node[0].dead_letter = {…}: dead_letter must not lead back to the node's own queue"]
    );
    assert_eq!(
        errors(with("dead_letter = { exchange = \"graves\" }")),
        [
            "node[0].dead_letter.routing_key: is required: what to publish to the exchange with, \"\" for none"
        ]
    );
    assert_eq!(
        errors(with("type = \"classic\"\ndelayed_retry = true")),
        ["node[0].delayed_retry = true: needs type = \"quorum\": classic queues delay nothing"]
    );
}

#[test]
fn a_queue_s_arguments_are_strings_numbers_and_flags() {
    let text =
        node("arguments = { x-max-priority = 10, x-overflow = \"drop-head\", x-odd = true }");
    let settings = toml(&text, &[]).unwrap();
    let arguments: Vec<_> = settings.nodes[0].arguments.iter().collect();
    let expected = [
        ("x-max-priority", Argument::Number(10)),
        ("x-odd", Argument::Flag(true)),
        ("x-overflow", Argument::Text("drop-head".to_owned())),
    ];
    let arguments: Vec<_> = arguments
        .into_iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    assert_eq!(arguments, expected);
    let json = (
        "TIDEGATE__NODE__0__ARGUMENTS",
        "{\"x-max-priority\": 3, \"x-odd\": false}",
    );
    let settings = toml(&node(""), &[json]).unwrap();
    assert_eq!(settings.nodes[0].arguments.len(), 2);
}

#[test]
fn an_argument_that_a_key_says_or_that_has_no_plain_value_is_refused() {
    let text = node("arguments = { x-queue-type = \"classic\", x-ttl = 1.5, x-list = [] }");
    let found = errors(toml(&text, &[]));
    let value = "must be a string, a whole number of 64 bits, or true or false";
    assert_eq!(found.len(), 3, "{found:?}");
    let says = |key: &str, rule: &str| {
        found
            .iter()
            .any(|error| error.contains(key) && error.contains(rule))
    };
    let key = "the node's key \"type\" says it";
    assert!(says("node[0].arguments.x-queue-type", key), "{found:?}");
    assert!(says("node[0].arguments.x-ttl", value), "{found:?}");
    assert!(says("node[0].arguments.x-list", value), "{found:?}");
    let text = node("declare = false\narguments = { x-odd = 1 }");
    let found = errors(toml(&text, &[]));
    assert!(found[0].contains("needs declare = true"), "{found:?}");
}

#[test]
fn a_consumer_s_priority_may_be_below_that_of_others() {
    let settings = toml(&node("priority = -5"), &[]).unwrap();
    assert_eq!(settings.nodes[0].priority, -5);
    let found = errors(toml(&node("priority = 3000000000"), &[]));
    assert!(found[0].contains("must be a whole number"), "{found:?}");
}
