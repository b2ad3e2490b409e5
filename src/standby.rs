//! `ftemu standby`: the side that waits for a guest and follows it, until it is the guest.

use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use ftemu_lockstep::{Finish, Hands, Identity, Node};
use serde_json::json;

use crate::arguments::StandbyArguments;
use crate::drives::{Drives, Policy};
use crate::host;
use crate::journal::Journal;
use crate::recorder::Tap;
use crate::run::FENCED;
use crate::side::{Birth, Side, claimant};

/// Exit status when this side has lost its guest.
const LOST: u8 = 4;

/// Waits for guests, and carries on with one whose primary is lost.
///
/// # Errors
/// Whatever keeps it from doing so.
pub fn standby(arguments: StandbyArguments) -> Result<ExitCode> {
    host::check_cpu()?;
    let there = arguments.side.listen.is_some() || arguments.side.peer.is_some();
    ensure!(there, "say where the other server is found: --listen ADDRESS:PORT to wait for it, or --peer HOST:PORT");
    let journal = Journal::start(arguments.side.events.as_deref())?;
    let policy = Policy::new(journal.clone());
    let tap = arguments.side.record.is_some().then(Tap::default);
    let drives = Drives::open(&arguments.drives.specs(), &policy, tap.as_ref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the network's runtime")?;
    let outcome = runtime.block_on(wait(arguments, &drives, (policy, tap.unwrap_or_default()), &journal));
    let closed = drives.close();
    journal.flush();
    outcome.and_then(|status| closed.map(|()| status))
}

async fn wait(
    arguments: StandbyArguments,
    drives: &Drives,
    (policy, tap): (Policy, Tap),
    journal: &Journal,
) -> Result<ExitCode> {
    let identity = Identity { drives: drives.sectors(), ..host::identity_of_side(&arguments.side)? };
    let mut side = Side::open(arguments.side, policy, tap, journal.clone()).await?;
    journal.note("started", json!({ "role": "standby", "process": std::process::id(), "build": identity.build }));
    loop {
        let incarnation = host::random()?;
        let identity = Identity { drives: drives.sectors(), ..identity.clone() };
        let node = Node::standby(side.settings(), identity, incarnation, host::now_ns());
        let claimant = claimant(incarnation);
        let hands = Hands::with_disks(drives.handles());
        let birth = Birth { node, hands, link: None, must_pair: false, once: arguments.once, claimant };
        let finish = side.live(birth, None, None).await?;
        if let Some(status) = conclude(&finish, arguments.once, journal)? {
            return Ok(status);
        }
    }
}

/// Whether to exit, and how; `None`: wait for the next guest.
fn conclude(finish: &Finish, once: bool, journal: &Journal) -> Result<Option<ExitCode>> {
    journal.note("finished", json!({ "why": format!("{finish:?}") }));
    let (what, status) = match finish {
        Finish::PoweredOff | Finish::Stopped => return Ok(Some(ExitCode::SUCCESS)),
        Finish::Failed(why) => return Err(anyhow!("{why}")),
        Finish::Fenced { term } => (format!("the other server runs the guest (term {term})"), FENCED),
        Finish::Diverged => ("this side's guest differed and was dropped".into(), LOST),
    };
    let then = if once { "exiting (--once)" } else { "waiting for a guest again" };
    journal.say("halted", &format!("{what}; {then}"), json!({ "once": once }));
    Ok(once.then(|| ExitCode::from(status)))
}
