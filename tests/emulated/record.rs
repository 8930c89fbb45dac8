//! Golden vectors as a device records them, and that the vendor's assembler takes their kernels.

use g2d::cuda::driver::emulated::Emulated;
use g2d::verify::golden::{parse, recorded};

use crate::golden::files;

/// The files as the repository computed them.
fn own_files() -> impl Iterator<Item = (String, String)> {
    files().into_iter().filter(|(name, _)| !name.contains('/'))
}

#[test]
fn a_recording_is_a_golden_file() {
    let device = Emulated::default();
    for (name, text) in own_files() {
        let (written, differences) = recorded(&text, &device).expect("it runs");
        assert_eq!(differences, [""; 0]);
        let again = recorded(&written, &device).expect("what was recorded is read");
        assert_eq!(again, (written.clone(), Vec::new()));
        if !name.starts_with("approximate") {
            let cases = |text: &str| text.split_once('\n').expect("a first line").1.trim_end().to_owned();
            assert_eq!(cases(&written), cases(&text), "{name}: exact results are written as they stand");
        }
    }
}

/// All kernels of a file as one text.
fn joined(text: &str) -> String {
    let mut all = String::new();
    for (at, group) in parse(text).expect("a golden file").iter().enumerate() {
        let one = group.ptx().replace(".entry golden(", &format!(".entry golden{at}("));
        let (head, entry) = one.split_at(one.find(".visible").expect("an entry"));
        all += if at == 0 { head } else { "" };
        all += entry;
    }
    all
}

#[test]
#[ignore = "needs ptxas, in G2D_PTXAS as kernels/toolchain.sh prints it"]
fn golden_kernels_assemble() {
    let ptxas = std::env::var_os("G2D_PTXAS").expect("G2D_PTXAS: the assembler");
    for (name, text) in own_files() {
        let path = std::env::temp_dir().join(format!("g2d-{}-{name}.ptx", std::process::id()));
        std::fs::write(&path, joined(&text)).expect("the folder of temporary files can be written");
        let assembled = std::process::Command::new(&ptxas).args(["-arch=sm_90", "-o", "/dev/null"]).arg(&path).output();
        std::fs::remove_file(&path).expect("it is there");
        let assembled = assembled.expect("the assembler runs");
        assert!(assembled.status.success(), "{name}: {}", String::from_utf8_lossy(&assembled.stderr));
    }
}
