//! Partition table and root file system, written right into the disk's file.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::Stdio;

use super::tools::{self, Tools};
use super::{BuildError, Plan, Work};
use crate::disk::ImageError;

/// Where the root partition begins: sector 2048, as partitioning programs do it.
pub(super) const START: u64 = 1 << 20;

/// Makes the disk's file hold a partition with the guest's files.
pub(super) fn make(plan: &Plan, tools: &Tools, work: &Work) -> Result<(), BuildError> {
    let disk = work.disk();
    let file = OpenOptions::new().write(true).open(&disk).map_err(ImageError::io(&disk, "write"))?;
    file.set_len(plan.bytes).map_err(ImageError::io(&disk, "write"))?;
    partition(plan, work)?;
    let mut command = tools.inside();
    let uuid = plan.uuid("root");
    command.args(["mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-U", &uuid, "-E"]);
    // All of it is initialised now, so that no thread of the guest does it later.
    command.arg(format!("offset={START},hash_seed={uuid},lazy_itable_init=0,lazy_journal_init=0"));
    command.arg("-d").arg(work.root()).arg(&disk).arg(format!("{}k", (plan.bytes - START) / 1024));
    tools::run(&mut command, "mke2fs", &mut |_| {})
}

fn partition(plan: &Plan, work: &Work) -> Result<(), BuildError> {
    let failed = |error: std::io::Error| BuildError::Program { what: "sfdisk".to_owned(), reason: error.to_string() };
    let mut command = Tools::command("sfdisk");
    command.args(["--quiet", "--no-reread", "--no-tell-kernel"]).arg(work.disk());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        let label = &plan.uuid("disk")[..8];
        let script = format!("label: dos\nlabel-id: 0x{label}\nstart={}, type=83, bootable\n", START / 512);
        input.write_all(script.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(BuildError::Program { what: "sfdisk".to_owned(), reason })
}
