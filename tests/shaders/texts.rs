//! Every shader is parsed and validated by the naga that wgpu carries, and what it declares is compared with what the ops
//! ask for: uniform, bindings, workgroups; all within what every adapter has.

use std::collections::{BTreeMap, BTreeSet};

use g2d::base::DType;
use g2d::kernels::shaders::{self, Form, SHADERS, Shader};
use g2d::ops::{LARGE, REGISTRY};
use g2d::program::device::ALIGNMENT;
use g2d::program::{MOST_GROUPS, Precision, ShaderCall, ShaderIo, Size};
use g2d::wgpu::gpu::{STORAGE_BUFFERS, WORKGROUP_MEMORY, WORKGROUP_THREADS};
use wgpu::naga::front::wgsl;
use wgpu::naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use wgpu::naga::{AddressSpace, Module, StorageAccess};

use super::common::cases;

/// Parses and validates on an adapter that offers no more than what the form needs; a fault is shown with its place.
fn validated(text: &str, form: Form) -> Result<(Module, ModuleInfo), String> {
    let offered = match form {
        Form::Plain => Capabilities::empty(),
        Form::Subgroups => Capabilities::SUBGROUP,
        Form::Cooperative => Capabilities::SUBGROUP | Capabilities::COOPERATIVE_MATRIX,
    };
    let module = wgsl::parse_str(text).map_err(|error| error.emit_to_string(text))?;
    let info = Validator::new(ValidationFlags::all(), offered).validate(&module);
    let info = info.map_err(|error| error.emit_to_string(text))?;
    Ok((module, info))
}

/// Whether a call gives its entry what it declares and uses.
fn fits((text, form): (&str, Form), entry: &str, call: &ShaderCall) -> Result<(), String> {
    let (module, info) = validated(text, form)?;
    let found = module.entry_points.iter().position(|point| point.name == entry);
    let at = found.ok_or_else(|| format!("there is no entry {entry}"))?;
    let (mut storage, mut uniform, mut shared) = (Vec::new(), 0, 0);
    for (handle, variable) in module.global_variables.iter() {
        if info.get_entry_point(at)[handle].is_empty() {
            continue;
        }
        let size = module.types[variable.ty].inner.size(module.to_ctx());
        let name = variable.name.as_deref().unwrap_or_default();
        let binding = variable.binding.map(|binding| (binding.group, binding.binding));
        match (variable.space, binding) {
            (AddressSpace::Uniform, Some((0, 0))) => uniform = size,
            (AddressSpace::Storage { access }, Some((0, binding))) if access.contains(StorageAccess::STORE) => {
                storage.push(binding);
            }
            (AddressSpace::Storage { .. }, Some((0, _))) => return Err(format!("{name} is not declared read_write")),
            (AddressSpace::WorkGroup, None) => shared += size,
            (space, binding) => return Err(format!("{name} lies in {space:?} at {binding:?}")),
        }
    }
    storage.sort_unstable();
    let wanted: Vec<u32> = (1..=call.bindings.len() as u32).collect();
    let point = &module.entry_points[at];
    let checks = [
        (storage == wanted, format!("it uses bindings {storage:?}, and is given {wanted:?}")),
        (storage.len() <= STORAGE_BUFFERS as usize, format!("{} storage buffers", storage.len())),
        (uniform as usize == call.parameters.len(), format!("{} bytes for {uniform}", call.parameters.len())),
        (shared <= WORKGROUP_MEMORY, format!("{shared} bytes of workgroup memory")),
        (
            point.workgroup_size.iter().product::<u32>() <= WORKGROUP_THREADS,
            format!("{:?} threads", point.workgroup_size),
        ),
        (call.groups.iter().all(|groups| (1..=MOST_GROUPS).contains(groups)), format!("{:?} workgroups", call.groups)),
        (call.bindings.iter().all(|binding| binding.bytes > 0), "an empty binding".into()),
        (call.bindings.iter().all(|binding| binding.address % ALIGNMENT == 0), "a binding that is not aligned".into()),
    ];
    checks.into_iter().try_for_each(|(holds, what)| if holds { Ok(()) } else { Err(what) })
}

/// One call of each entry and form that the cases of the registry ask for.
fn calls() -> BTreeMap<String, ShaderCall> {
    let sizes = [cases::COMFORTABLE, Size { batch: 1, side: 1, channels: 1, extra: 1 }];
    let mut calls = BTreeMap::new();
    for (position, variant) in cases::registry() {
        let large = LARGE[position].iter().filter(|&&(of, _)| of == variant).map(|&(_, size)| size);
        for size in sizes.into_iter().chain(large) {
            let case = cases::case(position, variant, &size, 1);
            let specs = cases::specs(&case);
            let outputs = case.op.infer(&specs).expect("a case fits its op").specs;
            let stored = |specs: &[g2d::base::Spec]| -> Vec<(g2d::base::Spec, DType)> {
                specs.iter().map(|&spec| (spec, Precision::Exact.dtype(spec.kind))).collect()
            };
            for kernel in case.op.wgsl() {
                let mut io = ShaderIo::unplaced(&stored(&specs), &stored(&outputs));
                if case.op.run_wgsl(kernel, &mut io).is_err() {
                    continue;
                }
                for call in io.finish().calls {
                    let form =
                        format!("{} with {} buffers, for {}", call.symbol, call.bindings.len(), REGISTRY[position].0);
                    calls.insert(form, call);
                }
            }
        }
    }
    calls
}

