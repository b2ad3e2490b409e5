//! `ftemu identity`: who this server is, and whom it trusts.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use ftemu_transport::{Identity, Trust};

use crate::arguments::{IdentityArguments, SideArguments};

/// Prints the line that goes into the other server's trust file.
///
/// # Errors
/// When there is no identity and none can be made.
pub fn identity(arguments: &IdentityArguments) -> Result<ExitCode> {
    let identity = Identity::load_or_create(&folder(arguments)?)?;
    println!("{} {}", identity.fingerprint(), crate::host::name());
    Ok(ExitCode::SUCCESS)
}

/// This side's identity and the keys it trusts.
///
/// # Errors
/// When either cannot be read.
pub fn of_side(arguments: &SideArguments) -> Result<(Identity, Trust)> {
    let folder = folder(&arguments.identity)?;
    let identity = Identity::load_or_create(&folder)?;
    let trust = arguments.trust.clone().unwrap_or_else(|| folder.join("trust"));
    let trust =
        Trust::from_file(&trust).with_context(|| format!("this server's own key is {}", identity.fingerprint()))?;
    Ok((identity, trust))
}

fn folder(arguments: &IdentityArguments) -> Result<PathBuf> {
    if let Some(folder) = &arguments.folder {
        return Ok(folder.clone());
    }
    let variable = |name| std::env::var_os(name).filter(|value| Path::new(value).is_absolute()).map(PathBuf::from);
    let data = variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")));
    let data =
        data.context("neither XDG_DATA_HOME nor HOME says where this server's key is kept; use --identity FOLDER")?;
    Ok(data.join("ftemu"))
}
