//! The program: a fault-tolerant computer in software. `ftemu --help` is its manual.
//!
//! All of the outside world is here and in the transport crate: arguments, files, sockets, clocks, the terminal. What
//! happens between the two servers of a pair is decided in the lockstep crate; this program carries it out.

mod arbiter;
mod arguments;
mod attribution;
mod console;
mod demo;
mod drives;
mod edge;
mod firmware;
mod guest;
mod host;
mod identity;
mod image;
mod journal;
mod links;
mod network;
mod notices;
mod recorder;
mod replay;
mod run;
mod screen;
mod side;
mod standby;
mod stdio;
mod units;
mod without;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Demo(arguments) => demo::demo(&arguments),
        Command::Run(arguments) => run::run(arguments),
        Command::Standby(arguments) => standby::standby(arguments),
        Command::Console(arguments) => console::client::console(&arguments),
        Command::Screenshot(arguments) => screen::commands::screenshot(&arguments),
        Command::Sendkey(arguments) => screen::commands::sendkey(&arguments),
        Command::Press(arguments) => screen::commands::press(&arguments),
        Command::Eject(arguments) => screen::discs::eject(&arguments),
        Command::Insert(arguments) => screen::discs::insert(&arguments),
        Command::Replay(arguments) => replay::replay(&arguments),
        Command::Identity(arguments) => identity::identity(&arguments),
        Command::Image(arguments) => image::image(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("ftemu: error: {}", told(&error));
        ExitCode::FAILURE
    })
}

/// An error and its causes, each of them once: many errors tell their cause themselves.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.contains(&cause) {
        true => told,
        false if told.is_empty() => cause,
        false => format!("{told}: {cause}"),
    })
}
