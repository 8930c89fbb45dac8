//! Golden vectors from a GPU: the files of this repository with the results that it gives.
//!
//! ```text
//! G2D_GOLDEN=tests/emulated/golden/h100 cargo test --release --test emulated record_golden_vectors -- --ignored --nocapture
//! ```
//!
//! From then on the emulated device is held to them as to the others, and so are the formulas of the host. What differs
//! from the values written down so far is printed.

use g2d::cuda::driver::emulated::Emulated;
use g2d::cuda::driver::{Driver, DriverError};

use crate::golden::{Group, files, parse};

/// A golden file with the results of a device, and every case that differs from the file.
fn recorded(name: &str, text: &str, device: &dyn Driver) -> Result<(String, Vec<String>), DriverError> {
    let properties = device.properties();
    let (major, minor) = properties.capability;
    let mut out = format!("origin: {} (compute capability {major}.{minor}), as recorded there\n", properties.name);
    let mut differences = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for group in parse(text).unwrap_or_else(|error| panic!("{name}: {error}")) {
        let results = group.run(device)?;
        out += &format!("\n{}\n", lines[group.line - 1]);
        for (case, results) in group.cases.iter().zip(&results) {
            let inputs = case.inputs.iter().zip(&group.inputs).map(|(value, (_, kind))| word(kind, *value));
            let outputs = results.iter().zip(&group.outputs).zip(&case.outputs);
            let outputs = outputs.map(|((value, (_, kind)), golden)| match golden {
                None if f64::from_bits(*value).is_nan() => "nan".to_owned(),
                _ => word(kind, *value),
            });
            let (inputs, outputs): (Vec<_>, Vec<_>) = (inputs.collect(), outputs.collect());
            out += &format!("{} -> {}\n", inputs.join(" "), outputs.join(" "));
        }
        let Group { line, statements, .. } = &group;
        differences
            .extend(group.differences(&results).into_iter().map(|what| format!("{name}:{line}: {statements}: {what}")));
    }
    Ok((out, differences))
}

/// A register's value as files hold it: all digits of its type, one of a predicate.
fn word(kind: &str, value: u64) -> String {
    let digits = kind[1..].parse().map_or(1, |bits: usize| bits / 4);
    format!("{value:0digits$x}")
}

/// The files as the repository computed them.
fn own_files() -> impl Iterator<Item = (String, String)> {
    files().into_iter().filter(|(name, _)| !name.contains('/'))
}

#[test]
fn a_recording_is_a_golden_file() {
    let device = Emulated::default();
    for (name, text) in own_files() {
        let (written, differences) = recorded(&name, &text, &device).expect("it runs");
        assert_eq!(differences, [""; 0]);
        let again = recorded(&name, &written, &device).expect("what was recorded is read");
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

#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs a GPU, and a folder in G2D_GOLDEN"]
fn record_golden_vectors() {
    let folder = std::env::var_os("G2D_GOLDEN").expect("G2D_GOLDEN: a folder for the files");
    let folder = std::path::PathBuf::from(folder);
    let device = g2d::cuda::driver::nvidia::Nvidia::open(0).unwrap_or_else(|error| panic!("{error}"));
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    for (name, text) in own_files() {
        let (written, differences) = recorded(&name, &text, &device).unwrap_or_else(|error| panic!("{name}: {error}"));
        std::fs::write(folder.join(&name), written).expect("the file can be written");
        println!("{name}: {} cases differ from the values of the repository", differences.len());
        differences.iter().for_each(|difference| println!("  {difference}"));
    }
}
