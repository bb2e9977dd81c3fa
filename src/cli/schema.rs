//! `tidegate schema`: the JSON Schemas of the status messages.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::Exit;
use crate::status::wire::Kind;

/// Arguments of `tidegate schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Write one file for each kind of message into this directory, instead of all to standard output
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints or writes the schemas.
pub fn run(args: &SchemaArgs) -> anyhow::Result<Exit> {
    for kind in Kind::ALL {
        let schema = text(kind);
        match &args.dir {
            Some(dir) => {
                let path = dir.join(file_name(kind));
                std::fs::write(&path, schema)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                println!("{}", path.display());
            }
            None => print!("{schema}"),
        }
    }
    Ok(Exit::Clean)
}

/// The name of the file that holds the schema of `kind`.
pub fn file_name(kind: Kind) -> String {
    format!("{}.v1.json", kind.as_str())
}

/// The schema of `kind` as the file holds it: keys in the order of the alphabet, whatever order the build
/// of the JSON library keeps.
pub fn text(kind: Kind) -> String {
    let schema = sorted(kind.schema().to_value());
    let text = serde_json::to_string_pretty(&schema);
    text.expect("a schema is plain data") + "\n"
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.into_iter().collect();
            let sorted = fields
                .into_iter()
                .map(|(name, value)| (name, sorted(value)));
            Value::Object(sorted.collect())
        }
        Value::Array(values) => values.into_iter().map(sorted).collect(),
        other => other,
    }
}
