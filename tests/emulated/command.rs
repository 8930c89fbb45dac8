//! `g2d emulate`: what a fault prints replays it.

use std::process::Command;

/// Copies a word and traps where the copy has taken effect before anybody waits for it: at once, or by luck.
const HASTY: &str = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry own(.param .u64 from) {
    .reg .b32 %r<4>; .reg .b64 %d<4>; .reg .pred %p; .shared .align 4 .u32 s[32];
    ld.param.u64 %d1, [from]; mov.u32 %r1, %tid.x; mul.wide.u32 %d2, %r1, 4; add.u64 %d3, %d1, %d2;
    mov.u32 %r2, s; mad.lo.u32 %r2, %r1, 4, %r2; cp.async.ca.shared.global [%r2], [%d3], 4;
    ld.shared.u32 %r3, [%r2]; cp.async.wait_all; setp.eq.u32 %p, %r3, 7; @%p trap; ret; }";

#[test]
fn what_a_fault_prints_replays_it() {
    let file = std::env::temp_dir().join(format!("g2d-{}-hasty.ptx", std::process::id()));
    std::fs::write(&file, HASTY).expect("the folder of temporary files can be written");
    // What the command says, and whether it found a fault.
    let emulate = |options: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_g2d"));
        command.args(["emulate", "--kernel", "own", "--arg", "u32[32]=7"]).arg(&file).args(options.split_whitespace());
        let ended = command.output().expect("it runs");
        let text = String::from_utf8_lossy(if ended.status.success() { &ended.stdout } else { &ended.stderr });
        (text.trim_end().to_owned(), !ended.status.success())
    };
    let options = "--off pending_copies,initialized --lockstep --limit 5000";
    let (text, fault) = emulate(&format!("{options} --completion late --seeds 6"));
    assert!(!fault && text.starts_with("no fault"), "{text}");
    for (seeds, replayed) in
        [("--seeds 6", "--seed 1 --completion early"), ("--seed 5 --completion random", "--seed 5 --completion random")]
    {
        let (text, _) = emulate(&format!("{options} {seeds}"));
        let (_, replay) = text.split_once("replay with ").unwrap_or_else(|| panic!("{text}"));
        assert_eq!(replay, format!("{replayed} --off initialized,pending_copies --lockstep --limit 5000"));
        assert_eq!(emulate(replay), (text.clone(), true));
    }
    let (text, fault) = emulate("--completion soon");
    assert!(fault && text.contains("there are late, early and random"), "{text}");
    std::fs::remove_file(&file).expect("it is there");
}
