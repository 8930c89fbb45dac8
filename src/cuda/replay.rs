//! Replays plans on a CUDA device, real or emulated: slabs are allocated once, every launch is bound to its addresses once,
//! and a step is then a list of kernel calls, or the graph recorded from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::driver::{Address, Driver, DriverError, Function, Graph, Launch as Shape, Resource, Stream};
use super::uploads::Uploads;
use super::{Modules, parameters};
use crate::kernels::Library;
use crate::program::plan::{Buffer, Launch, Plan, Slab, slabs};
use crate::program::{Checked, DeviceIo, Misfit, Placed};

/// Why a plan cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A slab does not fit.
    #[error("{slab:?} takes {bytes} bytes: {source}")]
    Memory {
        /// Which slab.
        slab: Slab,
        /// Its size.
        bytes: u64,
        /// Bytes of the slabs that were allocated before.
        taken: u64,
        /// What the device says.
        source: DriverError,
    },
    /// A launch failed, or cannot be made.
    #[error("launch {at} of the plan ({scope}, {op} by {kernel}): {source}")]
    Launch {
        /// Position in the plan.
        at: usize,
        /// Where in the model.
        scope: String,
        /// The op.
        op: &'static str,
        /// The kernel within the op.
        kernel: &'static str,
        /// What the device says.
        source: DriverError,
    },
    /// A launch failed, of which only the plan is known.
    #[error(
        "a launch of the step, which was given to the device as one graph: {source}; run again with --replay to find the launch"
    )]
    Graph {
        /// What the device says.
        source: DriverError,
    },
    /// A copy or an allocation failed.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

/// One thing that a stream is given.
enum Step {
    Copy { to: Address, from: Address, bytes: u64 },
    Kernel { function: Function, shape: Shape, parameters: Vec<u8> },
}

/// A plan with its addresses.
struct Bound {
    plan: Arc<Checked>,
    /// For each launch of the plan what is to be done, in order.
    launches: Vec<Vec<Step>>,
    graph: Option<Graph>,
    replayed: bool,
}

/// Plans on one device, on the same slabs.
pub struct Replay {
    modules: Modules,
    slabs: BTreeMap<Slab, (Address, u64)>,
    /// Copies of slabs; see [`Replay::keep`].
    kept: BTreeMap<Slab, Address>,
    /// Everything that was allocated, to be given back.
    allocated: Vec<Address>,
    plans: Vec<Bound>,
    stream: Stream,
    /// The way of what is uploaded for every step.
    uploads: Option<Uploads>,
    /// Whether that is uploaded ahead now; see [`Replay::ahead`].
    ahead: bool,
    /// Rows that stay on the device, and their bytes; see [`Replay::gather`].
    table: Option<(Address, u64)>,
    /// What was submitted last is a graph, of whose launches no error says which it was.
    graphed: bool,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("slabs", &self.slabs).field("plans", &self.plans.len()).finish_non_exhaustive()
    }
}

impl Replay {
    /// Takes memory for these plans, which share their states, and binds them. All of it is zero: rows that no text has
    /// are written by nobody, but added up by kernels that are not told how many there are.
    pub fn open(driver: Arc<dyn Driver>, library: Library, plans: &[Arc<Checked>]) -> Result<Self, ReplayError> {
        let stream = driver.stream()?;
        let modules = Modules::new(driver.clone(), library);
        let mut replay = Self {
            modules,
            slabs: BTreeMap::new(),
            kept: BTreeMap::new(),
            allocated: Vec::new(),
            plans: Vec::new(),
            stream,
            uploads: None,
            ahead: false,
            table: None,
            graphed: false,
        };
        for launch in plans.iter().flat_map(|plan| &plan.launches) {
            replay.modules.bring(launch.op.ptx())?;
        }
        let mut taken = 0;
        for (slab, bytes) in slabs(plans).into_iter().filter(|&(_, bytes)| bytes > 0) {
            let at = replay.allocate(bytes).map_err(|source| ReplayError::Memory { slab, bytes, taken, source })?;
            taken += bytes;
            replay.modules.driver.fill(at, 0, bytes, replay.stream)?;
            replay.slabs.insert(slab, (at, bytes));
        }
        if let Some(&(_, bytes)) = replay.slabs.get(&Slab::Inputs) {
            let out = |source| ReplayError::Memory { slab: Slab::Inputs, bytes, taken, source };
            let landing = replay.allocate(bytes).map_err(out)?;
            replay.uploads = Some(Uploads::new(&*driver, bytes, landing, stream)?);
        }
        for plan in plans {
            let launches = (0..plan.launches.len()).map(|at| {
                let bound = replay.bind(plan, at);
                bound.map_err(|source| failed(&plan.launches[at], at, source))
            });
            let launches = launches.collect::<Result<_, _>>()?;
            replay.plans.push(Bound { plan: plan.clone(), launches, graph: None, replayed: false });
        }
        Ok(replay)
    }

