//! What a thread and a block of each kernel take, as the vendor's assembler says: recorded in `ptx/RESOURCES` when `ptx/` is
//! written, so that nobody needs the assembler to know.
//!
//! A file is a line with its path in `ptx/` and the digest of its text, then a line for each of its kernels: name, registers,
//! bytes of the stack frame, of spill stores, of spill loads, of static shared memory.

use super::{MODULES, Module};

/// What was recorded.
const RECORDED: &str = include_str!("../../ptx/RESOURCES");

/// What a kernel takes on the architecture that its text is written for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Resources {
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of a thread's stack frame.
    pub stack: u32,
    /// Bytes of registers that a thread stores for want of room.
    pub spill_stores: u32,
    /// Bytes of such that it loads.
    pub spill_loads: u32,
    /// Bytes of shared memory that the kernel declares itself.
    pub shared: u32,
}

/// What the kernel of that name takes; `None` if it does not ship, or its text has changed since this was recorded.
pub fn of(symbol: &str) -> Option<Resources> {
    let (module, _) = super::find(symbol)?;
    let section = section(RECORDED, module)?;
    section.lines().find_map(|line| kernel(line).filter(|(name, _)| *name == symbol)).map(|(_, resources)| resources)
}

/// The line that begins the section of a file.
fn head(module: &Module) -> String {
    let digest = module.line.split_whitespace().nth(1).unwrap_or_default();
    format!("{} {digest}\n", module.path)
}

/// What is recorded of a file's kernels, if it is of this very text.
fn section<'a>(recorded: &'a str, module: &Module) -> Option<&'a str> {
    let head = head(module);
    let begin = recorded.find(&format!("\n{head}"))? + 1 + head.len();
    let end =
        recorded[begin..].lines().take_while(|line| line.starts_with(' ')).map(|line| line.len() + 1).sum::<usize>();
    recorded.get(begin..begin + end)
}

fn kernel(line: &str) -> Option<(&str, Resources)> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let numbers: Vec<u32> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let [registers, stack, spill_stores, spill_loads, shared] = numbers.try_into().ok()?;
    Some((name, Resources { registers, stack, spill_stores, spill_loads, shared }))
}

/// The lines of a file's kernels, from what the assembler printed with `-v` about it.
pub(super) fn lines(said: &str) -> String {
    let mut lines = Vec::new();
    let mut kernel = (String::new(), Resources::default());
    for line in said.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            kernel = (rest.split('\'').next().unwrap_or_default().to_owned(), Resources::default());
        } else if line.contains("bytes stack frame") {
            let mut numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
            [kernel.1.stack, kernel.1.spill_stores, kernel.1.spill_loads] =
                [(); 3].map(|()| numbers.next().unwrap_or(0));
        } else if let Some((_, used)) = line.split_once(": Used ") {
            let parts = || used.split(", ");
            let number = |part: Option<&str>| part.and_then(|part| part.split(' ').next()?.parse().ok()).unwrap_or(0);
            kernel.1.registers = number(parts().next());
            kernel.1.shared = number(parts().find(|part| part.ends_with("bytes smem")));
            let (name, Resources { registers, stack, spill_stores, spill_loads, shared }) = &kernel;
            lines.push(format!("  {name} {registers} {stack} {spill_stores} {spill_loads} {shared}\n"));
        }
    }
    lines.sort_unstable();
    lines.concat()
}

/// The whole record: for each file that was assembled now what was said of it, for others what is recorded and still holds.
pub(super) fn record(assembled: &[(&'static Module, String)]) -> String {
    let mut sections: Vec<String> = MODULES
        .iter()
        .filter_map(|module| {
            let now = assembled.iter().find(|(of, _)| std::ptr::eq(*of, module)).map(|(_, lines)| lines.as_str());
            Some(head(module) + now.or_else(|| section(RECORDED, module))?)
        })
        .collect();
    sections.sort_unstable();
    format!(
        "# Of each kernel: registers of a thread, bytes of its stack frame, of spill stores, of spill loads; bytes of static\n\
         # shared memory of a block. Written by `g2d kernels --write` where G2D_PTXAS names an assembler.\n{}",
        sections.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_that_ships_is_recorded_and_spills_nothing() {
        let missing: Vec<&str> = MODULES
            .iter()
            .flat_map(|module| module.entries)
            .map(|entry| entry.symbol)
            .filter(|symbol| of(symbol).is_none_or(|of| of.registers == 0 || of.spill_stores + of.spill_loads > 0))
            .collect();
        assert_eq!(
            missing, [""; 0],
            "run `g2d kernels --write` with G2D_PTXAS set (kernels/toolchain.sh), and build again"
        );
        assert_eq!(of("no_such_kernel"), None);
    }

    #[test]
    fn what_is_recorded_of_another_text_does_not_count() {
        let module = &MODULES[0];
        let recorded = record(&[]);
        assert_eq!(recorded, RECORDED, "written anew it is the same");
        assert!(section(&recorded, module).is_some_and(|lines| lines.lines().count() == module.entries.len()));
        let digest = module.line.split_whitespace().nth(1).unwrap();
        assert_eq!(section(&recorded.replace(digest, &digest.replace(&digest[..4], "....")), module), None);
    }

    #[test]
    fn the_assembler_is_understood() {
        let said = "ptxas info    : 0 bytes gmem\n\
            ptxas info    : Compiling entry function 'b' for 'sm_80'\nptxas info    : Function properties for b\n    \
            0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
            ptxas info    : Used 98 registers, used 1 barriers, 32768 bytes smem, 424 bytes cmem[0]\n\
            ptxas info    : Compile time = 103.124 ms\n\
            ptxas info    : Compiling entry function 'a' for 'sm_80'\nptxas info    : Function properties for a\n    \
            16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n\
            ptxas info    : Used 255 registers, used 0 barriers, 16 bytes cumulative stack size, 376 bytes cmem[0]\n";
        assert_eq!(lines(said), "  a 255 16 8 12 0\n  b 98 0 0 0 32768\n");
        let of_a = Resources { registers: 255, stack: 16, spill_stores: 8, spill_loads: 12, shared: 0 };
        assert_eq!(kernel("  a 255 16 8 12 0"), Some(("a", of_a)));
    }
}
