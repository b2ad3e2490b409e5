//! The promise of the screen: it is seen by VNC viewers and by `ftemu screenshot`, keys and buttons reach the guest, and
//! the survivor of a pair shows it at once. The viewer here is the test's own, as plain as the protocol allows.

mod processes;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use ftemu_images::tiny;
use processes::{Folder, Side, guest_arguments, program, run, side_arguments};

/// Red and green of the first dots; their blue changes.
const RED: u8 = tiny::SCREEN_COLOR.to_be_bytes()[1];
const GREEN: u8 = tiny::SCREEN_COLOR.to_be_bytes()[2];
const BLUE: u8 = tiny::SCREEN_COLOR.to_be_bytes()[3];
/// X keysym of `a`, and what the keyboard says when that key goes down and up.
const KEY_A: u32 = 0x61;
const DOWN: u8 = 0x1e;
const UP: u8 = 0x9e;

/// A guest that runs alone; its console and its screen are served.
fn guest(folder: &Folder) -> (Side, String, String) {
    let mut side = Side::start(
        ["run", "--no-stdio", "--vnc", "127.0.0.1:0"]
            .map(str::to_owned)
            .into_iter()
            .chain(side_arguments(folder, "a"))
            .chain(guest_arguments(folder, &tiny::screen())),
    );
    let console = side.address("console");
    let vnc = side.address("vnc");
    (side, console, vnc)
}

/// A viewer that asks for plain pixels.
struct Viewer {
    stream: TcpStream,
    size: (u16, u16),
    /// Blue, green, red and nothing of each dot.
    dots: Vec<u8>,
}

impl Viewer {
    fn connect(address: &str) -> Viewer {
        let mut stream = TcpStream::connect(address).expect("a server");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        let mut version = [0; 12];
        stream.read_exact(&mut version).expect("a version");
        assert_eq!(&version, b"RFB 003.008\n");
        stream.write_all(&version).expect("it reads");
        let mut offered = [0; 2];
        stream.read_exact(&mut offered).expect("what it offers");
        assert_eq!(offered, [1, 1], "no security");
        stream.write_all(&[1, 1]).expect("it reads"); // no security; share the screen
        let mut introduction = [0; 4 + 24];
        stream.read_exact(&mut introduction).expect("its introduction");
        let [0, 0, 0, 0, w0, w1, h0, h1, 32, 24, 0, 1, .., 0, 0, 0, 5] = introduction else {
            panic!("not as expected: {introduction:?}");
        };
        let mut name = [0; 5];
        stream.read_exact(&mut name).expect("its name");
        let size = (u16::from_be_bytes([w0, w1]), u16::from_be_bytes([h0, h1]));
        let mut viewer = Viewer { stream, size, dots: vec![0; 4 * usize::from(size.0) * usize::from(size.1)] };
        viewer.say(&[2, 0, 0, 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x21]); // plain pixels, new sizes
        viewer
    }

    fn say(&mut self, message: &[u8]) {
        self.stream.write_all(message).expect("it reads");
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).expect("an update");
        bytes
    }

    /// Asks for what has changed, and waits for that.
    fn update(&mut self) {
        let [w0, w1] = self.size.0.to_be_bytes();
        let [h0, h1] = self.size.1.to_be_bytes();
        self.say(&[3, 1, 0, 0, 0, 0, w0, w1, h0, h1]);
        let [kind, _, c0, c1] = self.take();
        assert_eq!(kind, 0, "an update");
        for _ in 0..u16::from_be_bytes([c0, c1]) {
            let [x, y, width, height] = [(); 4].map(|()| usize::from(u16::from_be_bytes(self.take())));
            match i32::from_be_bytes(self.take()) {
                0 => (y..y + height).for_each(|y| self.line(x, y, width)),
                -223 => {
                    self.size = (width as u16, height as u16);
                    self.dots = vec![0; 4 * width * height];
                }
                other => panic!("encoding {other}"),
            }
        }
    }

    fn line(&mut self, x: usize, y: usize, width: usize) {
        let start = 4 * (y * usize::from(self.size.0) + x);
        self.stream.read_exact(&mut self.dots[start..start + 4 * width]).expect("pixels");
    }

    /// Looks until a dot of the first line has this blue, and the others of the guest's picture.
    fn wait_for(&mut self, dot: usize, blue: u8) {
        while self.size != tiny::SCREEN_SIZE || self.dots[4 * dot..4 * dot + 3] != [blue, GREEN, RED] {
            self.update();
        }
    }

    fn key(&mut self, keysym: u32, down: bool) {
        self.say(&[&[4, u8::from(down), 0, 0], &keysym.to_be_bytes()[..]].concat());
    }
}

