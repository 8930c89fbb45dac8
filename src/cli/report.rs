//! `g2d report`: the page and the event files of a run, made anew.

use std::path::PathBuf;

use clap::Args;

use super::pretrain::named_or_newest;
use crate::base::counted;
use crate::error::Error;
use crate::report::{self, EVENTS, PAGE};
use crate::train::run;

/// Makes a run's page, report.html, and its TensorBoard files anew; a run writes both by itself while it trains.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    g2d report                                        the newest run in runs/\n  \
    g2d report runs/paper\n  \
    tensorboard --logdir runs                         all runs beside each other\n\n\
    The page is one file that needs no network and can be sent. It holds films and reports of the held-out set.")]
pub struct Report {
    /// The run's folder; by default the newest in runs/.
    #[arg(value_name = "RUN")]
    run: Option<PathBuf>,
}

impl Report {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let folder = named_or_newest(self.run.as_deref())?;
        let shown = report::make_page(&folder)?;
        let counts = [(shown.steps, "step"), (shown.validations, "validation"), (shown.films, "film")];
        let [steps, validations, films] = counts.map(|(count, noun)| counted(count, noun));
        println!("{}: {steps}, {validations}, {films}", folder.join(PAGE).display());
        shown.notes.iter().for_each(|note| println!("  {note}"));
        // Whoever is writing the run is writing its event files too.
        match run::lock(&folder) {
            Ok(_held) => {
                report::make_events(&folder)?;
                println!("{}: every number of it for TensorBoard", folder.join(EVENTS).display());
            }
            Err(Error::Usage(_)) => println!("the run is being written: its TensorBoard files are left to it"),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