    /// The device.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.modules.driver
    }

    fn allocate(&mut self, bytes: u64) -> Result<Address, DriverError> {
        let at = self.modules.driver.allocate(bytes)?;
        self.allocated.push(at);
        Ok(at)
    }

    fn address(&self, buffer: &Buffer) -> Address {
        let base = self.slabs.get(&buffer.slab).map_or(Address(0), |&(base, _)| base);
        base.offset(buffer.offset as u64)
    }

    fn bind(&mut self, plan: &Plan, at: usize) -> Result<Vec<Step>, DriverError> {
        let launch = &plan.launches[at];
        let placed = Placed::new(plan, at, |buffer| self.address(buffer).0);
        let copies = placed.copies().map(|[to, from]| {
            let bytes = to.binding().bytes;
            Step::Copy { to: Address(to.address), from: Address(from.address), bytes }
        });
        let mut steps: Vec<Step> = copies.collect();
        let refused = |misfit: Misfit| DriverError::Invalid(misfit.to_string());
        let run = |io: &mut DeviceIo| launch.op.run_cuda(launch.kernel, io).map_err(refused);
        let calls = placed.calls(run, |constants| {
            let at = self.allocate(constants.len() as u64)?;
            self.modules.driver.upload(at, constants, self.stream).map(|()| at.0)
        })?;
        for call in calls {
            let function = self.modules.function(call.symbol, call.shared_bytes)?;
            let shape = Shape { grid: call.grid, block: call.block, shared: call.shared_bytes };
            let parameters = parameters(&*self.modules.driver, &call)?;
            steps.push(Step::Kernel { function, shape, parameters });
        }
        Ok(steps)
    }

    fn bound(&mut self, plan: &Arc<Checked>) -> Result<usize, DriverError> {
        let found = self.plans.iter().position(|bound| Arc::ptr_eq(&bound.plan, plan));
        found.ok_or_else(|| DriverError::Invalid("the plan is none of those that were put on the device".into()))
    }

    /// Runs every launch. The first time, and always if `launch_by_launch`, it waits for each, so that an error names its
    /// place; otherwise all are one graph, and it returns when that is submitted.
    pub fn replay(&mut self, plan: &Arc<Checked>, launch_by_launch: bool) -> Result<(), ReplayError> {
        let bound = self.bound(plan)?;
        let driver = self.modules.driver.clone();
        if launch_by_launch || !self.plans[bound].replayed {
            for at in 0..plan.launches.len() {
                self.run(plan, at)?;
            }
            self.plans[bound].replayed = true;
            return Ok(());
        }
        let graph = match self.plans[bound].graph {
            Some(graph) => graph,
            None => {
                driver.begin_capture(self.stream)?;
                let submitted = self.plans[bound].launches.iter().flatten().try_for_each(|step| self.submit(step));
                let graph = driver.end_capture(self.stream)?;
                submitted?;
                *self.plans[bound].graph.insert(graph)
            }
        };
        self.graphed = true;
        driver.launch_graph(graph, self.stream).map_err(|source| ReplayError::Graph { source })
    }

    /// Runs the launch that stands `at` that position, and waits for it.
    pub fn run(&mut self, plan: &Arc<Checked>, at: usize) -> Result<(), ReplayError> {
        let bound = self.bound(plan)?;
        self.graphed = false;
        let steps = self.plans[bound].launches[at].iter();
        steps
            .map(|step| self.submit(step))
            .chain([self.modules.driver.synchronize(self.stream)])
            .collect::<Result<(), _>>()
            .map_err(|source| failed(&plan.launches[at], at, source))
    }

    fn submit(&self, step: &Step) -> Result<(), DriverError> {
        match step {
            Step::Copy { to, from, bytes } => self.modules.driver.copy(*to, *from, *bytes, self.stream),
            Step::Kernel { function, shape, parameters } => {
                self.modules.driver.launch(*function, *shape, parameters, self.stream)
            }
        }
    }

    /// Waits until the device has done everything.
    pub fn synchronize(&self) -> Result<(), DriverError> {
        self.modules.driver.synchronize(self.stream)
    }

    /// The numbers of a buffer.
    pub fn read(&self, buffer: &Buffer) -> Result<Vec<f64>, ReplayError> {
        let mut bytes = vec![0; buffer.bytes()];
        if !bytes.is_empty() {
            let done = self.modules.driver.download(self.address(buffer), &mut bytes, self.stream);
            // A GPU tells here what went wrong in launches that were submitted before.
            done.map_err(|source| if self.graphed { ReplayError::Graph { source } } else { source.into() })?;
        }
        Ok(buffer.dtype.decode(&bytes))
    }

    /// Writes a buffer whole, each number rounded once.
    pub fn write(&mut self, buffer: &Buffer, numbers: impl Iterator<Item = f64>) -> Result<(), DriverError> {
        self.upload(buffer, &buffer.dtype.encode(numbers))
    }

    /// What is uploaded for a step from now on lies beside its place until it [lands](Replay::land), if `on`: its bytes come while
    /// what was submitted before is computed, and that still reads its own.
    pub fn ahead(&mut self, on: bool) {
        self.ahead = on;
    }

    /// What was uploaded ahead takes its place.
    pub fn land(&mut self) -> Result<(), DriverError> {
        let driver = self.modules.driver.clone();
        self.uploads.iter_mut().try_for_each(|uploads| uploads.land(&*driver))
    }

    /// Writes a buffer whole, as stored. What is uploaded for every step is on its way when this returns.
    pub fn upload(&mut self, buffer: &Buffer, bytes: &[u8]) -> Result<(), DriverError> {
        if bytes.len() != buffer.bytes() {
            let (got, wanted) = (bytes.len(), buffer.bytes());
            return Err(DriverError::Invalid(format!("{got} bytes for a buffer of {wanted}")));
        }
        let (driver, to, stream) = (self.modules.driver.clone(), self.address(buffer), self.stream);
        match &mut self.uploads {
            _ if bytes.is_empty() => Ok(()),
            Some(uploads) if buffer.slab == Slab::Inputs && self.ahead => {
                uploads.upload_ahead(&*driver, to, buffer.offset, bytes)
            }
            Some(uploads) if buffer.slab == Slab::Inputs => uploads.upload(&*driver, to, buffer.offset, bytes),
            _ => driver.upload(to, bytes, stream),
        }
    }

    /// Takes so many bytes, at least 1, for rows that stay on the device.
    pub fn reserve_table(&mut self, bytes: u64) -> Result<(), DriverError> {
        self.table = Some((self.allocate(bytes)?, bytes));
        Ok(())
    }

    /// Writes a part of these rows, from byte `at` on.
    pub fn write_table(&mut self, at: u64, bytes: &[u8]) -> Result<(), DriverError> {
        let to = self.in_table(at, bytes.len() as u64)?;
        self.modules.driver.upload(to, bytes, self.stream)
    }

    /// Fills a buffer with rows of the table, of which it holds as many as are named.
    pub fn gather(&mut self, buffer: &Buffer, rows: &[u32]) -> Result<(), DriverError> {
        let (to, each) = (self.address(buffer), buffer.bytes() as u64 / rows.len().max(1) as u64);
        let row = |&row: &u32| self.in_table(u64::from(row) * each, each);
        let rows: Vec<Address> = rows.iter().map(row).collect::<Result<_, _>>()?;
        let driver = self.modules.driver.clone();
        match &mut self.uploads {
            Some(uploads) if self.ahead => uploads.gather_ahead(&*driver, to, buffer.offset, &rows, each),
            _ => {
                let places = (0..).map(|row| to.offset(row * each));
                rows.iter().zip(places).try_for_each(|(&from, to)| driver.copy(to, from, each, self.stream))
            }
        }
    }

    /// Where so many bytes of the table lie.
    fn in_table(&self, at: u64, bytes: u64) -> Result<Address, DriverError> {
        let inside = self.table.filter(|&(_, held)| at.checked_add(bytes).is_some_and(|end| end <= held));
        let beyond = || DriverError::Invalid(format!("the table on the device has no {bytes} bytes at byte {at}"));
        inside.map(|(table, _)| table.offset(at)).ok_or_else(beyond)
    }

    /// Fills a buffer with one byte.
    pub fn fill(&mut self, buffer: &Buffer, value: u8) -> Result<(), DriverError> {
        let bytes = buffer.bytes() as u64;
        if bytes == 0 { Ok(()) } else { self.modules.driver.fill(self.address(buffer), value, bytes, self.stream) }
    }

    /// Copies a slab aside, on the device.
    pub fn keep(&mut self, slab: Slab) -> Result<(), DriverError> {
        let Some(&(from, bytes)) = self.slabs.get(&slab) else { return Ok(()) };
        let to = match self.kept.get(&slab) {
            Some(&to) => to,
            None => {
                let to = self.allocate(bytes)?;
                *self.kept.entry(slab).or_insert(to)
            }
        };
        self.modules.driver.copy(to, from, bytes, self.stream)
    }

    /// Puts back what [`Replay::keep`] copied.
    pub fn restore(&mut self, slab: Slab) -> Result<(), DriverError> {
        let (Some(&(to, bytes)), Some(&from)) = (self.slabs.get(&slab), self.kept.get(&slab)) else { return Ok(()) };
        self.modules.driver.copy(to, from, bytes, self.stream)
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        // What a device that is lost says to this does not matter any more.
        let driver = &self.modules.driver;
        let graphs = self.plans.iter().filter_map(|bound| bound.graph).map(Resource::Graph);
        let _ = driver.synchronize(self.stream);
        let uploads = self.uploads.iter().flat_map(Uploads::resources);
        graphs
            .chain(uploads)
            .chain([Resource::Stream(self.stream)])
            .for_each(|resource| drop(driver.destroy(resource)));
        self.allocated.iter().for_each(|&at| drop(driver.free(at)));
    }
}

fn failed(launch: &Launch, at: usize, source: DriverError) -> ReplayError {
    let (scope, op, kernel) = (launch.scope.clone(), launch.op.name(), launch.kernel);
    ReplayError::Launch { at, scope, op, kernel, source }
}
