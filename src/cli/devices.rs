//! `g2d devices`: what this machine offers.

use clap::Args;

use crate::base::counted;
use crate::doctor::devices::{Backend, Processor, backends, processor};
use crate::error::Error;
use crate::kernels::shaders::{Form, files};
use crate::wgpu::Adapter;
use crate::wgpu::gpu::{Features, Limits};

/// Prints what this machine offers, what runs by default, and why.
#[derive(Args)]
#[command(after_help = "Examples:\n  g2d devices\n  g2d devices --json")]
pub struct Devices {
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

impl Devices {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let (processor, backends) = (processor(), backends());
        if self.json {
            println!("{}", serde_json::json!({ "processor": processor, "backends": backends }));
        } else {
            print!("{}", text(&processor, &backends));
        }
        Ok(())
    }
}

fn text(processor: &Processor, backends: &[Backend]) -> String {
    let gib = |bytes: Option<u64>| match bytes {
        Some(bytes) => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
        None => "unknown".into(),
    };
    let mut text = format!(
        "processor     {} ({}), {}{}\ninstructions  {}; loops use {}\nmemory        {}, {} available\n\n",
        processor.model.as_deref().unwrap_or("unknown"),
        processor.architecture,
        counted(processor.threads, "thread"),
        processor.cores.map_or(String::new(), |cores| format!(" on {}", counted(cores, "core"))),
        processor.instructions.join(" "),
        processor.vectors,
        gib(processor.memory),
        gib(processor.memory_available)
    );
    for backend in backends {
        let state = if backend.default { "default" } else { "" };
        text += &format!("{:13} {state:8} {}\n", backend.name, backend.why);
        for line in backend.adapter.iter().flat_map(lines) {
            text += &format!("{:22} {line}\n", "");
        }
    }
    text
}

/// Limits, features and what to install for more.
fn lines(adapter: &Adapter) -> Vec<String> {
    let Limits { buffer, binding, storage_buffers, workgroup_memory, workgroup_threads, groups } = adapter.limits;
    let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    let limits = format!(
        "limits: buffers of {}, {} of each bound, {storage_buffers} storage buffers; workgroups of {workgroup_threads} threads \
         and {workgroup_memory} bytes, {groups} along a side",
        mib(buffer),
        mib(binding),
    );
    let Features { f16, subgroups, cooperative_matrices } = &adapter.features;
    let features = [
        f16.then(|| "f16".to_owned()),
        subgroups.map(|[fewest, most]| format!("subgroups of {fewest} to {most} threads")),
        (!cooperative_matrices.is_empty()).then(|| format!("cooperative matrices {}", cooperative_matrices.join(", "))),
    ];
    let features: Vec<String> = features.into_iter().flatten().collect();
    let features = if features.is_empty() { "none that not every adapter has".to_owned() } else { features.join(", ") };
    let more = adapter.more.iter().map(|what| format!("for more: {what}"));
    [limits, format!("features: {features}"), kernels(adapter)].into_iter().chain(more).collect()
}

/// Which kernels plans for the adapter take because of what it offers.
fn kernels(adapter: &Adapter) -> String {
    let forms = [(Form::Subgroups, "sums by subgroups"), (Form::Cooperative, "products by cooperative matrices")];
    let of = |(form, what)| match adapter.offered.lacks_for(form) {
        None => format!("{what} in {}", files(form).join(", ")),
        Some(why) => format!("no {what}: {why}"),
    };
    format!("kernels: {}", forms.map(of).join("; "))
}
