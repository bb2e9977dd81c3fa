//! Which broker a connector's queues are on, as discovery says.

use secrecy::{ExposeSecret as _, SecretString};

/// The address of a broker. Queues of equal addresses share their connections; the password is no part of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BrokerKey {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Virtual host.
    pub vhost: String,
    /// User.
    pub user: String,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// A broker's address and password.
#[derive(Debug, Clone)]
pub struct Broker {
    /// The address.
    pub key: BrokerKey,
    /// The user's password.
    pub password: SecretString,
}

impl Broker {
    /// The address as an AMQP URL, with the password.
    pub fn url(&self) -> url::Url {
        let scheme = if self.key.tls { "amqps" } else { "amqp" };
        let host = if self.key.host.contains(':') && !self.key.host.starts_with('[') {
            format!("[{}]", self.key.host)
        } else {
            self.key.host.clone()
        };
        let mut url = url::Url::parse(&format!("{scheme}://{host}:{}", self.key.port))
            .expect("discovery takes only hosts that a URL can hold");
        url.set_username(&self.key.user)
            .expect("a URL with a host can have a user");
        url.set_password(Some(self.password.expose_secret()))
            .expect("a URL with a host can have a password");
        url.path_segments_mut()
            .expect("a URL with a host has a path")
            .push(&self.key.vhost);
        url
    }
}

impl BrokerKey {
    /// Whether `host` can stand in a URL.
    pub(crate) fn accepts(host: &str) -> bool {
        let bracketed = host.contains(':') && !host.starts_with('[');
        let text = if bracketed {
            format!("amqp://[{host}]:1")
        } else {
            format!("amqp://{host}:1")
        };
        url::Url::parse(&text)
            .is_ok_and(|url| url.host_str().is_some() && url.path().trim_matches('/').is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(host: &str, vhost: &str, password: &str) -> Broker {
        Broker {
            key: BrokerKey {
                host: host.into(),
                port: 5672,
                vhost: vhost.into(),
                user: "o p".into(),
                tls: false,
            },
            password: password.to_owned().into(),
        }
    }

    #[test]
    fn a_url_escapes_what_it_has_to() {
        assert_eq!(
            broker("rabbit", "/", "p@ss/word").url().as_str(),
            "amqp://o%20p:p%40ss%2Fword@rabbit:5672/%2F"
        );
        assert_eq!(
            broker("::1", "octi", "p").url().as_str(),
            "amqp://o%20p:p@[::1]:5672/octi"
        );
    }

    #[test]
    fn hosts_that_no_url_can_hold_are_refused() {
        for host in ["rabbit", "10.0.0.1", "::1", "rabbit.example.org"] {
            assert!(BrokerKey::accepts(host), "{host}");
        }
        for host in ["", "a b", "a/b", "a@:b"] {
            assert!(!BrokerKey::accepts(host), "{host:?}");
        }
    }
}
