//! `ftemu run`: the side that brings the guest.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use ftemu_devices::Machine;
use ftemu_lockstep::{Finish, Hands, Identity, Node, Place};
use serde_json::json;

use crate::arguments::RunArguments;
use crate::drives::{Drives, Policy};
use crate::journal::Journal;
use crate::recorder::Tap;
use crate::side::{Birth, Side, claimant};
use crate::stdio::{Keyboard, Screen};
use crate::{arbiter, attribution, guest, host};

/// Exit status when another server runs the guest.
pub const FENCED: u8 = 3;

/// Runs a guest to its end.
///
/// # Errors
/// Whatever keeps it from running.
pub fn run(arguments: RunArguments) -> Result<ExitCode> {
    host::check_cpu()?;
    let events_on_output = arguments.side.events.as_deref() == Some(Path::new("-"));
    ensure!(arguments.no_stdio || !events_on_output, "--events - needs --no-stdio: both want standard output");
    if let Some(path) = &arguments.side.arbiter {
        arbiter::prepare(path, arguments.forget_claims)?;
    }
    let journal = Journal::start(arguments.side.events.as_deref())?;
    let policy = Policy::new(journal.clone());
    let tap = arguments.side.record.is_some().then(Tap::default);
    let drives = Drives::open(&arguments.drives.specs(), &policy, tap.as_ref())?;
    let machine = guest::load(&arguments, &drives, &journal)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the network's runtime")?;
    if arguments.attribution {
        attribution::want();
        runtime.spawn(attribution::on_signal());
    }
    let outcome =
        runtime.block_on(protect(arguments, machine, drives.sectors(), (policy, tap.unwrap_or_default()), &journal));
    if attribution::is_wanted() {
        eprint!("{}", attribution::report());
    }
    let closed = drives.close();
    journal.flush();
    outcome.and_then(|status| closed.map(|()| status))
}

async fn protect(
    arguments: RunArguments,
    machine: Machine,
    sectors: Vec<u64>,
    (policy, tap): (Policy, Tap),
    journal: &Journal,
) -> Result<ExitCode> {
    let identity = Identity { drives: sectors, ..host::identity_of_side(&arguments.side)? };
    let must_pair = arguments.side.peer.is_some() && !arguments.unprotected_if_alone;
    let mut side = Side::open(arguments.side, policy, tap, journal.clone()).await?;
    journal.note("started", json!({ "role": "primary", "process": std::process::id(), "build": identity.build }));
    let link = match &side.peer {
        Some(peer) if must_pair => {
            let hint = "the guest was not started (--unprotected-if-alone would start it without a standby)";
            Some(peer.dial().await.context(hint)?)
        }
        _ => None,
    };
    let mut settings = side.settings();
    settings.wait_for_standby = must_pair;
    let incarnation = host::random()?;
    let node = Node::primary(settings, identity, incarnation, host::now_ns(), Place::of(&machine));
    let birth =
        Birth { node, hands: Hands::with(machine), link, must_pair, once: false, claimant: claimant(incarnation) };
    let (screen, mut keyboard) = match arguments.no_stdio {
        true => (None, None),
        false => (Some(Screen::start(journal.clone())?), Some(Keyboard::start()?)),
    };
    let finish = side.live(birth, screen, keyboard.as_mut()).await?;
    drop(keyboard);
    conclude(&finish, journal)
}

fn conclude(finish: &Finish, journal: &Journal) -> Result<ExitCode> {
    journal.note("finished", json!({ "why": format!("{finish:?}") }));
    match finish {
        Finish::PoweredOff | Finish::Stopped => Ok(ExitCode::SUCCESS),
        Finish::Fenced { term } => {
            let sentence = format!(
                "HALTED: the other server runs the guest now (term {term}). To protect it again, start this server as its \
                 standby: ftemu standby --peer ..."
            );
            journal.say("halted", &sentence, json!({ "term": term }));
            Ok(ExitCode::from(FENCED))
        }
        Finish::Failed(why) => Err(anyhow!("{why}")),
        Finish::Diverged => Err(anyhow!("this side cannot go on: {finish:?}")),
    }
}
