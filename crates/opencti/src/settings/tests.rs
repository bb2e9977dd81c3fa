//! Settings from variables, the platform's file and ours.

use std::collections::BTreeMap;

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::*;

const NEEDED: [(&str, &str); 2] = [
    ("OPENCTI_URL", "http://opencti:8080/base"),
    ("OPENCTI_TOKEN", "secret"),
];

fn read_all(
    variables: &[(&str, &str)],
    platform: Option<&Value>,
    section: Option<&Value>,
) -> Result<Settings, SettingErrors> {
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    Settings::read(&Sources {
        environment: &|name| variables.get(name).map(|&value| value.to_owned()),
        platform,
        section,
    })
}

fn read(more: &[(&str, &str)]) -> Result<Settings, SettingErrors> {
    read_all(&[&NEEDED[..], more].concat(), None, None)
}

fn errors(more: &[(&str, &str)]) -> Vec<String> {
    let errors = read(more).unwrap_err().0;
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn url_and_token_are_enough() {
    let settings = read(&[]).unwrap();
    assert_eq!(settings.url.as_str(), "http://opencti:8080/base");
    assert!(matches!(&settings.token, Token::Inline(token) if token.expose_secret() == "secret"));
    assert_eq!(settings.verify, Verify::No);
    assert_eq!(
        (
            settings.execution_pool,
            settings.realtime_pool,
            settings.listen_pool
        ),
        (2, 3, 5)
    );
    assert_eq!(settings.requests_timeout, Duration::from_mins(5));
    assert_eq!(settings.prefetch, 1);
    assert_eq!(settings.max_body, 512 << 20);
    assert!(settings.json_logging && settings.python.fork);
    assert_eq!(settings.telemetry, None);
    assert!(!format!("{settings:?}").contains("secret"));
}

#[test]
fn an_empty_variable_is_the_default() {
    let settings = read(&[
        ("OPENCTI_EXECUTION_POOL_SIZE", ""),
        ("OPENCTI_SSL_VERIFY", " "),
        ("OPENCTI_JSON_LOGGING", ""),
    ])
    .unwrap();
    assert_eq!(settings.execution_pool, 2);
    assert!(settings.json_logging);
}

#[test]
fn all_errors_come_at_once_and_name_variable_value_and_rule() {
    let found = errors(&[
        ("OPENCTI_URL", "opencti:8080"),
        ("OPENCTI_TOKEN", "ChangeMe"),
        ("OPENCTI_EXECUTION_POOL_SIZE", "0"),
        ("OPENCTI_JSON_LOGGING", "on"),
        ("OPENCTI_CUSTOM_HEADERS", "secret"),
        ("OPENCTI_MISSING_REF_RETRY_FACTOR", "0.5"),
        ("WORKER_LOG_LEVEL", "loud"),
        ("WORKER_PROMETHEUS_TELEMETRY_HOST", "nowhere"),
        ("MQ_USE_SSL_CERT", "-----BEGIN CERTIFICATE-----"),
        ("OPENCTI_SSL_VERIFY", "/no/such/file"),
    ]);
    assert_eq!(
        found,
        [
            "OPENCTI_URL: must be a URL that begins with http:// or https://",
            "OPENCTI_TOKEN: must be the token of the platform's user, not the example's ChangeMe",
            r#"WORKER_PROMETHEUS_TELEMETRY_HOST = "nowhere": must be an IP address"#,
            r#"OPENCTI_SSL_VERIFY = "/no/such/file": must be true, false, or the path of a file with certificate authorities"#,
            "OPENCTI_CUSTOM_HEADERS: must be pairs name:value, separated by semicolons",
            r#"OPENCTI_EXECUTION_POOL_SIZE = "0": must be a whole number from 1 to 1000"#,
            r#"OPENCTI_MISSING_REF_RETRY_FACTOR = "0.5": must be a number from 1 to 3600"#,
            "MQ_USE_SSL_CERT: must hold at least one certificate in PEM",
            "MQ_USE_SSL_KEY: must be set together with MQ_USE_SSL_CERT",
            r#"WORKER_LOG_LEVEL = "loud": must be one of debug, info, warn, warning, error, critical"#,
            r#"OPENCTI_JSON_LOGGING = "on": must be yes, true or True, or no, false or False"#,
        ]
    );
}

#[test]
fn nothing_set_names_both_variables() {
    let errors = read_all(&[], None, None).unwrap_err().to_string();
    assert!(errors.starts_with("2 errors"), "{errors}");
    assert!(errors.contains("OPENCTI_URL: must be set"), "{errors}");
    assert!(errors.contains("OPENCTI_TOKEN: must be set"), "{errors}");
}

#[test]
fn the_words_for_true_and_false_are_pythons() {
    for (text, expected) in [
        ("yes", true),
        ("True", true),
        ("no", false),
        ("False", false),
    ] {
        let settings = read(&[("WORKER_LISTEN_API_SSL_VERIFY", text)]).unwrap();
        assert_eq!(settings.callback.verify, expected);
    }
    assert_eq!(
        read(&[("OPENCTI_SSL_VERIFY", "true")]).unwrap().verify,
        Verify::System
    );
}

#[test]
fn the_environment_wins_over_the_platforms_file_and_that_over_ours() {
    let platform = json!({"opencti": {"url": "http://platform", "token": "t", "execution_pool_size": 7},
        "worker": {"log_level": "debug"}, "mq": {"use_ssl_reject_unauthorized": true}});
    let section = json!({"url": "http://ours", "realtime_execution_pool_size": 9, "listen_pool_size": 4,
        "only": ["a", "b"], "execution_pool_size": 1});
    let variables = [
        ("OPENCTI_URL", "http://environment"),
        ("TIDEGATE__OPENCTI__PREFETCH", "3"),
    ];
    let settings = read_all(&variables, Some(&platform), Some(&section)).unwrap();
    assert_eq!(settings.url.as_str(), "http://environment/");
    assert_eq!(settings.execution_pool, 7);
    assert_eq!(settings.realtime_pool, 9);
    assert_eq!(settings.listen_pool, 4);
    assert_eq!(settings.log_level(), Some(LogLevel::Debug));
    assert!(settings.broker_tls.reject_unauthorized);
    assert_eq!(settings.selection.only, ["a", "b"]);
    assert_eq!(settings.prefetch, 3);
}

#[test]
fn a_value_of_a_file_is_named_by_its_place() {
    let platform = json!({"opencti": {"execution_pool_size": "many"}});
    let section = json!({"hold_max": "1 day and a bit", "exept": ["a"]});
    let errors = read_all(&NEEDED, Some(&platform), Some(&section)).unwrap_err();
    let lines: Vec<_> = errors.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            r#"opencti.exept: is unknown; did you mean "except"?"#,
            r#"config.yml: opencti.execution_pool_size = "many": must be a whole number from 1 to 1000"#,
            r#"opencti.hold_max = "1 day and a bit": must be a duration from 1s to 24h"#,
        ]
    );
}

