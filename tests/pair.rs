//! The promise of a pair to the one who uses its guest: what is typed reaches the guest once, what it answers is seen
//! once, whichever server dies when. Real processes, real sockets, a guest that sends back what it gets.

mod processes;

use ftemu_images::tiny;
use processes::{Client, Folder, Side, guest_arguments, side_arguments};

/// The guest ends when it gets this: Control-D.
const END: &str = "\x04";
const GREETING: &str = "ftemu-mark echo";

struct Pair {
    folder: Folder,
    primary: Side,
    standby: Side,
    /// Where the standby waits for the other server.
    listens: String,
    consoles: [String; 2],
}

/// A protected pair with an echoing guest.
fn pair(more: &[&str]) -> Pair {
    let folder = Folder::new();
    folder.identities();
    let mut standby = Side::start(
        ["standby", "--listen", "127.0.0.1:0"]
            .into_iter()
            .chain(more.iter().copied())
            .map(str::to_owned)
            .chain(side_arguments(&folder, "b")),
    );
    let listens = standby.address("listening");
    let standby_console = standby.address("console");
    let mut primary = Side::start(
        ["run", "--no-stdio", "--peer", &listens]
            .into_iter()
            .chain(more.iter().copied())
            .map(str::to_owned)
            .chain(side_arguments(&folder, "a"))
            .chain(guest_arguments(&folder, &tiny::echo())),
    );
    let primary_console = primary.address("console");
    primary.wait_for("protected");
    standby.wait_for("protected");
    Pair { folder, primary, standby, listens, consoles: [primary_console, standby_console] }
}

impl Pair {
    fn client(&self) -> Client {
        let [a, b] = &self.consoles;
        Client::start(&[a, b])
    }
}

/// Numbered words, so that one lost, repeated or altered shows.
fn words(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("{number:04} ")).collect()
}

fn echoed(shown: &str) -> &str {
    let after = shown.find(GREETING).map(|at| &shown[at + GREETING.len()..]);
    after.unwrap_or_else(|| panic!("no greeting in {shown:?}")).trim_start_matches(['\r', '\n']).trim_end_matches(END)
}

#[test]
fn typing_survives_the_primary() {
    let mut pair = pair(&[]);
    let mut client = pair.client();
    client.wait_for(GREETING);
    client.type_in(&words(0..50));
    client.wait_for("0030 ");
    // Some of these are on their way when the primary dies, wherever they are.
    client.type_in(&words(50..100));
    pair.primary.kill();
    client.type_in(&words(100..150));
    pair.standby.wait_for("live");
    client.type_in(&words(150..200));
    client.wait_for("0199 ");
    client.type_in(END);
    assert_eq!(echoed(&client.finish()), words(0..200));
    assert!(pair.standby.finish().status.success());
}

#[test]
fn the_guest_does_not_notice_the_death_of_its_standby() {
    let mut pair = pair(&[]);
    let mut client = pair.client();
    client.wait_for(GREETING);
    client.type_in(&words(0..50));
    pair.standby.kill();
    client.type_in(&words(50..100));
    pair.primary.wait_for("unprotected");
    client.type_in(&words(100..150));
    client.type_in(END);
    assert_eq!(echoed(&client.finish()), words(0..150));
    let outcome = pair.primary.finish();
    assert!(outcome.status.success());
    outcome.said(&["UNPROTECTED"]);
}

/// A new standby joins the guest while it runs; then the one that took over dies too.
#[test]
fn a_guest_moves_on_as_its_servers_die_one_after_another() {
    let mut pair = pair(&[]);
    let mut client = pair.client();
    client.wait_for(GREETING);
    client.type_in(&words(0..20));
    client.wait_for("0019 ");
    pair.primary.kill();
    pair.standby.wait_for("live");
    let mut third = Side::start(
        ["standby", "--peer", &pair.listens].into_iter().map(str::to_owned).chain(side_arguments(&pair.folder, "a")),
    );
    let third_console = third.address("console");
    third.wait_for("protected");
    client.type_in(&words(20..40));
    client.wait_for("0039 ");
    let mut second_client = Client::start(&[&third_console, &pair.consoles[1]]);
    second_client.wait_for("0039 ");
    pair.standby.kill();
    third.wait_for("live");
    // The first client does not know the third server; the second one has everything from the beginning.
    second_client.type_in(&words(40..60));
    second_client.wait_for("0059 ");
    second_client.type_in(END);
    assert_eq!(echoed(&second_client.finish()), words(0..60));
    assert!(third.finish().status.success());
}

/// With an arbiter, silence is enough; and the one that was silent halts itself when it is back.
#[test]
fn a_primary_that_stands_still_is_replaced_and_halts() {
    let arbiter = Folder::new();
    let claims = format!("file:{}", arbiter.path("guest").display());
    let mut pair = pair(&["--arbiter", &claims]);
    let mut client = pair.client();
    client.wait_for(GREETING);
    client.type_in(&words(0..20));
    client.wait_for("0019 ");
    pair.primary.signal("-STOP");
    client.type_in(&words(20..40));
    pair.standby.wait_for("live");
    client.wait_for("0039 ");
    pair.primary.signal("-CONT");
    let outcome = pair.primary.finish();
    assert_eq!(outcome.status.code(), Some(3), "{}", outcome.complaints);
    outcome.said(&["HALTED"]);
    client.type_in(END);
    assert_eq!(echoed(&client.finish()), words(0..40));
    assert!(pair.standby.finish().status.success());
}

#[test]
fn a_signal_hands_the_guest_over() {
    let mut pair = pair(&[]);
    let mut client = pair.client();
    client.wait_for(GREETING);
    client.type_in(&words(0..20));
    client.wait_for("0019 ");
    pair.primary.signal("-TERM");
    assert!(pair.primary.finish().status.success());
    pair.standby.wait_for("live");
    client.type_in(&words(20..40));
    client.type_in(END);
    assert_eq!(echoed(&client.finish()), words(0..40));
}
