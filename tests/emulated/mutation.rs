//! Deletes every barrier, wait, commit and fence from every kernel of [`kernels`](crate::kernels), one at a time: each
//! broken kernel must be reported. Right results are no excuse. None of these synchronisations is redundant, so there is no
//! list of exceptions.

use g2d::cuda::driver::emulated::{Completion, Options};

use crate::harness::Case;
use crate::kernels::{Kernel, all};

/// What is deleted.
const SYNCHRONISATION: &[&str] = &["bar.", "barrier.", "membar.", "fence.", "cp.async.commit", "cp.async.wait"];

/// The body without its n-th synchronisation; labels stay.
fn without(body: &str, number: usize) -> Option<String> {
    let mut seen = 0;
    let mut found = false;
    let mut kept = String::new();
    for statement in body.split_inclusive(';') {
        let label = statement.rfind(": ").map_or(0, |colon| colon + 2);
        let (label, code) = statement.split_at(label);
        let opcode = code.split_whitespace().find(|word| !word.starts_with('@')).unwrap_or_default();
        let synchronises = SYNCHRONISATION.iter().any(|prefix| opcode.starts_with(prefix));
        let deleted = synchronises && seen == number;
        seen += usize::from(synchronises);
        found |= deleted;
        kept += label;
        kept += if deleted { "" } else { code };
    }
    found.then_some(kept)
}

/// The runs that a broken kernel has to get through unseen.
fn runs() -> impl Iterator<Item = Options> {
    let modes = [Completion::Late, Completion::Early, Completion::Random];
    (0..4).flat_map(move |seed| modes.map(|completion| Options { seed, completion, ..Options::default() }))
}

#[test]
fn whole_kernels_give_right_words_without_a_report() {
    for Kernel { name, case, expected } in all() {
        for options in runs() {
            let ran = case.run(options).unwrap_or_else(|report| panic!("{name}: {report}"));
            assert_eq!(ran.b[..expected.len()], expected, "{name}");
        }
    }
}

#[test]
fn deleting_any_synchronisation_is_reported() {
    let (mut mutants, mut survivors) = (0, Vec::new());
    for Kernel { name, case, .. } in all() {
        let bodies = (0..).map_while(|number| Some((number, without(&case.body, number)?)));
        for (number, body) in bodies {
            mutants += 1;
            let mutant = Case { body, ..case.clone() };
            if runs().all(|options| mutant.run(options).is_ok()) {
                survivors.push((name, number));
            }
        }
    }
    assert!(survivors.is_empty(), "of {mutants} mutants these were not reported: {survivors:?}");
    assert!(mutants >= 30, "only {mutants} mutants: the kernels have lost their synchronisations");
}
