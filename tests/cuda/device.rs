//! A device with what the tests put on it, and texts with a fault in them.

use std::path::Path;
use std::sync::Arc;

use bytemuck::Pod;
use g2d::cuda::driver::emulated::{Completion, Emulated, Options};
use g2d::cuda::driver::{Address, Driver, DriverError, Launch, Stream};
use g2d::cuda::{Modules, parameters};
use g2d::kernels::Library;
use g2d::ops::Op;
use g2d::program::{Case, KernelCall};
use g2d::verify::cases::Expected;
use g2d::verify::compare::Storage;
use g2d::verify::device::{planned, run};
use proptest::test_runner::{Config, RngSeed};

/// Property tests of a fixed seed.
pub fn cases(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(20), failure_persistence: None, ..Config::default() }
}

/// The kernels that ship, or those of the folder `G2D_PTX`.
pub fn library() -> Library {
    match std::env::var_os("G2D_PTX") {
        Some(folder) => Library::with_folder(Path::new(&folder)).expect("a folder of PTX texts"),
        None => Library::shipped(),
    }
}

/// A device whose schedule, and the time at which copies take effect, follow a seed.
fn emulated(seed: u64) -> Emulated {
    Emulated::new(Options { seed, completion: Completion::of_seed(seed), ..Options::default() })
}

/// Such a device with a library of kernels.
pub fn modules(seed: u64, library: Library) -> Modules {
    Modules::new(Arc::new(emulated(seed)), library)
}

/// A case of an op with what its results are held against.
pub struct Trial {
    case: Case<Op>,
    storage: Storage,
    kernel: &'static str,
    expected: Expected,
}

impl Trial {
    /// Of the case that `draw` makes; other arguments give other numbers of the same shapes.
    pub fn new(draw: impl Fn(u64) -> Case<Op>, storage: Storage, kernel: &'static str) -> Self {
        let drawn = |at| planned(draw(at), storage);
        let expected = Expected::new(drawn, storage).expect("the reference");
        Self { case: drawn(0), storage, kernel, expected }
    }

    /// Whether the kernel's results are accepted, if `text` takes the place of the one that holds `symbol`.
    pub fn check(&self, seed: u64, symbol: &str, text: Option<String>) -> Result<(), String> {
        let mut library = library();
        if let Some(text) = text {
            let path = library.find(symbol).expect("it ships").0.path.clone();
            library.replace(&path, text).map_err(|error| error.to_string())?;
        }
        let got = run(&mut modules(seed, library), &self.case, self.kernel, self.storage);
        self.expected.accepts(&got.map_err(|failure| failure.to_string())?).map(drop)
    }
}

/// Whether all trials pass, if `text` takes the place of the one that holds `symbol`.
pub fn check_all(trials: &[Trial], symbol: &str, text: Option<String>) -> Result<(), String> {
    trials.iter().try_for_each(|trial| trial.check(1, symbol, text.clone()))
}

/// A device whose schedule follows a seed.
pub struct Device {
    driver: Box<dyn Driver>,
    /// In the place of the text that ships.
    text: Option<String>,
}

impl Device {
    /// A device; `text` is loaded instead of the module that ships, for the kernels that it has.
    pub fn new(seed: u64, text: Option<String>) -> Self {
        Self { driver: Box::new(emulated(seed)), text }
    }

    /// Memory that holds these numbers.
    pub fn put<T: Pod>(&self, numbers: &[T]) -> Address {
        let at = self.room(size_of_val(numbers));
        self.driver.upload(at, bytemuck::cast_slice(numbers), Stream::DEFAULT).unwrap();
        at
    }

    /// Memory that nobody has written.
    pub fn room(&self, bytes: usize) -> Address {
        self.driver.allocate(bytes.max(1) as u64).unwrap()
    }

    /// Memory full of NaN, to be written.
    pub fn poison(&self, numbers: usize) -> Address {
        self.put(&vec![f32::NAN; numbers])
    }

    /// What lies there.
    pub fn get<T: Pod>(&self, at: Address, numbers: usize) -> Vec<T> {
        let mut got = vec![T::zeroed(); numbers];
        self.driver.download(at, bytemuck::cast_slice_mut(&mut got), Stream::DEFAULT).unwrap();
        got
    }

    /// Does what an op asks for. Kernels are known by their names, as in production.
    pub fn run(&self, calls: &[KernelCall]) -> Result<(), DriverError> {
        let library = library();
        for call in calls {
            let (module, _) = library.find(call.symbol).expect("it ships");
            let text = self.text.as_deref().filter(|text| text.contains(call.symbol)).unwrap_or(&module.ptx);
            let module = self.driver.load(&module.path, text)?;
            let function = self.driver.function(module, call.symbol)?;
            let launch = Launch { grid: call.grid, block: call.block, shared: call.shared_bytes };
            if call.shared_bytes > 48 << 10 {
                self.driver.allow_shared(function, call.shared_bytes)?;
            }
            let parameters = parameters(&*self.driver, call)?;
            self.driver.launch(function, launch, &parameters, Stream::DEFAULT)?;
            self.driver.synchronize(Stream::DEFAULT)?;
        }
        Ok(())
    }
}

/// The text of a kernel, without its comments, with the `nth` occurrence of `from` replaced; `None` if there are fewer.
pub fn tampered(symbol: &str, from: &str, nth: usize, to: &str) -> Option<String> {
    let library = library();
    let (module, _) = library.find(symbol).expect("it ships");
    let instructions = |line: &str| line.split("//").next().unwrap_or_default().trim_end().to_owned() + "\n";
    let text: String = module.ptx.lines().map(instructions).collect();
    let (at, _) = text.match_indices(from).nth(nth)?;
    Some(format!("{}{to}{}", &text[..at], &text[at + from.len()..]))
}

/// Every fault must be found: each is a text to be replaced, and what by.
pub fn catch(symbol: &str, faults: &[(&str, &str)], check: impl Fn(Option<String>) -> Result<(), String>) {
    check(None).expect("the kernel that ships passes");
    let unnoticed = faults.iter().filter(|(from, to)| {
        let text = tampered(symbol, from, 0, to).unwrap_or_else(|| panic!("{symbol} has no `{from}`"));
        check(Some(text)).is_ok()
    });
    let unnoticed: Vec<_> = unnoticed.collect();
    assert!(unnoticed.is_empty(), "{symbol}, replaced unnoticed: {unnoticed:#?}");
}

/// Every one of these statements must be missed where it stands; how many there are.
pub fn each_is_needed(
    symbol: &str,
    statements: &[&str],
    check: impl Fn(Option<String>) -> Result<(), String>,
) -> usize {
    check(None).expect("the kernel that ships passes");
    let mut found = 0;
    for statement in statements {
        for nth in 0.. {
            let Some(text) = tampered(symbol, statement, nth, "") else { break };
            assert!(check(Some(text)).is_err(), "{statement} number {nth} can be left out unnoticed");
            found += 1;
        }
    }
    found
}
