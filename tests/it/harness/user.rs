//! A user of the broker with permissions of a test's own.

use serde_json::json;
use url::Url;

use super::management::Management;
use super::vhost::Vhost;
use super::wait::{limit, within};

/// A user. It is deleted when this is dropped.
pub(crate) struct User {
    name: String,
    url: Url,
    management: Management,
}

impl User {
    /// A user that may `configure`, `write` and `read` in the virtual host what these expressions match.
    pub(crate) async fn new(vhost: &Vhost, configure: &str, write: &str, read: &str) -> Self {
        let name = format!("it-{}", ulid::Ulid::new());
        let management = vhost.management();
        let permissions = json!({"configure": configure, "write": write, "read": read});
        within("a new user", async {
            let user = json!({"password": name, "tags": ""});
            management.put(&format!("/api/users/{name}"), &user).await?;
            let path = format!("/api/permissions/{}/{name}", vhost.name());
            management.put(&path, &permissions).await
        })
        .await
        .unwrap_or_else(|error| panic!("a user cannot be made: {error}"));
        let mut url = vhost.url().clone();
        url.set_username(&name).expect("AMQP URLs have users");
        url.set_password(Some(&name)).expect("AMQP URLs have users");
        Self {
            name,
            url,
            management,
        }
    }

    /// The virtual host's URL with this user.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }
}

impl Drop for User {
    /// Best effort.
    fn drop(&mut self) {
        let (management, path) = (self.management.clone(), format!("/api/users/{}", self.name));
        // The test's runtime may be ending; this waits outside it.
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .ok()?;
            let deleted = async { tokio::time::timeout(limit(), management.delete(&path)).await };
            runtime.block_on(deleted).ok()?.ok()
        });
        let _ = removal.join();
    }
}
