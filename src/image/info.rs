//! `ftemu image info`.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use ftemu_images::{Format, import, qcow2};
use serde_json::{Value, json};

use super::InfoArguments;
use crate::units::show_bytes;

pub(super) fn info(arguments: &InfoArguments) -> Result<ExitCode> {
    let facts = Facts::of(&arguments.image)?;
    if arguments.json {
        println!("{:#}", facts.json());
    } else {
        facts.print();
    }
    Ok(ExitCode::SUCCESS)
}

/// What there is to say about an image.
struct Facts {
    path: PathBuf,
    format: Format,
    bytes: u64,
    used: u64,
    header: Option<qcow2::Header>,
}

impl Facts {
    fn of(path: &Path) -> Result<Self> {
        let summary = import::summary(path)?;
        let metadata = std::fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
        let header = if summary.format == Format::Qcow2 { Some(qcow2::header(path)?) } else { None };
        Ok(Self {
            path: path.to_owned(),
            format: summary.format,
            bytes: summary.bytes,
            used: metadata.blocks() * 512,
            header,
        })
    }

    fn backing(&self) -> Option<&str> {
        self.header.as_ref()?.backing.as_deref()
    }

    fn obstacle(&self) -> Option<String> {
        self.header.as_ref()?.obstacle()
    }

    fn json(&self) -> Value {
        let mut value = json!({
            "file": self.path.display().to_string(),
            "format": self.format.to_string(),
            "bytes": self.bytes,
            "used_bytes": self.used,
            "runs": self.format.runs() && self.obstacle().is_none(),
        });
        if let Some(header) = &self.header {
            value["qcow2"] = json!({
                "version": header.version,
                "cluster_bytes": header.cluster(),
                "snapshots": header.snapshots,
                "dirty": header.dirty(),
                "backing": header.backing,
                "backing_format": header.backing_format,
            });
        }
        value
    }

    fn print(&self) {
        println!("file     {}", self.path.display());
        println!("format   {}", self.format);
        println!("size     {} ({} bytes)", show_bytes(self.bytes), self.bytes);
        println!("on disk  {}", show_bytes(self.used));
        if let Some(header) = &self.header {
            println!("qcow2    version {}, clusters of {}", header.version, show_bytes(header.cluster()));
            if header.snapshots > 0 {
                println!("         {} snapshots inside", header.snapshots);
            }
            if header.dirty() {
                println!("         not closed cleanly by its last user");
            }
        }
        if let Some(backing) = self.backing() {
            println!("builds on {backing}, which must stay as it is");
        }
        if let Some(why) = self.obstacle() {
            println!("cannot   run as it is: {why}");
            return;
        }
        let new = self.path.with_extension("qcow2");
        match self.format.runs() {
            true => println!("run it   ftemu run {}", self.path.display()),
            false => println!("import   ftemu image import {} {}", self.path.display(), new.display()),
        }
    }
}
