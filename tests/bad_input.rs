//! The promise for bad input: a clear message that says what to do, an exit status that is not 0 where nothing can go on,
//! never a panic, never a lost guest.

mod processes;

use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ftemu_images::tiny;
use processes::{Folder, Side, bytes_of, guest_arguments, run, side_arguments};

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A guest that prints so many lines and is off.
fn lines(folder: &Folder, lines: u64) -> Vec<String> {
    guest_arguments(folder, &tiny::lines(lines, 5, 1))
}

fn run_guest(guest: &[String], more: &[&str]) -> processes::Outcome {
    run(["run"].into_iter().chain(guest.iter().map(String::as_str)).chain(more.iter().copied()))
}

#[test]
fn a_kernel_must_be_one() {
    let folder = Folder::new();
    let kernel = tiny::lines(1, 1, 1).kernel;
    let cases: [(&str, &[u8], &str); 3] = [
        ("script", b"#!/bin/sh\necho hello\n", "not a bzImage"),
        ("empty", b"", "not a bzImage"),
        ("cut", &kernel[..kernel.len() - 100], "cut short"),
    ];
    for (name, bytes, words) in cases {
        let path = text(&folder.file(name, bytes));
        run(["run", "--kernel", &path]).failed_saying(&[words, &path]);
    }
    run(["run", "--kernel", "/nowhere/vmlinuz"]).failed_saying(&["cannot read the kernel /nowhere/vmlinuz"]);
}

#[test]
fn an_initrd_must_fit() {
    let folder = Folder::new();
    let kernel = text(&folder.file("kernel", &tiny::lines(1, 1, 1).kernel));
    let initrd = folder.path("initrd");
    std::fs::File::create(&initrd).and_then(|file| file.set_len(100 << 20)).expect("a large file");
    let outcome = run(["run", "--kernel", &kernel, "--initrd", &text(&initrd), "--memory", "64M"]);
    outcome.failed_saying(&["does not fit", "would do"]);
}

#[test]
fn arguments_are_explained() {
    let folder = Folder::new();
    let kernel = text(&folder.file("kernel", b""));
    for (arguments, words) in [
        (&["--memory", "256"][..], "with its unit"),
        (&["--silence-limit", "5h"], "with its unit"),
        (&["--arbiter", "etcd://x"], "file:/shared/guest1"),
        (&["--unprotected-if-alone"], "--peer"),
        (&["--events", "-"], "--no-stdio"),
        (&["--console-listen", "7711"], "127.0.0.1:7711"),
        (&["--vnc", "localhost"], "127.0.0.1:7711"),
        (&["--boot", "a"], "c (disk), d (CD), n (network)"),
    ] {
        let arguments = ["run", "--kernel", &kernel].into_iter().chain(arguments.iter().copied());
        run(arguments).failed_saying(&[words]);
    }
    run(["standby"]).failed_saying(&["--listen", "--peer"]);
    run(["screenshot", "socket", "out.png"]).failed_saying(&["--console-listen"]);
    run(["sendkey", "127.0.0.1:1", "ctrl-alt-nothing"]).failed_saying(&["nothing", "sendkey --help"]);
}

#[test]
fn memory_that_the_host_does_not_have_is_named() {
    let folder = Folder::new();
    let kernel = text(&folder.file("kernel", &tiny::lines(1, 1, 1).kernel));
    run(["run", "--kernel", &kernel, "--memory", "1T"]).failed_saying(&["at most 512 GiB"]);
    // A shell that allows 16 GiB, whatever the host has.
    let script = "ulimit -v 16777216 && exec \"$0\" run --no-stdio --memory 32G --kernel \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(processes::program().get_program()).arg(&kernel);
    let output = command.stdin(Stdio::null()).output().expect("a shell is here");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complaints.contains("--memory 32768 MiB"), "{complaints}");
    assert!(complaints.contains("give less"), "{complaints}");
}