#[test]
fn a_token_that_no_request_can_carry_is_refused() {
    for token in ["pasted twice", "pasted\nlines", "päßted"] {
        let found = errors(&[("OPENCTI_TOKEN", token)]);
        let rule = "OPENCTI_TOKEN: must be visible ASCII characters without spaces";
        assert_eq!(found, [rule], "{token:?}");
    }
}

#[test]
fn each_wrong_proxy_and_certificate_is_named_and_causes_no_second_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let empty = file.path().to_str().unwrap();
    let no_certificate = "must hold at least one certificate in PEM";
    let no_proxy = "must be the URL of a proxy, such as http://proxy:3128";
    let text = "-----BEGIN CERTIFICATE-----";
    for (key, value, rule) in [
        ("HTTPS_CA_CERTIFICATES", text, no_certificate),
        ("REQUESTS_CA_BUNDLE", empty, no_certificate),
        ("OPENCTI_SSL_VERIFY", empty, no_certificate),
        ("HTTP_PROXY", "ht tp://", no_proxy),
        ("HTTPS_PROXY", "ht tp://", no_proxy),
        ("WORKER_LISTEN_API_HTTP_PROXY", "ht tp://", no_proxy),
        ("WORKER_LISTEN_API_HTTPS_PROXY", "ht tp://", no_proxy),
    ] {
        assert_eq!(errors(&[(key, value)]), [format!("{key}: {rule}")]);
    }
    let file = [
        ("OPENCTI_TOKEN", ""),
        ("TIDEGATE__OPENCTI__TOKEN_FILE", "/no"),
    ];
    let rule = "must be the path of a file that can be read";
    let expected = format!("TIDEGATE__OPENCTI__TOKEN_FILE = \"/no\": {rule}");
    assert_eq!(errors(&file), [expected]);
}

