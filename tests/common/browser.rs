//! Pages in a browser: Chromium without a window.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What makes tests run that need a browser.
pub const CHROMIUM: &str = "install Chromium, such as apt-get install chromium, then cargo test --release";

/// The browser, if it is installed.
pub fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name))).find(|file| file.is_file())
}

/// So much time passes in the page before it is looked at, however long that takes outside.
const BUDGET: &str = "--virtual-time-budget=5000";

/// What a page became, and what the browser had to say about it.
#[derive(Debug)]
pub struct Seen {
    /// The document, after its scripts have run.
    pub document: String,
    /// Lines of the console.
    pub console: Vec<String>,
}

/// Opens a page in a browser with flags.
fn opened(browser: &Path, page: &Path, flags: &[String]) -> Seen {
    // One profile each: a second browser on the same one would hand its page to the first.
    let profile = page.with_extension("profile");
    // A page that never comes to rest shall not hold up everything else.
    let mut command = if cfg!(target_os = "linux") { Command::new("timeout") } else { Command::new(browser) };
    if cfg!(target_os = "linux") {
        command.args(["--signal=KILL", "180"]).arg(browser);
    }
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
    command.args(["--disable-extensions", "--disable-background-networking", "--disable-component-update"]);
    command.args(["--hide-scrollbars", "--enable-logging=stderr"]).args(flags);
    command.arg(format!("--user-data-dir={}", profile.display())).arg(page).stdin(Stdio::null());
    let output = command.output().expect("the browser starts");
    let _ = fs::remove_dir_all(&profile);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (document, errors) = (text(output.stdout), text(output.stderr));
    let console = errors.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
    Seen { document, console }
}

/// Opens a page in a window of this size, light or dark.
pub fn look(browser: &Path, page: &Path, [width, height]: [u32; 2], dark: bool) -> Seen {
    let scheme = format!("--blink-settings=preferredColorScheme={}", u8::from(!dark));
    opened(browser, page, &[scheme, format!("--window-size={width},{height}"), "--dump-dom".into(), BUDGET.into()])
}

/// Takes a picture of a page in a window of this size, light or dark.
pub fn photograph(browser: &Path, page: &Path, [width, height]: [u32; 2], dark: bool, to: &Path) {
    let scheme = format!("--blink-settings=preferredColorScheme={}", u8::from(!dark));
    opened(
        browser,
        page,
        &[scheme, format!("--window-size={width},{height}"), format!("--screenshot={}", to.display())],
    );
}
