//! The promise of the command line: the guest's console on standard input and output, a terminal left as it was found,
//! a record from either side, help that teaches.

mod processes;

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};

use ftemu_images::tiny;
use processes::{Client, Folder, Side, guest_arguments, program, run, side_arguments};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

/// The guest ends when it gets this: Control-D.
const END: &[u8] = b"\x04";

#[test]
fn standard_input_is_the_guests_keyboard() {
    let folder = Folder::new();
    let mut child = program()
        .arg("run")
        .args(guest_arguments(&folder, &tiny::echo()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let (mut input, mut output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    read_until(&mut output, "ftemu-mark echo");
    input.write_all(&[b"hello, guest", END].concat()).expect("it reads");
    read_until(&mut output, "hello, guest");
    assert!(child.wait().expect("it ends").success());
}

/// Reads until the text has come.
fn read_until(source: &mut impl Read, text: &str) {
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains(text) {
        let mut piece = [0; 256];
        let count = source.read(&mut piece).expect("it shows something");
        assert!(count > 0, "it ended with {:?}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&piece[..count]);
    }
}

/// A pseudo-terminal: our end, and the program's.
struct Terminal {
    ours: File,
    theirs: File,
}

impl Terminal {
    fn open() -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("a pseudo-terminal");
        let name = ptsname(&ours, Vec::new()).expect("its name").into_string().expect("its name");
        let theirs = File::options().read(true).write(true).open(name).expect("a pseudo-terminal");
        Self { ours: File::from(ours), theirs }
    }

    fn end(&self) -> Stdio {
        self.theirs.try_clone().expect("the terminal").into()
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.theirs).expect("settings").local_modes.contains(LocalModes::ICANON)
    }
}

fn on(terminal: &Terminal, arguments: &[String]) -> Child {
    let mut program = program();
    program.args(arguments).stdin(terminal.end()).stdout(terminal.end()).stderr(Stdio::null());
    program.spawn().expect("the program starts")
}

#[test]
fn the_terminal_is_left_as_it_was_found() {
    let folder = Folder::new();
    let arguments = [vec!["run".to_owned()], guest_arguments(&folder, &tiny::echo())].concat();
    for leave in ["keys", "-TERM", "-INT", "-HUP"] {
        let mut terminal = Terminal::open();
        let mut child = on(&terminal, &arguments);
        read_until(&mut terminal.ours, "ftemu-mark echo");
        assert!(terminal.is_raw());
        match leave {
            "keys" => terminal.ours.write_all(b"\x01x").expect("it reads"),
            signal => {
                let sent = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status();
                assert!(sent.expect("kill").success());
            }
        }
        assert!(child.wait().expect("it ends").success(), "{leave}");
        assert!(!terminal.is_raw(), "{leave}");
    }
}

#[test]
fn a_console_client_leaves_by_its_keys_and_the_guest_goes_on() {
    let folder = Folder::new();
    let arguments = ["run", "--no-stdio", "--console-listen", "127.0.0.1:0"].map(str::to_owned);
    let mut side = Side::start(arguments.into_iter().chain(guest_arguments(&folder, &tiny::echo())));
    let console = side.address("console");
    let mut terminal = Terminal::open();
    let mut child = on(&terminal, &["console".to_owned(), console.clone()]);
    read_until(&mut terminal.ours, "ftemu-mark echo");
    terminal.ours.write_all(b"typed\x01x").expect("it reads");
    assert!(child.wait().expect("it ends").success());
    assert!(!terminal.is_raw());
    let mut client = Client::start(&[&console]);
    client.wait_for("typed");
    client.type_in("\x04");
    client.finish();
    assert!(side.finish().status.success());
}

/// The backup records at no cost to the primary, and its record is as good.
#[test]
fn either_side_records_the_guest() {
    let folder = Folder::new();
    folder.identities();
    let [here, there] = ["here.ftlog", "there.ftlog"].map(|name| folder.path(name).display().to_string());
    let arguments = ["standby", "--listen", "127.0.0.1:0", "--record", &there].map(str::to_owned);
    let mut standby = Side::start(arguments.into_iter().chain(side_arguments(&folder, "b")));
    let listens = standby.address("listening");
    let arguments = ["run", "--no-stdio", "--peer", &listens, "--record", &here].map(str::to_owned);
    let guest = guest_arguments(&folder, &tiny::lines(60, 3, 1));
    let primary = Side::start(arguments.into_iter().chain(side_arguments(&folder, "a")).chain(guest));
    assert!(primary.finish().status.success());
    assert!(standby.finish().status.success());
    let [here, there] = [here, there].map(|record| {
        let outcome = run(["replay", &record]);
        assert!(outcome.status.success(), "{}", outcome.complaints);
        outcome.output
    });
    assert!(here.contains("ftemu-line 60"), "{here}");
    assert_eq!(here, there);
}

#[test]
fn help_teaches_by_examples() {
    for command in ["run", "standby", "console", "replay", "identity"] {
        let outcome = run([command, "--help"]);
        assert!(outcome.status.success());
        assert!(outcome.output.contains("Examples:"), "{command}: {}", outcome.output);
    }
    assert!(run(["--help"]).output.contains("A pair in four steps"));
}