#[test]
fn each_default_is_the_platforms() {
    let settings = read(&[]).unwrap();
    assert_eq!(
        settings.missing_reference,
        MissingReferenceDelays::default()
    );
    assert_eq!(settings.objects_max_refs, 0);
    assert!(!settings.callback.verify && !settings.broker_tls.reject_unauthorized);
    assert_eq!(settings.proxies, Proxies::default());
    assert_eq!(settings.callback.proxies, Proxies::default());
    assert_eq!(settings.custom_headers, CustomHeaders::default());
    assert_eq!((settings.ca_certificates, settings.ca_bundle), (None, None));
    assert_eq!(settings.hold_max, Duration::from_mins(25));
    assert_eq!(settings.discovery_interval, Duration::from_mins(1));
    assert!(settings.selection.is_all() && !settings.python.require_version);
    let telemetry = read(&[("WORKER_TELEMETRY_ENABLED", "yes")])
        .unwrap()
        .telemetry;
    assert_eq!(telemetry.unwrap().to_string(), "0.0.0.0:14270");
}

#[test]
fn every_variable_reaches_its_setting() {
    let settings = read(&[
        ("OPENCTI_REALTIME_EXECUTION_POOL_SIZE", "4"),
        ("OPENCTI_REQUESTS_TIMEOUT", "60"),
        ("OPENCTI_MISSING_REF_RETRY_EXPONENTIAL", "True"),
        ("OPENCTI_MISSING_REF_RETRY_INITIAL_DELAY", "0.1"),
        ("OPENCTI_MISSING_REF_RETRY_FACTOR", "3"),
        ("WORKER_LISTEN_POOL_SIZE", "6"),
        ("WORKER_LISTEN_API_HTTP_PROXY", "http://one"),
        ("WORKER_LISTEN_API_HTTPS_PROXY", "http://two"),
        ("WORKER_TELEMETRY_ENABLED", "true"),
        ("WORKER_PROMETHEUS_TELEMETRY_PORT", "9000"),
        ("WORKER_PROMETHEUS_TELEMETRY_HOST", "::1"),
        ("WORKER_OBJECTS_MAX_REFS", "100"),
        ("HTTP_PROXY", "http://three"),
        ("NO_PROXY", "localhost"),
        ("OPENCTI_JSON_LOGGING", "no"),
    ])
    .unwrap();
    assert_eq!((settings.realtime_pool, settings.listen_pool), (4, 6));
    assert_eq!(settings.requests_timeout, Duration::from_mins(1));
    let delays = MissingReferenceDelays {
        exponential: true,
        initial: 0.1,
        factor: 3.0,
    };
    assert_eq!(settings.missing_reference, delays);
    let callback = settings.callback.proxies;
    assert_eq!(callback.http.as_deref(), Some("http://one"));
    assert_eq!(callback.https.as_deref(), Some("http://two"));
    assert_eq!(settings.telemetry.unwrap().to_string(), "[::1]:9000");
    assert_eq!(settings.objects_max_refs, 100);
    assert_eq!(settings.proxies.http.as_deref(), Some("http://three"));
    assert_eq!(settings.proxies.except.as_deref(), Some("localhost"));
    assert!(!settings.json_logging);
}

#[test]
fn the_level_of_the_log_is_pythons() {
    assert_eq!(read(&[]).unwrap().log_level(), None);
    for (text, level) in [
        ("DEBUG", LogLevel::Debug),
        ("info", LogLevel::Info),
        ("warn", LogLevel::Warn),
        ("WARNING", LogLevel::Warn),
        ("error", LogLevel::Error),
        ("critical", LogLevel::Error),
    ] {
        let settings = read(&[("WORKER_LOG_LEVEL", text)]).unwrap();
        assert_eq!(settings.log_level(), Some(level), "{text}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let found = errors(&[
        ("MQ_USE_SSL_KEY", "pasted-key"),
        ("OPENCTI_CUSTOM_HEADERS", "pasted-secret"),
        ("OPENCTI_URL", "ftp://user:pasted-password@host"),
    ]);
    assert!(!found.concat().contains("pasted"), "{found:?}");
}

#[test]
fn headers_proxies_and_telemetry_are_read() {
    let settings = read(&[
        ("OPENCTI_CUSTOM_HEADERS", "X-One: 1;x-two:a:b;"),
        ("https_proxy", "http://proxy:3128"),
        ("WORKER_TELEMETRY_ENABLED", "true"),
        ("WORKER_PROMETHEUS_TELEMETRY_HOST", "localhost"),
    ])
    .unwrap();
    assert_eq!(
        settings.custom_headers.0,
        [
            ("X-One".to_owned(), "1".to_owned()),
            ("x-two".to_owned(), "a:b".to_owned())
        ]
    );
    assert_eq!(settings.proxies.https.as_deref(), Some("http://proxy:3128"));
    assert_eq!(settings.telemetry.unwrap().to_string(), "127.0.0.1:14270");
}