/// The picture in a PNG file: its size, and the first two dots.
fn picture(path: &Path) -> ((u32, u32), [[u8; 3]; 2]) {
    let file = std::io::BufReader::new(std::fs::File::open(path).expect("a picture"));
    let mut reader = png::Decoder::new(file).read_info().expect("a picture");
    let mut dots = vec![0; reader.output_buffer_size().expect("a size")];
    let info = reader.next_frame(&mut dots).expect("a picture");
    ((info.width, info.height), [[dots[0], dots[1], dots[2]], [dots[3], dots[4], dots[5]]])
}

fn command(arguments: &[&str]) {
    let outcome = run(arguments);
    assert!(outcome.status.success(), "{}", outcome.complaints);
}

#[test]
fn a_viewer_sees_the_guest_and_uses_its_keyboard_and_mouse() {
    let folder = Folder::new();
    let (side, _, vnc) = guest(&folder);
    let mut viewer = Viewer::connect(&vnc);
    viewer.wait_for(0, BLUE);
    viewer.key(KEY_A, true);
    viewer.wait_for(0, DOWN);
    viewer.key(KEY_A, false);
    viewer.wait_for(0, UP);
    viewer.wait_for(1, 0xfa); // the mouse's acknowledgement of the guest
    for (x, y) in [(100u16, 100u16), (107, 100), (107, 95)] {
        viewer.say(&[&[5, 0][..], &x.to_be_bytes(), &y.to_be_bytes()].concat());
    }
    viewer.wait_for(1, 5);
    // A capital letter without shift: shift goes down, the letter, shift goes up.
    viewer.key(KEY_A - 0x20, true);
    viewer.wait_for(0, 0xaa);
    viewer.key(KEY_A - 0x20, false);
    viewer.wait_for(0, UP);
    // Keys that are down when their viewer goes away go up.
    viewer.key(KEY_A, true);
    viewer.wait_for(0, DOWN);
    let mut other = Viewer::connect(&vnc);
    other.wait_for(0, DOWN);
    drop(viewer);
    other.wait_for(0, UP);
    side.signal("-TERM");
    assert!(side.finish().status.success());
}

#[test]
fn commands_take_pictures_press_keys_and_buttons() {
    let folder = Folder::new();
    let (mut side, console, vnc) = guest(&folder);
    Viewer::connect(&vnc).wait_for(0, BLUE);
    let path = folder.path("screen.png");
    command(&["screenshot", &console, path.to_str().expect("a path")]);
    assert_eq!(picture(&path).0, (640, 480));
    command(&["sendkey", &console, "ctrl-alt-a"]);
    Viewer::connect(&vnc).wait_for(0, 0x9d); // control, which was pressed first, goes up last
    command(&["press", &console, "reset"]);
    side.wait_for("reset");
    Viewer::connect(&vnc).wait_for(0, BLUE);
    command(&["sendkey", &console, "--text", "A"]);
    Viewer::connect(&vnc).wait_for(0, 0xaa); // shift goes up
    command(&["press", &console, "power"]);
    side.wait_for("power_off");
    assert!(side.finish().status.success());
}

