//! The build script's work on small checkouts: what is embedded, compiled, left out and refused, and the table it writes.

#[path = "../src/kernels/compile.rs"]
mod compile;
#[path = "../src/kernels/embed.rs"]
mod embed;
#[path = "../src/kernels/manifest.rs"]
mod manifest;

use std::fs;
use std::path::{Path, PathBuf};

use embed::{Embedded, installed, table};
use manifest::{ManifestError, digest, sources};

/// A text with two kernels: a struct of 24 bytes, and three parameters of which the last begins at 16.
const TEXT: &str = ".version 8.0\n.target sm_80, texmode_independent\n.address_size 64\n\
    .visible .entry one(\n.param .align 8 .b8 p[24]\n)\n{ ret; }\n\
    .visible .entry two(.param .u64 a, .param .u32 b, .param .f64 c) { ret; }\n";

/// A checkout with one hand-written text and one source, listed as they are.
struct Checkout(PathBuf);

impl Checkout {
    fn new(name: &str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("build_script").join(name);
        let _ = fs::remove_dir_all(&root);
        let checkout = Self(root);
        checkout.write("ptx/hand/own.ptx", TEXT);
        checkout.write("ptx/sm_80/made.ptx", TEXT);
        checkout.write("kernels/made.cu", "// a source\n");
        checkout.write("kernels/include/all.cuh", "// of all\n");
        checkout.write("out/empty", "");
        checkout.list("");
        checkout
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes the manifest for what lies there, and more lines.
    fn list(&self, more: &str) {
        let (text, source) = (digest(TEXT), &sources(&self.0).unwrap()[0]);
        let (sources, flags) = (&source.digest, source.flags().join(","));
        let lines = format!(
            "hand/own.ptx {text} - hand - one,two\nsm_80/made.ptx {text} {sources} nvcc-1 {flags} one,two\n{more}"
        );
        self.write("ptx/MANIFEST", &lines);
    }

    fn embed(&self, nvcc: Option<&Path>) -> Result<Embedded, ManifestError> {
        table(&self.0, &self.0.join("out"), nvcc)
    }

    #[track_caller]
    fn said(&self, nvcc: Option<&Path>) -> Vec<String> {
        self.embed(nvcc).unwrap_or_else(|error| panic!("{error}")).said
    }

    fn table(&self) -> String {
        fs::read_to_string(self.0.join("out/kernels.rs")).unwrap()
    }
}

#[test]
fn what_is_listed_is_embedded() {
    let checkout = Checkout::new("listed");
    assert_eq!(checkout.said(None), ["ptx: 1 written by hand, 0 compiled now, 1 embedded"]);
    let table = checkout.table();
    for words in [
        r#"path: "hand/own.ptx""#,
        r#"path: "sm_80/made.ptx""#,
        r#"target: "sm_80""#,
        "origin: Origin::Hand, listed: true",
        "origin: Origin::Committed, listed: true",
        r#"Entry { symbol: "one", parameter_bytes: 24, parameter_align: 8 }"#,
        r#"Entry { symbol: "two", parameter_bytes: 24, parameter_align: 8 }"#,
        "STALE: &[&str] = &[];",
    ] {
        assert!(table.contains(words), "{words} is not in:\n{table}");
    }
    assert_eq!(fs::read_to_string(checkout.0.join("out/module0.ptx")).unwrap(), TEXT);
}

#[test]
fn what_is_stale_is_left_out_without_a_compiler() {
    for (path, text) in [
        ("kernels/made.cu", "// another source\n"),
        ("kernels/include/all.cuh", "// of all, anew\n"),
        ("ptx/sm_80/made.ptx", ".version 8.0\n"),
    ] {
        let checkout = Checkout::new("stale");
        checkout.write(path, text);
        let embedded = checkout.embed(None).unwrap();
        assert!(embedded.lacks_compiler, "{path}");
        assert_eq!(embedded.said[0], "ptx: 1 written by hand, 0 compiled now, 0 embedded, 1 left out");
        assert!(embedded.said[1].contains("ptx/sm_80/made.ptx") && embedded.said[1].contains("toolchain.sh"), "{path}");
        assert!(checkout.table().contains(r#"STALE: &[&str] = &["sm_80/made.ptx"];"#), "{path}");
    }
}

#[test]
fn what_was_written_by_hand_need_not_be_listed() {
    let checkout = Checkout::new("edited");
    checkout.write("ptx/hand/own.ptx", &TEXT.replace("two", "three"));
    let said = checkout.said(None);
    assert_eq!(said.len(), 2);
    assert!(said[1].contains("ptx/hand/own.ptx is not as listed") && checkout.table().contains("three"), "{said:?}");
}

#[test]
fn what_does_not_belong_there_is_refused() {
    type Change = fn(&Checkout);
    let cases: [(Change, &str); 6] = [
        (|checkout| checkout.write("ptx/sm_80/odd.ptx", TEXT), "sm_80/odd.ptx has no source in kernels/"),
        (|checkout| checkout.list("hand/gone.ptx a - hand - one\n"), "hand/gone.ptx is listed but absent"),
        (|checkout| checkout.list("hand/own.ptx a - hand - one\n"), "hand/own.ptx is listed twice"),
        (|checkout| checkout.write("ptx/MANIFEST", "hand/own.ptx\n"), "1 fields, six are needed"),
        (
            |checkout| checkout.write("ptx/hand/own.ptx", ".entry k(.param .what x) {}"),
            "k: parameter `.param .what x`?",
        ),
        (|checkout| fs::remove_file(checkout.0.join("ptx/MANIFEST")).unwrap(), "MANIFEST cannot be read"),
    ];
    for (change, words) in cases {
        let checkout = Checkout::new("refused");
        change(&checkout);
        let error = checkout.embed(None).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[cfg(unix)]
mod with_a_compiler {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A compiler that makes a text with one kernel of whatever it is given, or fails.
    fn compiler(checkout: &Checkout, path: &str, works: bool) -> PathBuf {
        let text = ".version 8.0\n.target sm_80\n.file 1 \"/a/place/made.cu\"\n.entry made(.param .u32 n) { ret; }";
        let end =
            if works { format!("cat >\"$last\" <<'END'\n{text}\nEND\n") } else { "echo broken >&2; exit 1\n".into() };
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = --version ]; then echo release 13.0, V13.0.1; exit 0; fi\n\
             for last; do :; done\n{end}"
        );
        checkout.write(path, &script);
        let path = checkout.0.join(path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn what_is_stale_is_compiled() {
        let checkout = Checkout::new("compiled");
        checkout.write("kernels/made.cu", "// another source\n");
        let nvcc = compiler(&checkout, "nvcc", true);
        let said = checkout.said(Some(&nvcc));
        assert_eq!(said[0], "ptx: 1 written by hand, 1 compiled now, 0 embedded");
        assert!(said[1].contains("ptx/sm_80/made.ptx is not as listed"), "{said:?}");
        let table = checkout.table();
        assert!(table.contains("origin: Origin::Compiled, listed: false") && table.contains("nvcc-13.0.1"), "{table}");
        let text = fs::read_to_string(checkout.0.join("out/module1.ptx")).unwrap();
        assert!(text.contains("made.cu") && !text.contains("/a/place"), "no place on this machine: {text}");
    }

    #[test]
    fn a_compiler_that_fails_or_is_absent_is_named() {
        let checkout = Checkout::new("fails");
        checkout.write("kernels/made.cu", "// another source\n");
        let nvcc = compiler(&checkout, "nvcc", false);
        let error = checkout.embed(Some(&nvcc)).expect_err("it fails").to_string();
        assert!(error.contains("made.cu") && error.contains("nvcc") && error.contains("broken"), "{error}");
        let error = checkout.embed(Some(Path::new("no/nvcc"))).expect_err("it is not there").to_string();
        assert!(error.contains("no/nvcc"), "{error}");
        // What is as listed needs none.
        assert_eq!(Checkout::new("fails").said(Some(Path::new("no/nvcc"))).len(), 1);
    }

    #[test]
    fn the_installed_compiler_is_found_once_it_is_complete() {
        let checkout = Checkout::new("installed");
        assert_eq!(installed(&checkout.0), None);
        let path = "target/toolchain/lib/python3.11/site-packages/nvidia/cu13/bin/nvcc";
        let nvcc = compiler(&checkout, path, true);
        assert_eq!(installed(&checkout.0), None, "the script has not finished");
        checkout.write("target/toolchain/complete", "nvidia-cuda-nvcc\n");
        assert_eq!(installed(&checkout.0), Some(nvcc));
        fs::remove_dir_all(checkout.0.join("target/toolchain/lib")).unwrap();
        assert_eq!(installed(&checkout.0), None);
    }
}
