//! Secrets are in no text that a person may read.

use proptest::prelude::*;

use super::{Place, errors, load_with, toml};

const RIGHT: &str = r#"
[broker]
url = "amqp://user:SECRET@host/v"
[[node]]
queue = "a"
handler.http = { url = "http://user:SECRET@h/p", headers = { authorization = "Bearer SECRET" } }
[[node]]
queue = "b"
handler.exec = { command = ["x", "--token=SECRET"], env = { TOKEN = "SECRET" } }
"#;

#[test]
fn the_password_in_a_file_wins_over_the_url_s_and_loses_its_newline() {
    let place = Place::new();
    for end in ["", "\n", "\r\n"] {
        let file = place.file("password", &format!(" pass word{end}"));
        let text = format!(
            "broker.password_file = {file:?}\nbroker.url = \"amqp://u:old@h\"\n[[node]]\nqueue = \"q\"\nhandler.log = {{}}"
        );
        let settings = toml(&text, &[]).unwrap();
        let password = secrecy::ExposeSecret::expose_secret(&settings.broker.password);
        assert_eq!(password, " pass word");
    }
    let empty = place.file("empty", "\n");
    let text = super::with(&format!(
        "broker = {{ url = \"amqp://h\", password_file = {empty:?} }}"
    ));
    let message = format!("broker.password_file = {empty:?}: the file is empty");
    assert_eq!(errors(toml(&text, &[])), [message]);
}

#[test]
fn a_url_in_a_file_is_never_shown() {
    let place = Place::new();
    let file = place.file("url", "amqp://u:hidden@h:x\n");
    let text = super::with(&format!("broker.url_file = {file:?}"));
    let message = format!(
        "broker.url_file = {file:?}: the URL in the file is not a URL such as amqp://user:password@host:5672/vhost: invalid port number"
    );
    assert_eq!(errors(toml(&text, &[])), [message]);
}

#[test]
fn a_url_where_its_file_belongs_is_not_shown() {
    let message =
        "broker.url_file: must name the file that holds the URL; the URL itself goes to url";
    for lines in [
        "broker.url_file = \"amqp://u:hidden@h\"",
        "broker.url_file = \"amqp://u:hidden@h\"\nbroker.url = \"amqp://h\"",
    ] {
        assert_eq!(errors(toml(&super::with(lines), &[])), [message]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_secret_is_in_debug_or_in_an_error(secret in "[a-z0-9]{16}", cut in 0..RIGHT.len()) {
        let text = RIGHT.replace("SECRET", &secret);
        let settings = toml(&text, &[]).unwrap();
        let shown = format!("{settings:?} {settings:#?}");
        prop_assert!(!shown.contains(&secret));

        // Every value wrong in its sort or its form, one after the other.
        let wrong = text
            .replace("amqp://", "ampq://")
            .replace("http://", "htp//")
            .replace("Bearer ", "\\u0007")
            .replace("--token=", "\\u0000")
            .replace("TOKEN = \"", "TOKEN = \"\\u0000");
        let errors = toml(&wrong, &[]).unwrap_err();
        prop_assert_eq!(errors.errors().len(), 5);
        let said = format!("{errors} {errors:?}");
        prop_assert!(!said.contains(&secret), "{said}");

        // And a file that ends anywhere.
        let place = Place::new();
        if let Err(errors) = load_with(&place.file("cut.toml", &text[..cut]), &[]) {
            let said = format!("{errors} {errors:?}");
            prop_assert!(!said.contains(&secret), "{said}");
        }
    }
}
