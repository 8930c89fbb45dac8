//! The header says what the Rust says that it is made of: functions, structs, statuses, version, and what is written above them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const RUST: &str = "src/capi/mod.rs";
const HEADER: &str = "src/capi/g2d.h";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(super::ROOT).join(path)).unwrap()
}

/// One space for many, none around what is no word.
fn squeezed(text: &str) -> String {
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for mark in ["*", "(", ")", ",", "{", "}", ";", "="] {
        text = text.replace(&format!(" {mark}"), mark).replace(&format!("{mark} "), mark);
    }
    text
}

/// The C of a Rust type.
fn type_of(rust: &str) -> String {
    let pointer = |inner: &str, constant: bool| match inner.starts_with('*') {
        true => format!("{}{}*", type_of(inner), if constant { " const" } else { "" }),
        false => format!("{}{}*", if constant { "const " } else { "" }, type_of(inner)),
    };
    match rust.trim() {
        rust if rust.starts_with("*mut ") => pointer(&rust[5..], false),
        rust if rust.starts_with("*const ") => pointer(&rust[7..], true),
        "c_char" => "char".into(),
        "c_void" => "void".into(),
        "usize" => "size_t".into(),
        "f32" => "float".into(),
        "f64" => "double".into(),
        number @ ("u8" | "i32" | "u32" | "u64") => {
            format!("{}int{}_t", number.replace(|it: char| it != 'u', ""), &number[1..])
        }
        other => other.into(),
    }
}

/// `name: type` in C.
fn field(rust: &str) -> String {
    let (name, kind) = rust.trim().trim_start_matches("pub ").split_once(':').unwrap();
    squeezed(&format!("{} {name}", type_of(kind)))
}

/// Rust without its comments.
fn without_comments(rust: &str) -> String {
    rust.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect()
}

/// What the Rust declares for C: functions, structs, numbers.
fn declared(rust: &str) -> BTreeSet<String> {
    let rust = without_comments(rust);
    let mut found = BTreeSet::new();
    for part in rust.split("extern \"C\" fn ").skip(1) {
        let (name, rest) = part.split_once('(').unwrap();
        let (arguments, rest) = rest.split_once(')').unwrap();
        let arguments: Vec<String> =
            arguments.split(',').filter(|argument| !argument.trim().is_empty()).map(field).collect();
        let arguments = if arguments.is_empty() { "void".into() } else { arguments.join(",") };
        let gives = rest.split('{').next().unwrap().trim();
        let gives = gives.strip_prefix("->").map_or("void".into(), type_of);
        found.insert(squeezed(&format!("{gives} {name}({arguments})")));
    }
    for part in rust.split("#[repr(C)]").skip(1) {
        let (name, rest) = part.split_once("pub struct ").unwrap().1.split_once('{').unwrap();
        let fields = rest.split('}').next().unwrap().split(',').filter(|field| !field.trim().is_empty());
        let fields: String = fields.map(|it| field(it) + ";").collect();
        found.insert(squeezed(&format!("struct {name} {{{fields}}}")));
    }
    let (name, rest) = rust.split_once("pub enum ").unwrap().1.split_once('{').unwrap();
    found.insert(squeezed(&format!("enum {name} {{{}}}", rest.split('}').next().unwrap())));
    let abi = rust.split_once("pub const G2D_ABI: u32 = ").unwrap().1.split(';').next().unwrap().to_owned();
    found.insert(format!("G2D_ABI {abi}"));
    found
}

/// What the header declares, written the same way.
fn announced(header: &str) -> BTreeSet<String> {
    let mut code = String::new();
    let mut rest = header;
    while let Some((before, behind)) = rest.split_once("/*") {
        code += before;
        rest = behind.split_once("*/").unwrap().1;
    }
    code += rest;
    let mut found = BTreeSet::new();
    found.extend(code.lines().filter_map(|line| line.strip_prefix("#define G2D_ABI")).map(|it| format!("G2D_ABI{it}")));
    let lines = code.lines().filter(|line| !line.starts_with('#') && line.trim() != ": int32_t");
    let code = lines.map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n");
    let code = code.replace("extern \"C\" {", "");
    for (at, _) in code.match_indices('{') {
        let head = code[..at].rsplit([';', '}']).next().unwrap().trim().trim_start_matches("typedef ");
        let body = code[at + 1..].split('}').next().unwrap();
        found.insert(squeezed(&format!("{head} {{{body}}}")));
    }
    let statements = code.split([';', '}']).map(str::trim).filter(|statement| statement.contains('('));
    // A prototype may name a struct by its tag.
    found.extend(statements.map(|statement| squeezed(&statement.replace("struct ", ""))));
    found
}

