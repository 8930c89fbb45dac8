//! `g2d study`: the ten questions that people ask of the method, answered from this program. Each is a sweep that comes with it.

use std::path::PathBuf;

use clap::Args;

use super::sweep::{Plan, carry_out};
use crate::error::Error;

/// Runs again what answers one of ten questions about the method (docs/questions.md); without a number it lists them.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    g2d study                    the ten questions\n  \
    g2d study 2                  trains what is needed, evaluates, prints a table: minutes on two cores\n  \
    g2d study 6 --out here       keeps runs, table and plot elsewhere than in runs/sweeps\n\n\
    Each is a file for g2d sweep, in examples/studies; runs that several need are trained once.")]
pub struct Study {
    /// The question.
    #[arg(value_parser = clap::value_parser!(u8).range(1..=10))]
    number: Option<u8>,
    /// Where runs, table and plot are kept; by default runs/sweeps.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
}

/// The sweeps, by number.
const STUDIES: [&str; 10] = [
    include_str!("../../examples/studies/01.toml"),
    include_str!("../../examples/studies/02.toml"),
    include_str!("../../examples/studies/03.toml"),
    include_str!("../../examples/studies/04.toml"),
    include_str!("../../examples/studies/05.toml"),
    include_str!("../../examples/studies/06.toml"),
    include_str!("../../examples/studies/07.toml"),
    include_str!("../../examples/studies/08.toml"),
    include_str!("../../examples/studies/09.toml"),
    include_str!("../../examples/studies/10.toml"),
];

impl Study {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let plan = |number: usize| Plan::parse(STUDIES[number - 1], &format!("study {number}"));
        let Some(number) = self.number.map(usize::from) else {
            for number in 1..=STUDIES.len() {
                println!("{number:2}  {}", plan(number)?.title);
            }
            println!("g2d study NUMBER trains and evaluates what answers one of them");
            return Ok(());
        };
        carry_out(&plan(number)?, self.out.as_deref(), &format!("study-{number}"), self.json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ten_can_be_read() {
        for (at, text) in STUDIES.iter().enumerate() {
            let plan = Plan::parse(text, &format!("study {}", at + 1)).unwrap_or_else(|why| panic!("{why}"));
            assert!(plan.title.ends_with('?'), "{}", plan.title);
        }
    }
}
