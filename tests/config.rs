//! Configuration as a user gives it: files, variables, and what is said about wrong ones. Needs no broker.

use std::path::Path;

use tidegate::config::{self, HandlersFrom};

#[test]
fn the_sample_loads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/worker.toml");
    let settings = config::load(&path, [], HandlersFrom::Configuration).unwrap();
    assert_eq!(settings.nodes[0].queue, "orders");
}
