//! A device with what the tests put on it, and texts with a fault in them.

use bytemuck::Pod;
use g2d::cuda::driver::emulated::{Emulated, Options};
use g2d::cuda::driver::{Address, Driver, DriverError, Launch, Stream};
use g2d::kernels;
use g2d::program::KernelCall;
use proptest::test_runner::{Config, RngSeed};

/// Property tests of a fixed seed.
pub fn cases(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(20), failure_persistence: None, ..Config::default() }
}

/// A device whose schedule follows a seed.
pub struct Device {
    driver: Box<dyn Driver>,
    /// In the place of the text that ships.
    text: Option<String>,
}

impl Device {
    /// A device; `text` is loaded instead of the module that ships, if there is one.
    pub fn new(seed: u64, text: Option<String>) -> Self {
        Self { driver: Box::new(Emulated::new(Options { seed, ..Options::default() })), text }
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
        for call in calls {
            let (module, _) = kernels::find(call.symbol).expect("it ships");
            let module = self.driver.load(module.path, self.text.as_deref().unwrap_or(module.text))?;
            let function = self.driver.function(module, call.symbol)?;
            let launch = Launch { grid: call.grid, block: call.block, shared: call.shared_bytes };
            self.driver.launch(function, launch, &call.parameters, Stream::DEFAULT)?;
            self.driver.synchronize(Stream::DEFAULT)?;
        }
        Ok(())
    }
}

/// The text of a kernel with the `nth` occurrence of `from` replaced; `None` if there are fewer.
pub fn tampered(symbol: &str, from: &str, nth: usize, to: &str) -> Option<String> {
    let (module, _) = kernels::find(symbol).expect("it ships");
    let (at, _) = module.text.match_indices(from).nth(nth)?;
    Some(format!("{}{to}{}", &module.text[..at], &module.text[at + from.len()..]))
}

/// Every fault must be found: each is a text to be replaced, and what by.
pub fn catch(symbol: &str, faults: &[(&str, &str)], check: impl Fn(Option<String>) -> Result<(), String>) {
    check(None).expect("the kernel that ships passes");
    for (from, to) in faults {
        let text = tampered(symbol, from, 0, to).unwrap_or_else(|| panic!("{symbol} has no `{from}`"));
        assert!(check(Some(text)).is_err(), "{symbol} with `{to}` in the place of `{from}` goes unnoticed");
    }
}
