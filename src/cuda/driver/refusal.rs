//! Why a driver does not take a PTX text, in one sentence, where it is older than the text or the GPU is.

/// Codes of the driver (cuda.h, CUresult).
const NO_BINARY_FOR_GPU: i32 = 209;
const INVALID_PTX: i32 = 218;
const UNSUPPORTED_PTX_VERSION: i32 = 222;

/// A driver and its GPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Versions {
    /// The newest CUDA that the driver is for, as it tells: 1000 for each major version, 10 for each minor one.
    pub driver: i32,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
}

/// The word behind a directive of a text.
fn directive<'t>(ptx: &'t str, name: &str) -> Option<&'t str> {
    ptx.lines().find_map(|line| line.trim().strip_prefix(name)?.split([' ', '\t', ',']).find(|word| !word.is_empty()))
}

/// The CUDA whose driver is the first to take a version of PTX (PTX ISA, release notes).
fn first_cuda(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    match (major.parse().ok()?, minor.parse().ok()?) {
        (7, minor) => Some((11, minor)),
        // 8.6 came late.
        (8, 6) => Some((12, 7)),
        (8, minor @ 7..) => Some((12, minor + 1)),
        (8, minor) => Some((12, minor)),
        (9, minor) => Some((13, minor)),
        _ => None,
    }
}

/// What to say where a driver answers the loading of `ptx` with `code`; `log` is what its compiler says, and `None` stands
/// for what neither version explains.
pub(super) fn explained(code: i32, ptx: &str, versions: Versions, log: &str) -> Option<String> {
    let (version, target) = (directive(ptx, ".version")?, directive(ptx, ".target")?);
    let has = (versions.driver as u32 / 1000, versions.driver as u32 % 1000 / 10);
    let needs = first_cuda(version);
    let older = needs.is_some_and(|needs| has < needs);
    let (major, minor) = versions.capability;
    match code {
        UNSUPPORTED_PTX_VERSION | INVALID_PTX if older || code == UNSUPPORTED_PTX_VERSION => {
            let driver = needs.map_or("a newer NVIDIA driver".into(), |(major, minor)| {
                format!("the NVIDIA driver of CUDA {major}.{minor} or a later one")
            });
            Some(format!("it is PTX {version}, and the driver is one for CUDA {}.{}: install {driver}", has.0, has.1))
        }
        NO_BINARY_FOR_GPU => Some(format!(
            "it is for {target} and later ones, and the GPU has compute capability {major}.{minor}: take another GPU, \
             or --device wgpu or cpu {log}"
        )),
        _ => None,
    }
    .map(|text| text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "// a text\n.version 9.0\n\t.target\tsm_80\n.address_size 64\n";
    const OLD: Versions = Versions { driver: 12_040, capability: (7, 5) };

    #[test]
    fn a_driver_older_than_the_text_is_told_what_to_install() {
        for code in [UNSUPPORTED_PTX_VERSION, INVALID_PTX] {
            let told = explained(code, TEXT, OLD, "ptxas fatal");
            let wanted = "it is PTX 9.0, and the driver is one for CUDA 12.4: install the NVIDIA driver of CUDA 13.0 or a later one";
            assert_eq!(told.as_deref(), Some(wanted));
        }
    }

    #[test]
    fn a_gpu_older_than_the_text_is_told_as_such() {
        let told = explained(NO_BINARY_FOR_GPU, TEXT, OLD, "").unwrap();
        assert!(told.contains("sm_80") && told.contains("compute capability 7.5"), "{told}");
    }

    #[test]
    fn other_faults_stay_the_compilers_own() {
        let new = Versions { driver: 13_000, capability: (9, 0) };
        assert_eq!(explained(INVALID_PTX, TEXT, new, "line 3: syntax"), None);
        assert_eq!(explained(1, TEXT, OLD, ""), None);
        assert_eq!(explained(UNSUPPORTED_PTX_VERSION, "no text", OLD, ""), None);
    }

    #[test]
    fn versions_of_ptx_have_their_cuda() {
        for (version, cuda) in
            [("7.0", (11, 0)), ("8.5", (12, 5)), ("8.6", (12, 7)), ("8.8", (12, 9)), ("9.0", (13, 0))]
        {
            assert_eq!(first_cuda(version), Some(cuda), "{version}");
        }
        assert_eq!(first_cuda("x"), None);
    }
}
