//! Debian gets its packages through `--net user`: `apt-get update` with lists of all packages that this machine's apt knows,
//! and `apt-get install`, from a server in the same network.
//!
//! Takes minutes, so only when it is asked for: `scripts/soak apt`, which sets `FTEMU_APT`.

mod namespaces;
mod network_guest;
mod processes;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ftemu_images::Catalogue;
use ftemu_images::build::{Architecture, Plan, build};
use namespaces::{CLIENT, Network};
use network_guest::http;
use processes::{Client, Folder, Side};

/// What is installed, with what that needs of its own.
const PACKAGES: [&str; 3] = ["jq", "libjq1", "libonig5"];
const PORT: u16 = 8080;
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

/// The standard output of a command that succeeds.
fn output(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn text(command: &mut Command) -> String {
    String::from_utf8_lossy(&output(command)).into_owned()
}

fn sha256(path: &Path) -> String {
    text(Command::new("sha256sum").arg(path)).split(' ').next().unwrap_or_default().to_owned()
}

/// Debian's disk of the gallery, built when it is wanted for the first time.
fn disk() -> PathBuf {
    let path = Catalogue::user().expect("a cache folder").folder().join("debian-amd64.img");
    if !path.exists() {
        let plan = Plan::new(Architecture::Amd64);
        build(&plan, &path, &mut |_| ()).expect("Debian's packages; scripts/setup --images installs what builds them");
    }
    path
}

/// A repository of one folder: the packages, and lists that know all packages but have only these.
fn repository(folder: &Path) {
    let mut apt = Command::new("apt-get");
    output(apt.current_dir(folder).args(["-q", "-o", "APT::Sandbox::User=root", "download"]).args(PACKAGES));
    let others = text(Command::new("apt-cache").arg("dumpavail"));
    let ours = |paragraph: &&str| !PACKAGES.iter().any(|name| paragraph.starts_with(&format!("Package: {name}\n")));
    let mut list = others.split_inclusive("\n\n").filter(ours).collect::<String>();
    for entry in fs::read_dir(folder).expect("the packages") {
        let path = entry.expect("a package").path();
        let name = path.file_name().expect("a name").to_string_lossy().replace('%', "%25");
        let size = path.metadata().expect("a package").len();
        let control = text(Command::new("dpkg-deb").arg("--field").arg(&path));
        list.push_str(&format!("{control}Filename: ./{name}\nSize: {size}\nSHA256: {}\n\n", sha256(&path)));
    }
    fs::write(folder.join("Packages"), &list).expect("room for the lists");
    output(Command::new("gzip").args(["--keep", "--fast"]).arg(folder.join("Packages")));
    let line = |name: &str| {
        let path = folder.join(name);
        format!(" {} {} {name}\n", sha256(&path), path.metadata().expect("a list").len())
    };
    let date = text(Command::new("date").args(["--utc", "--rfc-email"]).env("LC_ALL", "C"));
    let date = date.trim().replace("+0000", "UTC");
    let release = format!("Date: {date}\nSHA256:\n{}{}", line("Packages"), line("Packages.gz"));
    fs::write(folder.join("Release"), release).expect("room for the lists");
}

#[test]
fn debian_updates_its_lists_and_installs_a_package() {
    if std::env::var_os("FTEMU_APT").is_none() {
        return;
    }
    let (network, folder, files) = (Network::new(true), Folder::new(), tempfile::tempdir().expect("a folder"));
    repository(files.path());
    network.ip("a", &format!("addr add {SERVER}/24 dev br0"));
    network.ip("a", "route add default via 10.0.0.254");
    let served = http::serve(&network, PORT, files.path());

    let mut command = network.command("a", env!("CARGO_BIN_EXE_ftemu"));
    command.arg("run").arg(disk()).args([
        "--snapshot",
        "--no-stdio",
        "--console-listen",
        "127.0.0.1:0",
        "--net",
        "user",
    ]);
    command.arg("--identity").arg(folder.path("a"));
    let mut side = Side::spawn(command);
    let console = side.address("console");
    let mut console = network.within("a", move || Client::start(&[&console])).join().expect("a console");
    for (question, reply) in [("login: ", "root\n"), ("Password: ", "debian\n"), ("# ", "")] {
        console.wait_for(question);
        console.shown.clear();
        console.type_in(reply);
    }
    let source = format!("deb [trusted=yes] http://{CLIENT}:{PORT}/ ./");
    console.type_in(&format!("echo '{source}' > /etc/apt/sources.list; rm -rf /etc/apt/sources.list.d/*\n"));
    console.type_in("apt-get -q update && apt-get -q install -y jq; echo \"installed: $? then\"\n");
    console.wait_for(" then\r\n");
    let said = String::from_utf8_lossy(&console.shown).into_owned();
    assert!(said.contains("installed: 0 then"), "{said}");
    console.type_in("echo '{\"answer\": [6, 7]}' | jq -M '.answer[0] * .answer[1]'; echo \"works: $?\"\n");
    console.wait_for("42\r\nworks: 0\r\n");
    side.signal("-TERM");
    assert!(side.finish().status.success());
    let served = served.lock().expect("no panic");
    println!("served: {served:?}");
    let packages = served.keys().filter(|name| name.ends_with(".deb")).count();
    assert_eq!((packages, served.contains_key("Packages.gz")), (PACKAGES.len(), true), "{served:?}");
}
