//! `tidegate schema`: the JSON Schemas of what workers say and are told.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use tidegate_fleet::openapi::sorted;

use super::Exit;
use crate::output::print;
use tidegate::internal::status::control::{Command, Reply};
use tidegate::internal::status::wire::Kind;

/// Arguments of `tidegate schema`.
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Write one file for each kind of message into this directory, instead of all to standard output
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print the OpenAPI description of the fleet program's API instead
    #[arg(long, conflicts_with = "dir")]
    openapi: bool,
}

/// The schema of one kind of message.
#[derive(Debug, Clone)]
struct Document {
    name: &'static str,
    schema: schemars::Schema,
}

/// Every schema that there is: status messages, commands, replies.
fn documents() -> Vec<Document> {
    let status = Kind::ALL.map(|kind| Document {
        name: kind.as_str(),
        schema: kind.schema(),
    });
    let command = Document {
        name: "command",
        schema: schemars::schema_for!(Command),
    };
    let reply = Document {
        name: "reply",
        schema: schemars::schema_for!(Reply),
    };
    status.into_iter().chain([command, reply]).collect()
}

impl Document {
    /// The name of its file.
    fn file_name(&self) -> String {
        format!("{}.v1.json", self.name)
    }

    /// What its file holds: keys in the order of the alphabet, whatever order the build of the JSON library
    /// keeps.
    fn text(&self) -> String {
        let schema = sorted(self.schema.clone().to_value());
        let text = serde_json::to_string_pretty(&schema);
        text.expect("a schema is plain data") + "\n"
    }
}

/// Prints or writes the schemas.
pub(crate) fn run(args: &SchemaArgs) -> anyhow::Result<Exit> {
    if args.openapi {
        print(tidegate_fleet::openapi::text())?;
        return Ok(Exit::Clean);
    }
    for document in documents() {
        let schema = document.text();
        match &args.dir {
            Some(dir) => {
                let path = dir.join(document.file_name());
                std::fs::write(&path, schema)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                print(format!("{}\n", path.display()))?;
            }
            None => print(&schema)?,
        }
    }
    Ok(Exit::Clean)
}