#[test]
fn every_shader_is_valid() {
    for shader in SHADERS {
        if let Err(what) = validated(shader.text, shader.form) {
            panic!("{}, from kernels/{}.wgsl: {what}", shader.name, shader.file);
        }
        // Buffers are bound with guards behind them where shaders are tried.
        assert!(!shader.text.contains("arrayLength"), "kernels/{}.wgsl asks how long a buffer is", shader.name);
    }
}

/// How many instructions of SPIR-V have that code.
#[cfg(target_os = "linux")]
fn instructions(shader: &Shader, code: u32) -> usize {
    use wgpu::naga::back::spv;
    let (module, info) = validated(shader.text, shader.form).expect("it is valid");
    let options = spv::Options { lang_version: (1, 6), ..spv::Options::default() };
    let words = spv::write_vec(&module, &info, &options, None).expect("it can be written");
    let (mut at, mut found) = (5, 0);
    while at < words.len() {
        found += usize::from(words[at] & 0xffff == code);
        at += (words[at] >> 16).max(1) as usize;
    }
    found
}

/// Drivers are few that have cooperative matrices; what they would be given is looked at everywhere.
#[cfg(target_os = "linux")]
#[test]
fn cooperative_products_reach_the_driver_as_such() {
    const MULTIPLY_ADD: u32 = 4459; // OpCooperativeMatrixMulAddKHR
    let (cooperative, others): (Vec<_>, Vec<_>) = SHADERS.iter().partition(|shader| shader.form == Form::Cooperative);
    for shader in cooperative {
        assert_eq!(instructions(shader, MULTIPLY_ADD), 16, "{}", shader.name);
        let file = others.iter().find(|other| other.form == Form::Plain && other.file == shader.file);
        assert_eq!(file.map(|plain| instructions(plain, MULTIPLY_ADD)), Some(0), "{}", shader.file);
    }
}

/// What DirectX is given can be looked at without it: it has no cooperative matrices, and everything else.
#[cfg(target_os = "linux")]
#[test]
fn every_entry_can_be_written_in_hlsl() {
    use wgpu::naga::ShaderStage;
    use wgpu::naga::back::hlsl::{Options, PipelineOptions, ShaderModel, Writer};
    let mut written = 0;
    for shader in SHADERS {
        let shader_model = match shader.form {
            Form::Plain => ShaderModel::V5_1,
            Form::Subgroups => ShaderModel::V6_0,
            Form::Cooperative => continue,
        };
        let options = Options { shader_model, ..Options::default() };
        let (module, info) = validated(shader.text, shader.form).expect("it is valid");
        for entry in shader.entries() {
            let one = PipelineOptions { entry_point: Some((ShaderStage::Compute, entry.to_owned())) };
            let mut text = String::new();
            let done = Writer::new(&mut text, &options, &one).write(&module, &info, None);
            let names = done.unwrap_or_else(|why| panic!("{}.{entry}: {why}", shader.name)).entry_point_names;
            for name in names {
                let name = name.unwrap_or_else(|why| panic!("{}.{entry}: {why}", shader.name));
                assert!(text.contains(&format!("void {name}(")), "{}.{entry}: {text}", shader.name);
                written += 1;
            }
        }
    }
    assert!(written >= SHADERS.len(), "{written} entries");
}

#[test]
fn calls_give_entries_what_they_declare() {
    let (calls, mut faults) = (calls(), Vec::new());
    let called: BTreeSet<&str> = calls.values().map(|call| call.symbol).collect();
    // Nothing but `g2d bench kernels` asks for the ceilings.
    for shader in SHADERS.iter().filter(|shader| shader.name != "ceilings") {
        let symbols = shader.entries().map(|entry| format!("{}.{entry}", shader.name));
        faults.extend(
            symbols.filter(|symbol| !called.contains(&**symbol)).map(|symbol| format!("no case asks for {symbol}")),
        );
    }
    for (form, call) in &calls {
        let found = shaders::find(call.symbol).ok_or_else(|| "it does not ship".to_owned());
        if let Err(what) = found.and_then(|(shader, entry)| fits((shader.text, shader.form), entry, call)) {
            faults.push(format!("{form}: {what}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn calls_and_shaders_that_do_not_fit_are_found() {
    let calls = calls();
    let call = calls.values().find(|call| call.symbol == "gelu.fwd").expect("gelu has a kernel");
    let (shader, entry) = shaders::find(call.symbol).expect("it ships");
    fits((shader.text, shader.form), entry, call).expect("the shader that ships fits");
    for (from, to) in [
        ("storage, read_write> x", "storage, read> x"),
        ("batch: u32", "batch: u32, more: u32"),
        ("@workgroup_size(WIDTH)\nfn fwd", "@workgroup_size(2 * WIDTH)\nfn fwd"),
        ("out[at] = x[at]", "out[at] = 1.0"),
        ("out[at] = x[at]", "out[at] = unknown"),
        ("@binding(3)", "@binding(4)"),
    ] {
        assert!(shader.text.contains(from), "{from}");
        let text = shader.text.replace(from, to).replace("1.0 * distribution(x[at])", "1.0");
        assert!(fits((&text, Form::Plain), entry, call).is_err(), "{from} replaced by {to}");
    }
    let mut fewer = call.clone();
    fewer.bindings.pop();
    let longer = ShaderCall { parameters: [&call.parameters[..], &[0; 4]].concat(), ..call.clone() };
    let wide = ShaderCall { groups: [65536, 1, 1], ..call.clone() };
    for call in [fewer, longer, wide] {
        assert!(fits((shader.text, shader.form), entry, &call).is_err(), "{call:?}");
    }
}
