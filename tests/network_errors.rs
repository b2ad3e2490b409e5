//! Networks that cannot be had: a clear message before the guest starts, and nothing is lost.

mod processes;

use std::ffi::OsStr;
use std::net::TcpListener;
use std::process::Stdio;

use ftemu_images::tiny;
use processes::{Folder, guest_arguments, program, run};

#[test]
fn a_network_that_is_not_there_is_named_with_what_to_do() {
    let folder = Folder::new();
    let guest = guest_arguments(&folder, &tiny::lines(1, 1, 0));
    let with = |more: &[&str]| {
        let start = ["run", "--no-stdio"].map(str::to_owned);
        run(start.iter().chain(&guest).map(OsStr::new).chain(more.iter().map(OsStr::new)))
    };
    with(&["--net", "tap=ftnosuch"]).failed_saying(&["no network interface ftnosuch", "ip tuntap add dev ftnosuch"]);
    with(&["--net", "bridge"]).failed_saying(&["none, user or tap=NAME"]);
    with(&["--net", "none", "--forward", "2222:22"]).failed_saying(&["--forward needs one --net user"]);
    with(&["--net", "user", "--forward", "22"]).failed_saying(&["HOST:GUEST"]);
    with(&["--net", "user", "--forward", "2222:22,2222:80"]).failed_saying(&["2222", "already leads"]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let forward = format!("{}:22", taken.local_addr().expect("an address").port());
    with(&["--net", "user", "--forward", &forward]).failed_saying(&[&forward, "in use by another program"]);
    with(&["--net", "none", "--mac", "01:00:00:00:00:01"]).failed_saying(&["address of a group"]);
}

#[test]
fn a_missing_passt_is_named_with_its_package() {
    let folder = Folder::new();
    let arguments = guest_arguments(&folder, &tiny::lines(1, 1, 0));
    let mut command = program();
    command.args(["run", "--no-stdio", "--net", "user"]).args(arguments);
    let output = command.env("PATH", folder.path("empty")).stdin(Stdio::null()).output().expect("the program starts");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complaints.contains("apt install passt"), "{complaints}");
}
