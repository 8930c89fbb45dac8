//! `g2d watch`: a run in a terminal while it trains.

mod view;

use std::fs;
use std::io::{ErrorKind, IsTerminal, stdout};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use self::view::Seen;
use super::pretrain::named_or_newest;
use crate::error::Error;
use crate::report::{Growing, must_be_run};
use crate::train::run::{self, METRICS};

/// Shows a run in the terminal while it trains: losses, retrieval, masks, learning rate and throughput as charts, how far it is, the
/// last validation, and whether a process is at it.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    g2d watch                            the newest run in runs/\n  \
    g2d watch runs/1\n  \
    g2d watch runs/1 --once              one frame with all charts, as text; also where the output is no terminal\n\n\
    Keys: tab and arrows show other charts, q or Ctrl-C ends. The run is not touched: what is shown is its metrics.jsonl.\n\
    g2d report makes a page of it, with films.")]
pub struct Watch {
    /// The run's folder; by default the newest in runs/.
    #[arg(value_name = "RUN")]
    run: Option<PathBuf>,
    /// Print one frame with all charts, and end.
    #[arg(long)]
    once: bool,
}

/// How often the run is looked at.
const EVERY: Duration = Duration::from_millis(500);
/// How long a key is waited for before signals are looked at.
const WAIT: Duration = Duration::from_millis(100);

impl Watch {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let folder = named_or_newest(self.run.as_deref())?;
        must_be_run(&folder)?;
        let mut watched = Watched { growing: Growing::new(&folder), folder };
        if self.once || !stdout().is_terminal() {
            print!("{}", view::text(&watched.look()?));
            return Ok(());
        }
        live(&mut watched)
    }
}

/// A run that is looked at.
struct Watched {
    folder: PathBuf,
    growing: Growing,
}

impl Watched {
    fn look(&mut self) -> Result<Seen<'_>, Error> {
        let (config, manifest) = run::read(&self.folder).map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
                let folder = self.folder.display();
                Error::Usage(format!("{folder} is gone, or no run any more; g2d watch RUN watches another"))
            }
            other => other,
        })?;
        let written = fs::metadata(self.folder.join(METRICS)).and_then(|file| file.modified()).ok();
        Ok(Seen {
            name: self.folder.display().to_string(),
            batch: config.train.batch,
            stop: run::stop(&self.folder).unwrap_or(manifest.horizon),
            manifest,
            writing: run::held(&self.folder),
            age: written.and_then(|written| SystemTime::now().duration_since(written).ok()),
            table: self.growing.read()?,
        })
    }
}

/// The whole terminal, which is given back however this ends; of a panic also before its message, by a hook of ratatui's.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> Result<Self, Error> {
        ratatui::try_init().map(Self).map_err(|error| {
            let _ = ratatui::try_restore();
            terminal(error)
        })
    }

    fn draw(&mut self, seen: &Seen<'_>, page: isize) -> Result<(), Error> {
        self.0.draw(|frame| view::draw(frame, seen, page)).map(drop).map_err(terminal)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = ratatui::try_restore();
    }
}

fn terminal(error: std::io::Error) -> Error {
    Error::Usage(format!("the terminal cannot be drawn on: {error}; g2d watch --once prints a frame as text"))
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// So many pages on.
    Turn(isize),
    /// The end.
    End,
    /// The end, as by a signal.
    Stop,
}

fn asked(event: &Event) -> Option<Asked> {
    let key = event.as_key_event().filter(|key| key.kind != KeyEventKind::Release)?;
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Asked::Stop),
        KeyCode::Char('q') | KeyCode::Esc => Some(Asked::End),
        KeyCode::Tab | KeyCode::Right | KeyCode::Down => Some(Asked::Turn(1)),
        KeyCode::BackTab | KeyCode::Left | KeyCode::Up => Some(Asked::Turn(-1)),
        _ => None,
    }
}

fn live(watched: &mut Watched) -> Result<(), Error> {
    let stopped = super::cancelled()?;
    let mut screen = Screen::open()?;
    let mut page = 0;
    loop {
        let seen = watched.look()?;
        screen.draw(&seen, page)?;
        let due = Instant::now() + EVERY;
        while Instant::now() < due {
            if stopped.load(Ordering::SeqCst) {
                return Ok(());
            }
            if !event::poll(WAIT).map_err(terminal)? {
                continue;
            }
            match asked(&event::read().map_err(terminal)?) {
                Some(Asked::Turn(by)) => page += by,
                Some(Asked::End) => return Ok(()),
                Some(Asked::Stop) => {
                    stopped.store(true, Ordering::SeqCst);
                    return Ok(());
                }
                None => {} // perhaps another size
            }
            screen.draw(&seen, page)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn keys_turn_pages_and_end() {
        let pressed = |code, modifiers| asked(&Event::Key(KeyEvent::new(code, modifiers)));
        let plain = |code| pressed(code, KeyModifiers::NONE);
        assert_eq!(plain(KeyCode::Char('q')), Some(Asked::End));
        assert_eq!((plain(KeyCode::Char('c')), plain(KeyCode::Char('x'))), (None, None));
        assert_eq!(pressed(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Asked::Stop));
        assert_eq!((plain(KeyCode::Tab), plain(KeyCode::Left)), (Some(Asked::Turn(1)), Some(Asked::Turn(-1))));
        let released = KeyEvent::new_with_kind(KeyCode::Char('q'), KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!((asked(&Event::Key(released)), asked(&Event::Resize(4, 2))), (None, None));
    }
}
