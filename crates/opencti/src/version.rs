//! Whether pycti has the version of the platform.

use std::sync::{Arc, PoisonError};

use tokio::time::sleep;
use tracing::{info, warn};

use crate::engine::Engine;
use crate::schedule::backoff;

/// Compares the versions now, and whenever the platform comes back. Resolves with the reason if they have to be equal
/// and are not.
pub(crate) async fn watch(engine: Arc<Engine>) -> String {
    let mut told = None;
    loop {
        let (platform, pycti) = versions(&engine).await;
        engine.platform.name_pycti(&pycti);
        let equal = platform == pycti;
        let known = Some((platform.clone(), pycti.clone()));
        *engine
            .versions
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = known;
        engine.metrics.set_version_mismatch(!equal);
        if !equal && engine.settings.python.require_version {
            return format!(
                "pycti is {pycti}, the platform {platform}, and [opencti] pycti = \"require\""
            );
        }
        let now = Some((platform, pycti));
        if told != now
            && let Some((platform, pycti)) = &now
        {
            if equal {
                info!(platform, pycti, "pycti has the platform's version");
            } else {
                warn!(
                    platform,
                    pycti, "pycti has another version than the platform: imports may fail"
                );
            }
        }
        told = now;
        engine.gate.recovered().await;
    }
}

/// The platform's version and pycti's, as soon as both can be had.
async fn versions(engine: &Engine) -> (String, String) {
    let mut failures = 0;
    loop {
        let asked = tokio::join!(engine.platform.version(), engine.python.versions());
        match asked {
            (Ok(platform), Ok(python)) => return (platform, python.pycti),
            (_, Err(error)) => {
                let sign = error.into_sign();
                warn!(why = sign.text, "Python cannot be started; trying again");
            }
            (Err(_), Ok(_)) => {}
        }
        failures += 1;
        sleep(backoff(failures, rand::random())).await;
    }
}
