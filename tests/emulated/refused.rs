//! Forms of sm_80 that the emulated device refuses, with reasons: `refused.txt`, from which the list in the docs is made.
//! `G2D_BLESS=1 cargo test --release --test emulated refused` writes it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::decoding::{decoded, module};

const LIST: &str = include_str!("refused.txt");

/// Every opcode of PTX ISA 9.0 that sm_80 has, by the manual's sections 9.7.1 to 9.7.19.
const OPCODES: &str = "add sub mul mad mul24 mad24 sad div rem abs neg min max popc clz bfind fns brev bfe bfi bmsk szext \
    dp4a dp2a addc subc madc testp copysign fma rcp sqrt rsqrt sin cos lg2 ex2 tanh set setp selp slct and or xor not \
    cnot lop3 shf shl shr mov shfl prmt ld ldu st prefetch prefetchu applypriority discard createpolicy isspacep cvta cvt \
    cp tex tld4 txq istypep suld sust sured suq bra brx call ret exit bar barrier membar fence atom red vote match \
    activemask redux mbarrier wmma mma ldmatrix movmatrix vadd vsub vabsdiff vmin vmax vshl vshr vmad vset vadd2 vsub2 \
    vavrg2 vabsdiff2 vmin2 vmax2 vset2 vadd4 vsub4 vavrg4 vabsdiff4 vmin4 vmax4 vset4 stacksave stackrestore alloca \
    brkpt nanosleep pmevent trap";

/// Reasons, each with its statements.
fn reasons() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match (line.strip_prefix("= "), reasons.last_mut()) {
            (Some(reason), _) => reasons.push((reason, Vec::new())),
            (None, Some((_, statements))) => statements.push(line),
            (None, None) => panic!("no reason before {line}"),
        }
    }
    reasons
}

fn form(statement: &str) -> &str {
    statement.split([' ', ';']).next().unwrap_or_default()
}

/// Whether the device refuses a statement for its form or, where that is a plain `mov`, for an operand that it names.
fn refused(statement: &str) -> bool {
    match decoded(&module("sm_80", statement)) {
        Ok(_) => false,
        Err(message) => message.contains(&format!("`{}`", form(statement))),
    }
}

#[test]
fn what_is_listed_as_refused_is_refused() {
    let statements = reasons().into_iter().flat_map(|(_, statements)| statements);
    let taken: Vec<&str> = statements.filter(|statement| !refused(statement)).collect();
    assert!(taken.is_empty(), "decoded, so strike them from refused.txt:\n{}", taken.join("\n"));
    assert!(!refused("add.u32 %r1, %r2, %r3;"), "a form that is supported");
}

#[test]
fn every_opcode_is_known_or_listed_as_refused() {
    let reasons = reasons();
    let listed: BTreeSet<&str> = reasons
        .iter()
        .flat_map(|(_, statements)| statements)
        .filter_map(|text| text.split(['.', ' ']).next())
        .collect();
    // An opcode that the decoder knows has forms that golden kernels execute, is found wanting for another reason than its name, or
    // decodes as it stands.
    let golden = crate::coverage::golden();
    let executed: BTreeSet<&str> = golden.iter().filter_map(|form| form.split('.').next()).collect();
    let known = |opcode: &str| {
        let message = decoded(&module("sm_80", &format!("{opcode};"))).err();
        executed.contains(opcode) || message.is_none_or(|message| !message.contains("does not know this form"))
    };
    let missing: Vec<&str> =
        OPCODES.split_whitespace().filter(|opcode| !known(opcode) && !listed.contains(opcode)).collect();
    assert!(missing.is_empty(), "neither decoded nor in refused.txt: {missing:?}");
    assert!(!known("frobnicate") && known("add"));
}

#[test]
fn the_docs_list_what_is_refused() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/emulator.md");
    let text = std::fs::read_to_string(&path).expect("the page is there");
    let (begin, end) = ("<!-- begin refused -->\n", "<!-- end refused -->");
    let (before, rest) = text.split_once(begin).expect("the list begins");
    let (_, after) = rest.split_once(end).expect("the list ends");
    let mut table = "| forms of sm_80 that are refused | why |\n|---|---|\n".to_owned();
    for (reason, statements) in reasons() {
        let forms: Vec<String> = statements.iter().map(|statement| shown(statement)).collect();
        table += &format!("| {} | {reason} |\n", forms.join(" "));
    }
    let wanted = format!("{before}{begin}{table}{end}{after}");
    if std::env::var_os("G2D_BLESS").is_some() {
        std::fs::write(&path, &wanted).expect("the page can be written");
    } else {
        assert!(text == wanted, "docs/emulator.md does not list what refused.txt does; G2D_BLESS=1 writes it");
    }
}

/// The form, or of a plain `mov` the whole statement.
fn shown(statement: &str) -> String {
    match form(statement) {
        "mov.u32" | "mov.u64" | "mov.b32" => format!("`{}`", statement.trim_end_matches(';')),
        form => format!("`{form}`"),
    }
}

#[test]
#[ignore = "needs ptxas, in G2D_PTXAS as kernels/toolchain.sh prints it"]
fn what_is_listed_as_refused_exists() {
    let ptxas = std::env::var_os("G2D_PTXAS").expect("G2D_PTXAS: the assembler");
    let path = std::env::temp_dir().join(format!("g2d-{}-refused.ptx", std::process::id()));
    let assembles = |statement: &str| {
        std::fs::write(&path, module("sm_80", statement)).expect("the folder of temporary files can be written");
        let assembled = std::process::Command::new(&ptxas).args(["-arch=sm_80", "-o", "/dev/null"]).arg(&path).output();
        assembled.expect("the assembler runs").status.success()
    };
    assert!(!assembles("add.foo.u32 %r1, %r2, %r3;"), "the assembler refuses what does not exist");
    let statements = reasons().into_iter().flat_map(|(_, statements)| statements);
    let unreal: Vec<&str> = statements.filter(|statement| !assembles(statement)).collect();
    std::fs::remove_file(&path).expect("it is there");
    assert!(unreal.is_empty(), "ptxas does not know for sm_80:\n{}", unreal.join("\n"));
}
