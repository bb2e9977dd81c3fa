//! By which names the fleet program may be addressed. A page elsewhere cannot read what this program says, but it can
//! have its own name point here (DNS rebinding); then its name is in the request's `Host`.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::error::ApiError;

/// Any name, in the list.
const ANY: &str = "*";

/// The names. Addresses and `localhost` always do: nobody's page has such a name.
#[derive(Debug)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    pub(super) fn new(names: &[String]) -> Self {
        let names = names.iter().map(|name| name.to_ascii_lowercase());
        Self(names.collect())
    }

    /// Whether a request with these headers is for this program.
    fn allow(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let hosts = headers.get_all(header::HOST);
        // Without a name it is no browser that asks.
        let wrong = hosts.iter().find(|host| !self.has(host));
        match wrong {
            None => Ok(()),
            Some(host) => Err(ApiError::host(&String::from_utf8_lossy(host.as_bytes()))),
        }
    }

    fn has(&self, host: &HeaderValue) -> bool {
        let Ok(host) = host.to_str() else {
            return false;
        };
        let name = without_port(host).to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        name.is_empty()
            || name == "localhost"
            || name.ends_with(".localhost")
            || name.parse::<IpAddr>().is_ok()
            || self
                .0
                .iter()
                .any(|allowed| allowed == ANY || allowed == name)
    }
}

/// `example`, `10.0.0.1` or `::1` of `example:80`, `10.0.0.1:80` or `[::1]:80`.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _port)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _port)| name),
    }
}

/// Lets requests through that are for this program.
pub(super) async fn check(State(api): State<Api>, request: Request, next: Next) -> Response {
    match api.hosts.allow(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(names: &[&str], host: &str) -> bool {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        Hosts::new(&names).allow(&headers).is_ok()
    }

    #[test]
    fn addresses_and_this_machine_s_own_name_always_do() {
        for host in [
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::1]",
            "10.1.2.3",
            "localhost:8080",
            "LOCALHOST",
            "fleet.localhost:80",
        ] {
            assert!(allowed(&[], host), "{host}");
        }
        assert!(Hosts::new(&[]).allow(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn other_names_must_be_in_the_list() {
        for host in [
            "rebound.example",
            "rebound.example:8080",
            "localhost.example",
            "127.0.0.1.example",
            "localhost@x",
        ] {
            assert!(!allowed(&[], host), "{host}");
            assert!(!allowed(&["fleet.example"], host), "{host}");
            assert!(allowed(&["*"], host), "{host}");
        }
        for host in ["fleet.example", "Fleet.Example:443", "fleet.example."] {
            assert!(allowed(&["FLEET.example"], host), "{host}");
        }
    }
}
