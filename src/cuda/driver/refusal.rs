//! Why a driver does not take a PTX text, in one sentence, where it is older than the text or the GPU is.

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

/// What to say where a driver refuses `ptx`; `None` if neither version explains it.
pub(super) fn explained(ptx: &str, versions: Versions) -> Option<String> {
    let (version, target) = (directive(ptx, ".version")?, directive(ptx, ".target")?);
    let has = (versions.driver as u32 / 1000, versions.driver as u32 % 1000 / 10);
    if let Some((major, minor)) = first_cuda(version).filter(|&needs| has < needs) {
        return Some(format!(
            "it is PTX {version}, and the driver is one for CUDA {}.{}: install the NVIDIA driver of CUDA {major}.{minor} \
             or a later one",
            has.0, has.1
        ));
    }
    let (major, minor) = versions.capability;
    let wants: u32 = target.strip_prefix("sm_")?.trim_end_matches(char::is_alphabetic).parse().ok()?;
    (wants > 10 * major + minor).then(|| {
        format!(
            "it is for {target} and later ones, and the GPU has compute capability {major}.{minor}: take another GPU, or \
             --device wgpu or cpu"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "// a text\n.version 9.0\n\t.target\tsm_80\n.address_size 64\n";
    const OLD: Versions = Versions { driver: 12_040, capability: (9, 0) };

    #[test]
    fn a_driver_older_than_the_text_is_told_what_to_install() {
        let wanted =
            "it is PTX 9.0, and the driver is one for CUDA 12.4: install the NVIDIA driver of CUDA 13.0 or a later one";
        assert_eq!(explained(TEXT, OLD).as_deref(), Some(wanted));
    }

    #[test]
    fn a_gpu_older_than_the_text_is_told_as_such() {
        let told = explained(TEXT, Versions { driver: 13_000, capability: (7, 5) }).unwrap();
        assert!(told.contains("sm_80") && told.contains("compute capability 7.5"), "{told}");
        let hopper = TEXT.replace("sm_80", "sm_90a");
        assert!(explained(&hopper, Versions { driver: 13_000, capability: (8, 9) }).is_some());
    }

    #[test]
    fn other_faults_stay_the_compilers_own() {
        for capability in [(8, 0), (9, 0), (12, 0)] {
            assert_eq!(explained(TEXT, Versions { driver: 13_000, capability }), None);
        }
        assert_eq!(explained("no text", OLD), None);
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
