//! Breaks the synchronisation of every kernel of [`kernels`](crate::kernels), one place at a time: each mutant must be
//! reported. Right results are no excuse. None of these synchronisations is redundant, so there is no list of exceptions.

use g2d::cuda::driver::emulated::{Completion, Options};

use crate::harness::Case;
use crate::kernels::{Kernel, all};

/// What is deleted.
const SYNCHRONISATION: &[&str] = &[
    "bar.",
    "barrier.",
    "membar.",
    "fence.",
    "cp.async.commit",
    "cp.async.wait",
    "cp.async.mbarrier",
    "mbarrier.init",
    "mbarrier.arrive",
    "cp.async.bulk.commit",
    "cp.async.bulk.wait",
    "wgmma.fence",
    "wgmma.commit",
    "wgmma.wait",
];

/// Memory orders with the weaker ones that may stand in their place (PTX ISA 8.5).
const WEAKER: &[(&str, &[&str])] = &[
    (".acq_rel.", &[".acquire.", ".release.", ".relaxed."]),
    (".acquire.", &[".relaxed."]),
    (".release.", &[".relaxed."]),
];

/// All that a waiting loop does until it goes back: it reads and compares.
const LOOKING: &[&str] = &["ld.", "setp.", "mbarrier.test_wait", "mbarrier.try_wait"];

/// A statement: the labels before it, and the rest.
type Statement<'b> = (&'b str, &'b str);

fn statements(body: &str) -> Vec<Statement<'_>> {
    let split = |statement: &'_ str| statement.rfind(": ").map_or(0, |colon| colon + 2);
    body.split_inclusive(';').map(|statement| statement.split_at(split(statement))).collect()
}

/// Opcode with modifiers.
fn opcode(code: &str) -> &str {
    code.split_whitespace().find(|word| !word.starts_with('@')).unwrap_or_default()
}

/// Whether the statement goes back to the beginning of a loop that only waits for what it reads.
fn waits(statements: &[Statement], at: usize) -> bool {
    let code = statements[at].1;
    let target = code.trim_end_matches(';').split_once("bra ").map_or("", |(_, label)| label.trim());
    let labels = |statement: &Statement| statement.0.split(": ").any(|label| label.trim() == target);
    let Some(first) = statements[..=at].iter().position(labels).filter(|_| !target.is_empty()) else { return false };
    let looks = |(_, code): &Statement| LOOKING.iter().any(|prefix| opcode(code).starts_with(prefix));
    first < at && statements[first..at].iter().all(looks)
}

/// What may stand in the place of a statement so that synchronisation is lost, each with its name.
fn changes(statements: &[Statement], at: usize) -> Vec<(String, String)> {
    let code = statements[at].1;
    let opcode = opcode(code);
    let mut changes = Vec::new();
    if SYNCHRONISATION.iter().any(|prefix| opcode.starts_with(prefix)) {
        changes.push((format!("without {opcode}"), String::new()));
    }
    if waits(statements, at) {
        changes.push(("without waiting".into(), String::new()));
    }
    if let Some((before, pending)) = code.trim_end_matches(';').split_once("cp.async.wait_group ") {
        let more = pending.trim().parse::<u32>().expect("groups in number") + 1;
        changes.push((format!("waits for one group less: {more}"), format!("{before}cp.async.wait_group {more};")));
    }
    let accesses = ["ld.", "st.", "atom.", "red."].iter().any(|prefix| opcode.starts_with(prefix));
    for (order, weaker) in WEAKER.iter().filter(|(order, _)| accesses && opcode.contains(order)) {
        changes.extend(weaker.iter().map(|weak| (format!("{opcode} made {weak}"), code.replace(order, weak))));
    }
    if accesses && opcode.contains(".gpu.") {
        changes.push((format!("{opcode} made .cta."), code.replace(".gpu.", ".cta.")));
    }
    changes
}

/// Every body with one of its synchronisations broken, and what was done; labels stay.
fn mutants(body: &str) -> Vec<(String, String)> {
    let statements = statements(body);
    let changes = (0..statements.len()).flat_map(|at| changes(&statements, at).into_iter().map(move |to| (at, to)));
    let mutant = |(at, (what, code)): (usize, (String, String))| {
        let texts = statements.iter().enumerate().map(|(other, (label, kept))| match other == at {
            true => format!("{label}{code}"),
            false => format!("{label}{kept}"),
        });
        (format!("statement {at} {what}"), texts.collect())
    };
    changes.map(mutant).collect()
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
fn breaking_any_synchronisation_is_reported() {
    let (mut made, mut survivors) = ([0; 4], Vec::new());
    for Kernel { name, case, .. } in all() {
        for (what, body) in mutants(&case.body) {
            let kind = ["without waiting", "waits for", " made "].iter().position(|words| what.contains(words));
            made[kind.unwrap_or(3)] += 1;
            let mutant = Case { body, ..case.clone() };
            if runs().all(|options| mutant.run(options).is_ok()) {
                survivors.push(format!("{name}: {what}"));
            }
        }
    }
    let [loops, groups, orders, deleted] = made;
    println!("{deleted} deleted, {loops} loops that no longer wait, {groups} groups less, {orders} weaker orders");
    assert!(survivors.is_empty(), "these were not reported:\n{}", survivors.join("\n"));
    assert!(deleted >= 67 && loops >= 9 && groups >= 2 && orders >= 13, "the kernels have lost synchronisations");
}
