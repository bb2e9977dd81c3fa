//! `tidegate schema`: the JSON Schemas of the status messages.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

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

/// The schema of `kind` as the file holds it.
pub fn text(kind: Kind) -> String {
    let schema = serde_json::to_string_pretty(&kind.schema());
    schema.expect("a schema is plain data") + "\n"
}
