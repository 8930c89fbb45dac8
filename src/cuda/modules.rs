//! The kernels of a library, loaded onto a device when they are first asked for.

use std::collections::HashMap;
use std::sync::Arc;

use super::driver::{Driver, DriverError, Function, Launch, Module, Stream};
use crate::kernels::{Brought, Library};
use crate::program::KernelCall;

/// Bytes of dynamic shared memory that every launch may have.
const SHARED_BY_DEFAULT: u32 = 48 << 10;

/// A device with the modules that were loaded onto it.
pub struct Modules {
    /// The device.
    pub driver: Arc<dyn Driver>,
    library: Library,
    modules: HashMap<String, Module>,
    functions: HashMap<String, Function>,
}

impl std::fmt::Debug for Modules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Modules").field("modules", &self.modules).finish_non_exhaustive()
    }
}

impl Modules {
    /// A device on which kernels are taken from `library`.
    pub fn new(driver: Arc<dyn Driver>, library: Library) -> Self {
        Self { driver, library, modules: HashMap::new(), functions: HashMap::new() }
    }

    /// Takes kernels from these texts too; see [`Library::bring`].
    pub fn bring(&mut self, texts: &[Brought]) -> Result<(), DriverError> {
        let names = || texts.iter().map(|text| text.name).collect::<Vec<_>>().join(", ");
        self.library.bring(texts).map_err(|error| DriverError::Load { module: names(), log: error.to_string() })
    }

    /// The kernels that were asked for, by name.
    pub fn asked(&self) -> impl Iterator<Item = (&str, Function)> {
        self.functions.iter().map(|(symbol, &function)| (symbol.as_str(), function))
    }

    /// The kernel of that name, ready for launches of up to `shared` bytes of dynamic shared memory.
    pub fn function(&mut self, symbol: &str, shared: u32) -> Result<Function, DriverError> {
        let function = match self.functions.get(symbol) {
            Some(&function) => function,
            None => self.load(symbol)?,
        };
        if shared > SHARED_BY_DEFAULT {
            self.driver.allow_shared(function, shared)?;
        }
        Ok(function)
    }

    fn load(&mut self, symbol: &str) -> Result<Function, DriverError> {
        let Some((text, _)) = self.library.find(symbol) else {
            let module = "the library".into();
            return Err(DriverError::NoFunction { module, name: symbol.into() });
        };
        let module = match self.modules.get(&text.path) {
            Some(&module) => module,
            None => {
                let module = self.driver.load(&text.path, &text.ptx)?;
                self.modules.insert(text.path.clone(), module);
                module
            }
        };
        let function = self.driver.function(module, symbol)?;
        self.functions.insert(symbol.into(), function);
        Ok(function)
    }

    /// Launches one kernel.
    pub fn launch(&mut self, call: &KernelCall, stream: Stream) -> Result<(), DriverError> {
        let function = self.function(call.symbol, call.shared_bytes)?;
        let launch = Launch { grid: call.grid, block: call.block, shared: call.shared_bytes };
        self.driver.launch(function, launch, &parameters(&*self.driver, call)?, stream)
    }
}

/// The parameter block of a call, with its tensor maps as the device encodes them.
pub fn parameters(driver: &dyn Driver, call: &KernelCall) -> Result<Vec<u8>, DriverError> {
    let mut parameters = call.parameters.clone();
    for (at, spec) in &call.maps {
        let map = driver.tensor_map(spec)?;
        parameters[*at..][..size_of_val(&map)].copy_from_slice(bytemuck::bytes_of(&map));
    }
    Ok(parameters)
}