#[test]
fn a_port_in_use_is_named() {
    let folder = Folder::new();
    folder.identities();
    let identity = text(&folder.path("b"));
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let outcome = run(["standby", "--identity", &identity, "--listen", &address]);
    outcome.failed_saying(&[&address, "choose another one"]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let listen = ["--listen", "127.0.0.1:0", "--console-listen", &address];
    let outcome = run(["standby", "--identity", &identity].into_iter().chain(listen));
    outcome.failed_saying(&[&address, "choose another"]);
}

#[test]
fn an_unreachable_peer_is_an_error_unless_told_otherwise() {
    let folder = Folder::new();
    folder.identities();
    // So many that it is not off before the peer has not answered.
    let guest = lines(&folder, 1000);
    let identity = text(&folder.path("a"));
    let unused = UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string();
    let peer = ["--identity", &identity, "--peer", &unused];
    let outcome = run_guest(&guest, &peer);
    outcome.failed_saying(&["no answer from", &unused, "--unprotected-if-alone"]);
    assert_eq!(outcome.output, "");
    let outcome = run_guest(&guest, &[&peer[..], &["--unprotected-if-alone"]].concat());
    assert!(outcome.status.success(), "{}", outcome.complaints);
    outcome.said(&["no answer from"]);
    assert!(outcome.output.contains("ftemu-line 1000"), "{}", outcome.output);
}

#[test]
fn an_unknown_name_is_an_error() {
    let folder = Folder::new();
    folder.identities();
    let identity = text(&folder.path("a"));
    let outcome = run_guest(&lines(&folder, 1), &["--identity", &identity, "--peer", "no-port-in-this"]);
    outcome.failed_saying(&["no-port-in-this", "HOST:PORT"]);
}

#[test]
fn a_trust_file_is_needed_and_explained() {
    let folder = Folder::new();
    let identity = text(&folder.path("alone"));
    let listen = ["standby", "--identity", &identity, "--listen", "127.0.0.1:0"];
    let outcome = run(listen);
    outcome.failed_saying(&["cannot read the trust file", "ftemu identity", "own key is ftemu1:"]);
    assert_eq!(outcome.complaints.matches("No such file").count(), 1, "{}", outcome.complaints);
    folder.file("alone/trust", b"hello\n");
    run(listen).failed_saying(&["line 1", "no key"]);
}

/// A standby `b`, and what happens to a `run` with these arguments that wants to pair with it.
fn meeting(folder: &Folder, primary: &[&str]) -> (processes::Outcome, Side) {
    let arguments = ["standby", "--listen", "127.0.0.1:0"].map(str::to_owned);
    let mut standby = Side::start(arguments.into_iter().chain(side_arguments(folder, "b")));
    let address = standby.address("listening");
    let outcome = run_guest(&lines(folder, 3), &[&["--peer", &address][..], primary].concat());
    assert_eq!(outcome.output, "", "the guest ran unprotected");
    (outcome, standby)
}

#[test]
fn a_wrong_key_is_refused_on_both_sides_with_what_to_do() {
    let folder = Folder::new();
    folder.identities();
    // The primary is a stranger to the standby.
    let stranger = text(&folder.path("stranger"));
    let own = run(["identity", "--identity", &stranger]).output;
    let own = own.split(' ').next().expect("a key");
    let trust = text(&folder.path("a/trust"));
    let (outcome, mut standby) = meeting(&folder, &["--identity", &stranger, "--trust", &trust]);
    outcome.failed_saying(&["refused our key", own, "its trust file"]);
    let said = standby.wait_for("turned_away")["why"].to_string();
    assert!(said.contains(own) && said.contains("not in trust file"), "{said}");
    // The standby is a stranger to the primary.
    let trust = text(&folder.file("others", own.as_bytes()));
    let identity = text(&folder.path("a"));
    let (outcome, mut standby) = meeting(&folder, &["--identity", &identity, "--trust", &trust]);
    outcome.failed_saying(&["offered key", "is not in trust file", &trust]);
    let said = standby.wait_for("turned_away")["why"].to_string();
    assert!(said.contains("refused our key"), "{said}");
}

#[test]
fn another_build_or_cpu_is_refused_with_what_to_do() {
    let folder = Folder::new();
    folder.identities();
    let identity = text(&folder.path("a"));
    for (pretence, words) in
        [(["--pretend-build", "9.9 (x)"], "install the same build"), (["--pretend-cpu", "GenuineOther"], "CPU")]
    {
        let (outcome, mut standby) = meeting(&folder, &["--identity", &identity, pretence[0], pretence[1]]);
        outcome.failed_saying(&[words]);
        standby.wait_for("connected");
        standby.signal("-TERM");
        let outcome = standby.finish();
        assert!(outcome.status.success());
        outcome.said(&[words]);
    }
}

/// A record of a short guest, uncompressed.
fn record(folder: &Folder) -> (PathBuf, String) {
    let path = folder.path("guest.ftlog");
    let outcome = run_guest(&lines(folder, 40), &["--record", &text(&path)]);
    assert!(outcome.status.success(), "{}", outcome.complaints);
    (path, outcome.output)
}

#[test]
fn a_record_is_replayed_or_said_to_be_damaged() {
    let folder = Folder::new();
    let (path, output) = record(&folder);
    let replayed = run(["replay", &text(&path)]);
    assert!(replayed.status.success(), "{}", replayed.complaints);
    replayed.said(&["bit for bit the same"]);
    assert_eq!(replayed.output, output);

    let bytes = bytes_of(&path);
    for cut in [0, 3, bytes.len() / 2, bytes.len() - 1] {
        let path = text(&folder.file("cut", &bytes[..cut]));
        run(["replay", &path]).failed_saying(&[&path]);
    }
    for place in (0..bytes.len()).step_by(bytes.len() / 12 + 1) {
        let mut altered = bytes.clone();
        altered[place] ^= 1 << (place % 8);
        let path = text(&folder.file("altered", &altered));
        let outcome = run(["replay", &path]);
        outcome.failed_saying(&[&path]);
        assert!(output.starts_with(&outcome.output), "a damaged record made something up");
    }
    run(["replay", &text(&folder.file("text", b"hello"))]).failed_saying(&["not a record"]);
}

#[test]
fn a_record_of_another_version_names_both() {
    let folder = Folder::new();
    let (path, _) = record(&folder);
    let mut whole = zstd::decode_all(&bytes_of(&path)[..]).expect("zstd");
    whole[8] = 99;
    let path = text(&folder.file("other", &zstd::encode_all(&whole[..], 1).expect("zstd")));
    run(["replay", &path]).failed_saying(&["format 99", "the ftemu that wrote it"]);
}

#[test]
fn a_record_is_not_overwritten() {
    let folder = Folder::new();
    let precious = folder.file("precious", b"years of work");
    run_guest(&lines(&folder, 1), &["--record", &text(&precious)]).failed_saying(&["choose another name"]);
    assert_eq!(bytes_of(&precious), b"years of work");
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_guest() {
    let folder = Folder::new();
    let outcome = run_guest(&lines(&folder, 40), &["--record", "/dev/full"]);
    assert!(outcome.status.success(), "{}", outcome.complaints);
    outcome.said(&["RECORDING STOPPED", "/dev/full", "The guest goes on"]);
    assert!(outcome.output.contains("ftemu-line 40"), "{}", outcome.output);
}

#[test]
fn hostile_bytes_on_every_port_disturb_nobody() {
    let folder = Folder::new();
    folder.identities();
    let arguments = ["standby", "--listen", "127.0.0.1:0"].map(str::to_owned);
    let mut standby = Side::start(arguments.into_iter().chain(side_arguments(&folder, "b")));
    let [listens, console] = ["listening", "console"].map(|port| standby.address(port));
    let arguments = ["run", "--no-stdio", "--peer", &listens].map(str::to_owned);
    let guest = lines(&folder, 300);
    let mut primary = Side::start(arguments.into_iter().chain(side_arguments(&folder, "a")).chain(guest));
    let primary_console = primary.address("console");
    primary.wait_for("protected");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    for turn in 0..2000_usize {
        let mut packet: Vec<u8> = (0..turn % 1300).map(|place| (place * 31 + turn * 7) as u8).collect();
        if let Some(head) = packet.first_chunk_mut() {
            // The head of a QUIC Initial packet (RFC 9000 section 17.2.2).
            *head = [0xc3, 0, 0, 0, 1, 8];
        }
        let _ = socket.send_to(&packet, &listens);
    }
    for address in [&listens, &console, &primary_console] {
        for bytes in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[1, 12, 0, 0, 0, 9, 9, 9, 9], &[3, 255, 255, 255, 255]]
        {
            let mut stream = TcpStream::connect(address).expect("a connection");
            // It may be cut off before it is done.
            let _ = stream.write_all(bytes);
        }
    }
    assert!(primary.finish().status.success());
    let outcome = standby.finish();
    assert!(outcome.status.success());
    outcome.said(&["PROTECTED"]);
}

#[test]
fn a_console_without_a_server_gives_up() {
    let unused = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string();
    let outcome = run(["console", &unused, "--patience", "300ms"]);
    outcome.failed_saying(&[&unused, "--console-listen"]);
}
