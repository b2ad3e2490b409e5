//! Where packages come from: where this machine's own apt gets Debian's.

use super::tools::Tools;
use super::{BuildError, Plan};

/// Lines for sources.list(5).
#[derive(Debug)]
pub(super) struct Sources {
    /// The release itself.
    pub(super) main: Vec<String>,
    /// Its updates, without which a disk can be built too.
    pub(super) extra: Vec<String>,
}

impl Sources {
    pub(super) fn all(&self) -> Vec<String> {
        self.main.iter().chain(&self.extra).cloned().collect()
    }
}

/// What apt is configured to use, or the plan's mirror.
pub(super) fn find(plan: &Plan) -> Result<Sources, BuildError> {
    if let Some(mirror) = &plan.mirror {
        return Ok(Sources { main: vec![line(mirror, &plan.release, "main")], extra: Vec::new() });
    }
    let targets = Tools::command("apt-get")
        .args(["indextargets", "--no-release-info", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)"])
        .arg("Created-By: Packages")
        .output();
    let text = targets.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let here = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let here = here.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let sources = select(&text, here.unwrap_or_default().trim_matches('"'), &plan.release);
    if sources.main.is_empty() {
        return Err(BuildError::NoMirror { release: plan.release.clone() });
    }
    Ok(sources)
}

/// Of apt's index targets (`URI|RELEASE|COMPONENT` a line) those of the machine's own release, turned into the wanted one.
fn select(targets: &str, here: &str, wanted: &str) -> Sources {
    let mut sources = Sources { main: Vec::new(), extra: Vec::new() };
    for target in targets.lines() {
        let mut fields = target.split('|');
        let (Some(place), Some(suite), Some("main")) = (fields.next(), fields.next(), fields.next()) else { continue };
        let list = match suite.strip_prefix(here).or_else(|| suite.strip_prefix("stable")) {
            Some("") => &mut sources.main,
            Some("-updates" | "-security") => &mut sources.extra,
            _ => continue,
        };
        let suite = suite.replacen(here, wanted, 1).replacen("stable", wanted, 1);
        let line = line(place, &suite, "main");
        if !list.contains(&line) {
            list.push(line);
        }
    }
    sources
}

fn line(place: &str, suite: &str, component: &str) -> String {
    format!("deb {place} {suite} {component}")
}

/// Settings of apt that say how to reach a mirror: proxies.
pub(super) fn proxies() -> Vec<String> {
    let dump = Tools::command("apt-config").arg("dump").output();
    let text = dump.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let is_proxy = |line: &&str| line.starts_with("Acquire::") && line.contains("::Proxy");
    text.lines().filter(is_proxy).map(|line| line.trim_end_matches(';').to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "\
        http://mirror/debian/|bookworm|main\n\
        http://mirror/debian/|bookworm|main\n\
        http://mirror/debian/|bookworm|contrib\n\
        http://mirror/debian/|bookworm-updates|main\n\
        http://security/|bookworm-security|main\n\
        http://other/|nodistro|main\n";

    #[test]
    fn only_debians_own_archives_are_used_once_each() {
        let sources = select(TARGETS, "bookworm", "bookworm");
        assert_eq!(sources.main, ["deb http://mirror/debian/ bookworm main"]);
        assert_eq!(
            sources.extra,
            ["deb http://mirror/debian/ bookworm-updates main", "deb http://security/ bookworm-security main"]
        );
    }

    #[test]
    fn another_release_comes_from_the_same_places() {
        let sources = select(TARGETS, "bookworm", "trixie");
        assert_eq!(sources.main, ["deb http://mirror/debian/ trixie main"]);
        assert_eq!(sources.extra.len(), 2);
        assert!(select("http://x/|jammy|main", "jammy", "bookworm").main[0].ends_with("bookworm main"));
        assert!(select("nonsense\n||\n", "bookworm", "bookworm").main.is_empty());
    }
}