#[test]
fn the_survivor_of_a_pair_shows_the_screen_at_once() {
    let folder = Folder::new();
    folder.identities();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut standby = Side::start(
        words(&["standby", "--listen", "127.0.0.1:0", "--vnc", "127.0.0.1:0"])
            .into_iter()
            .chain(side_arguments(&folder, "b")),
    );
    let listens = standby.address("listening");
    let (standby_console, standby_vnc) = (standby.address("console"), standby.address("vnc"));
    let mut primary = Side::start(
        words(&["run", "--no-stdio", "--vnc", "127.0.0.1:0", "--peer", &listens])
            .into_iter()
            .chain(side_arguments(&folder, "a"))
            .chain(guest_arguments(&folder, &tiny::screen())),
    );
    let servers = [primary.address("console"), standby_console].join(",");
    standby.wait_for("protected");
    // A viewer of the standby sees the same screen, but its keys do nothing.
    let mut viewer = Viewer::connect(&standby_vnc);
    viewer.wait_for(0, BLUE);
    viewer.key(KEY_A, true);
    viewer.key(KEY_A, false);
    command(&["sendkey", &servers, "b"]);
    viewer.wait_for(0, 0xb0);
    let path = folder.path("screen.png");
    command(&["screenshot", &servers, path.to_str().expect("a path")]);
    assert_eq!(picture(&path).1[0], [RED, GREEN, 0xb0]);
    primary.kill();
    command(&["screenshot", &servers, path.to_str().expect("a path")]);
    assert_eq!(picture(&path).1[0], [RED, GREEN, 0xb0], "the survivor has it");
    viewer.key(KEY_A, true);
    viewer.wait_for(0, DOWN);
    command(&["press", &servers, "power"]);
    standby.wait_for("power_off");
}

#[test]
fn hostile_viewers_disturb_nobody() {
    let folder = Folder::new();
    let (side, console, vnc) = guest(&folder);
    let good = [b"RFB 003.008\n".as_slice(), &[1, 1]].concat();
    let hostile: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"RFB 003.00".to_vec(),
        b"RFB 003.008\n\xff".to_vec(),
        [&good[..], &[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]].concat(),
        [&good[..], &[0; 20]].concat(),
        [&good[..], &[2, 0, 0xff, 0xff, 1]].concat(),
        [&good[..], &[3, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff].repeat(500)].concat(),
        [&good[..], &[5, 0xff, 0xff, 0xff, 0xff, 0xff].repeat(500)].concat(),
        [&good[..], &[255; 64]].concat(),
    ];
    let mut open = Vec::new();
    for bytes in &hostile {
        let mut stream = TcpStream::connect(&vnc).expect("a server");
        // It may have been thrown out already.
        let _ = stream.write_all(bytes);
        open.push(stream);
    }
    drop(open);
    Viewer::connect(&vnc).wait_for(0, BLUE);
    let path = folder.path("screen.png");
    command(&["screenshot", &console, path.to_str().expect("a path")]);
    assert_eq!(picture(&path).0, (640, 480));
    side.signal("-TERM");
    assert!(side.finish().status.success());
}

#[test]
fn mistakes_are_explained() {
    let folder = Folder::new();
    run(["sendkey", "127.0.0.1:1", "ctrl-hyper"]).failed_saying(&["hyper", "sendkey --help"]);
    run(["sendkey", "127.0.0.1:1"]).failed_saying(&["KEYS"]);
    run(["sendkey", "ctrl-alt-delete", "a"]).failed_saying(&["ADDRESS:PORT"]);
    run(["press", "127.0.0.1:1", "eject"]).failed_saying(&["power", "reset"]);
    let nowhere = folder.path("screen.png").display().to_string();
    run(["screenshot", "127.0.0.1:1", &nowhere, "--patience", "100ms"]).failed_saying(&["--console-listen"]);
    let kernel = guest_arguments(&folder, &tiny::screen());
    let open = ["run", "--no-stdio", "--vnc", "0.0.0.0:0"].map(str::to_owned);
    run(open.into_iter().chain(kernel)).failed_saying(&["--vnc-insecure", "SSH"]);

    let mut blind = Side::start(
        ["run", "--no-stdio"]
            .map(str::to_owned)
            .into_iter()
            .chain(side_arguments(&folder, "a"))
            .chain(guest_arguments(&folder, &tiny::echo())),
    );
    let console = blind.address("console");
    run(["screenshot", &console, &nowhere]).failed_saying(&["no screen"]);
    assert!(!Path::new(&nowhere).exists());
    blind.kill();
    assert!(program().arg("screenshot").output().is_ok_and(|output| !output.status.success()));
}