/// What a declaration declares: the last name in front of what begins its types, its body or its number.
fn name_of(declaration: &str) -> &str {
    let head = declaration.trim_start().split(['(', ';', ':', '{', '=', ',', '\n']).next().unwrap().trim_end();
    match head.strip_prefix("#define ") {
        Some(constant) => constant.split(' ').next().unwrap(),
        None => head.rsplit(|it: char| !it.is_alphanumeric() && it != '_').next().unwrap(),
    }
}

/// What is public in the Rust, each with the documentation above it.
fn documented(rust: &str) -> BTreeMap<&str, String> {
    let (mut found, mut above) = (BTreeMap::new(), Vec::new());
    for line in rust.lines().map(str::trim) {
        match line.strip_prefix("///") {
            Some(text) => above.push(text.trim()),
            None if line.starts_with("#[") || line.starts_with("// SAFETY") => {}
            None if line.starts_with("pub ") || line.starts_with("G2D_") && line.contains(" = ") => {
                let twice = found.insert(name_of(line), above.join("\n"));
                assert_eq!(twice, None, "{line} is there twice");
                above.clear();
            }
            None => above.clear(),
        }
    }
    found
}

/// What is declared behind comments of the header, each with its comment.
fn explained(header: &str) -> BTreeMap<&str, String> {
    let mut found = BTreeMap::new();
    for part in header.split("/**").skip(1) {
        let (comment, behind) = part.split_once("*/").unwrap();
        let lines = comment.trim().lines().map(|line| line.trim().trim_start_matches('*').trim());
        let twice = found.insert(name_of(behind), lines.collect::<Vec<_>>().join("\n"));
        assert_eq!(twice, None, "{} is there twice", name_of(behind));
    }
    found
}

#[test]
fn the_header_is_made_of_the_source() {
    let (rust, header) = (read(RUST), read(HEADER));
    let (declared, announced) = (declared(&rust), announced(&header));
    let remake = "make the header anew: src/capi/cbindgen.toml has the command";
    assert_eq!(declared, announced, "{remake}");
    let functions = declared.iter().filter(|it| it.contains('(')).count();
    assert!(functions >= 17 && declared.len() == functions + 4, "{declared:#?}");
    assert_eq!(documented(&rust), explained(&header), "{remake}");
    let settings: toml::Table = read("src/capi/cbindgen.toml").parse().unwrap();
    let opening = header.split_once("#ifndef G2D_H").unwrap().0;
    assert_eq!(Some(opening.trim()), settings["header"].as_str().map(str::trim), "{remake}");
}

#[test]
fn a_header_that_differs_is_noticed() {
    let (rust, header) = (declared(&read(RUST)), read(HEADER));
    for (from, to) in [
        ("size_t batch,", "int batch,"),
        ("const uint8_t *pixels,", "uint8_t *pixels,"),
        ("double learning_rate,", ""),
        ("G2D_FAULT = 7", "G2D_FAULT = 8"),
        ("uint64_t steps;", "uint32_t steps;"),
        ("#define G2D_ABI 1", "#define G2D_ABI 2"),
        ("void g2d_free(", "void g2d_release("),
    ] {
        assert!(header.contains(from), "{from:?} is not in the header");
        assert_ne!(announced(&header.replacen(from, to, 1)), rust, "{from} became {to}");
    }
    // Comments that are gone, of another declaration, or nobody's.
    let rust = read(RUST);
    let rust = documented(&rust);
    assert!(rust.len() > 40 && rust.values().all(|text| !text.is_empty()), "{rust:#?}");
    for (from, to) in [
        ("     * The loss.\n", "     * The sum.\n"),
        ("    /**\n     * The loss.\n     */\n", ""),
        ("double contrastive", "double agreement"),
        ("#ifdef __cplusplus\nextern", "/** More. */\nvoid g2d_more(void);\n#ifdef __cplusplus\nextern"),
    ] {
        assert!(header.contains(from), "{from:?} is not in the header");
        assert_ne!(explained(&header.replacen(from, to, 1)), rust, "{from} became {to}");
    }
    assert_eq!(documented("/// Nobody's.\nfn a() {}\npub fn b() {}\n"), BTreeMap::from([("b", String::new())]));
}

#[test]
fn types_are_translated() {
    for (rust, c) in [
        ("*const *const c_char", "const char*const*"),
        ("*mut *mut g2d_session", "g2d_session**"),
        ("*const c_void", "const void*"),
        ("*mut f32", "float*"),
        ("i32", "int32_t"),
        ("u64", "uint64_t"),
        ("bool", "bool"),
    ] {
        assert_eq!(squeezed(&type_of(rust)), c);
    }
}
