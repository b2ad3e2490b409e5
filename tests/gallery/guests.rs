//! The table of the gallery: each guest, how it is started, and what shows that it works. All come through the images
//! catalogue; Debian's disks are built once and stay in its folder.

use std::path::PathBuf;

use ftemu_images::Catalogue;
use ftemu_images::build::{Architecture, Kernel, Plan, build};
use ftemu_images::catalogue::Packaged;

/// A guest of the gallery.
pub struct Entry {
    pub name: &'static str,
    pub source: Source,
    pub memory: &'static str,
    pub more: &'static [&'static str],
    pub works: Works,
    /// Whether it takes only seconds.
    pub quick: bool,
    /// It works within so many seconds of its time, even on a busy host.
    pub limit: u64,
}

/// Where a guest comes from.
pub enum Source {
    /// The CD image of a packaged guest: its name, and the file's number in the package's list.
    Cd(&'static str, usize),
    /// Kernel and initrd of a packaged guest, with this command line.
    Kernel(&'static str, &'static str),
    /// A built Debian disk.
    Disk(Kernel),
}

/// What shows that a guest works.
pub enum Works {
    /// All of this on the screen, in letters of the VGA BIOS.
    Screen(&'static [&'static str]),
    /// This on the serial port.
    Serial(&'static str),
    /// A picture that stands still, more than half of it in this color: the window of a program.
    Window([u8; 3]),
}

/// The first question of Debian's installers, in their colors.
const TEXT_WINDOW: Works = Works::Window([0xaa; 3]);
const LIST_OF_LANGUAGES: Works = Works::Window([0xff; 3]);

pub const TABLE: &[Entry] = &[
    Entry {
        name: "grub-rescue",
        source: Source::Cd("grub-rescue", 0),
        memory: "64M",
        more: &[],
        works: Works::Screen(&["GNU GRUB  version 2.06", "Memtest86+", "Use the"]),
        quick: true,
        limit: 300,
    },
    Entry {
        name: "ipxe",
        source: Source::Cd("ipxe", 0),
        memory: "64M",
        more: &["--net", "none"],
        works: Works::Screen(&["iPXE 1.0.0", "net0: "]),
        quick: true,
        limit: 300,
    },
    Entry {
        name: "memtest86+x64",
        source: Source::Cd("memtest", 0),
        memory: "32M",
        more: &[],
        works: Works::Screen(&["Memtest86", "Test #4", "Errors: 0", "Status: Testing"]),
        quick: false,
        limit: 600,
    },
    Entry {
        name: "memtest86+ia32",
        source: Source::Cd("memtest", 1),
        memory: "32M",
        more: &[],
        works: Works::Screen(&["Memtest86", "Test #4", "Errors: 0", "Status: Testing"]),
        quick: false,
        limit: 600,
    },
    debian("debian-amd64", Kernel::Amd64),
    debian("debian-i386-686-pae", Kernel::I686Pae),
    debian("debian-i386-686", Kernel::I686),
    installer("installer-amd64", TEXT_WINDOW),
    installer("installer-i386", TEXT_WINDOW),
    installer("installer-amd64-graphical", LIST_OF_LANGUAGES),
    installer("installer-i386-graphical", LIST_OF_LANGUAGES),
];

const fn debian(name: &'static str, kernel: Kernel) -> Entry {
    let works = Works::Serial("debian login: ");
    Entry { name, source: Source::Disk(kernel), memory: "512M", more: &[], works, quick: false, limit: 900 }
}

const fn installer(name: &'static str, works: Works) -> Entry {
    let source = Source::Kernel(name, "vga=788 --- quiet");
    Entry { name, source, memory: "1G", more: &["--vnc", "127.0.0.1:0"], works, quick: false, limit: 900 }
}

impl Entry {
    /// The arguments of `ftemu run` that name it.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = match self.source {
            Source::Cd(name, at) => ["--cdrom", &packaged(name)[at], "--boot", "d"].map(str::to_owned).to_vec(),
            Source::Kernel(name, line) => {
                let files = packaged(name);
                ["--kernel", &files[0], "--initrd", &files[1], "--append", line].map(str::to_owned).to_vec()
            }
            Source::Disk(kernel) => vec![disk(kernel), "--snapshot".to_owned()],
        };
        arguments.extend(["--memory", self.memory].into_iter().chain(self.more.iter().copied()).map(str::to_owned));
        arguments
    }
}

fn catalogue() -> Catalogue {
    Catalogue::user().expect("a cache folder")
}

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().expect("a cache folder with a plain name")
}

/// The files of a packaged guest.
pub fn packaged(name: &str) -> Vec<String> {
    let guest: Packaged = name.parse().expect("a guest of the catalogue");
    let paths = catalogue().packaged(guest, &mut |_| ()).expect("a guest through apt");
    paths.into_iter().map(text).collect()
}

/// A Debian disk with this kernel, built when it is wanted for the first time.
fn disk(kernel: Kernel) -> String {
    let architecture = match kernel {
        Kernel::Amd64 | Kernel::Cloud => Architecture::Amd64,
        Kernel::I686 | Kernel::I686Pae => Architecture::I386,
    };
    let path = catalogue().folder().join(format!("debian-{kernel}.img"));
    if !path.exists() {
        let mut plan = Plan::new(architecture);
        plan.kernel = kernel;
        build(&plan, &path, &mut |_| ()).expect("Debian's packages; scripts/setup --images installs what builds them");
    }
    text(path)
}
