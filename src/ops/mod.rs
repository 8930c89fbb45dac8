//! The vocabulary: one folder per op, one line per op in the registry below.
//!
//! How their pages are to be read:
//!
//! | | |
//! |---|---|
//! | x \[B,H,W,C\] | a value and its extents; the last runs fastest. Without extents it has those of the row where it was named, a gradient those of its value |
//! | x? | there only if the op's settings say so; where it is absent, those behind it move up |
//! | B | images of a batch; with offsets, its texts |
//! | rows, offsets \[B+1\] | texts packed without padding, a row a token: text b has the rows offsets\[b\] to offsets\[b+1\], exclusive. A value has room for more rows; what lies from offsets\[B\] on is neither read nor written |
//! | dy, d_x | the gradient of the loss by y, by x; seed \[1\] that by the op's own loss |
//! | may overwrite | the plan may give the output the memory of that input, if nobody reads it later |
//! | kind | [`Activation`](crate::base::Kind::Activation): numbers that `mixed` stores as bf16; [`Exact`](crate::base::Kind::Exact): numbers that never are; [`Index`](crate::base::Kind::Index): 32-bit integers; [`Bytes`](crate::base::Kind::Bytes): 8-bit ones |
//! | σ, Φ, φ, ln or log | logistic function 1 / (1 + exp(−x)), distribution and density of the standard normal, natural logarithm |

use crate::base::{Number, Rng, Spec};
use crate::kernels::Brought;
use crate::program::{
    Backward, Candidate, Case, DeviceIo, Foreign, HostIo, Misfit, Operation, Outputs, Recorder, ShaderIo, Size, Value,
};

macro_rules! registry {
    ($($folder:ident: $op:ident,)*) => {
        $(pub mod $folder;)*

        /// Any op: those of this crate, a closed list, and whatever another crate defines, by its type and parameters; so that a
        /// plan can be printed, compared and stored.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Op {
            $(
                #[doc = concat!("See [`", stringify!($folder), "`].")]
                $op($folder::$op),
            )*
            /// Defined outside this crate; see [`Op::foreign`].
            Foreign(Foreign),
        }

        $(
            impl From<$folder::$op> for Op {
                fn from(op: $folder::$op) -> Self {
                    Self::$op(op)
                }
            }
        )*

        /// Name of every op's folder and the number of its kinds of test cases, in the order of the registry.
        pub const REGISTRY: &[(&str, usize)] = &[$((stringify!($folder), <$folder::$op as Operation>::VARIANTS),)*];

        /// See [`Operation::LARGE`]; in the order of [`REGISTRY`].
        pub const LARGE: &[&[(usize, Size)]] = &[$(<$folder::$op as Operation>::LARGE,)*];

        /// A test case for one kind of case of the op that stands at `position` in [`REGISTRY`].
        pub fn case(position: usize, variant: usize, size: &Size, rng: &mut Rng) -> Case<Op> {
            let makers: &[fn(usize, &Size, &mut Rng) -> Case<Op>] =
                &[$(|variant, size, rng| <$folder::$op as Operation>::case(variant, size, rng).map(Op::from),)*];
            makers[position](variant, size, rng)
        }

        impl Op {
            /// An op that is defined outside this crate, by the same contract. Where it is recorded often,
            /// `impl From<Mine> for Op` lets [`Recorder::one`] take it as it is.
            pub fn foreign<O: Operation>(op: O) -> Self {
                Self::Foreign(Foreign::of(op))
            }

            /// See [`Operation::PTX`]; none for an op of this crate, whose kernels ship.
            pub fn ptx(&self) -> &'static [Brought] {
                if let Self::Foreign(op) = self { op.op().ptx() } else { &[] }
            }

            /// See [`Operation::WGSL`]; none for an op of this crate.
            pub fn shaders(&self) -> &'static [Brought] {
                if let Self::Foreign(op) = self { op.op().shaders() } else { &[] }
            }

            /// `op` or `op.pass`.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$op(op) => op.name(),)*
                    Self::Foreign(op) => op.op().name(),
                }
            }

            /// See [`Operation::infer`].
            pub fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
                match self {
                    $(Self::$op(op) => op.infer(inputs),)*
                    Self::Foreign(op) => op.op().infer(inputs),
                }
            }

            /// See [`Operation::vjp`].
            pub fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
                match self {
                    $(Self::$op(op) => op.vjp(r, at),)*
                    Self::Foreign(op) => op.op().vjp(r, at),
                }
            }

            /// See [`Operation::flops`].
            pub fn flops(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
                match self {
                    $(Self::$op(op) => op.flops(inputs, outputs),)*
                    Self::Foreign(op) => op.op().flops(inputs, outputs),
                }
            }

            /// See [`Operation::operands`].
            pub fn operands(&self) -> &'static [usize] {
                match self {
                    $(Self::$op(op) => op.operands(),)*
                    Self::Foreign(op) => op.op().operands(),
                }
            }

            /// See [`Operation::reference`].
            pub fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
                match self {
                    $(Self::$op(op) => op.reference(io),)*
                    Self::Foreign(op) => op.reference(io),
                }
            }

            /// See [`Operation::cpu`].
            pub fn cpu(&self, inputs: &[Spec]) -> Vec<Candidate> {
                match self {
                    $(Self::$op(op) => op.cpu(inputs),)*
                    Self::Foreign(op) => op.op().cpu(inputs),
                }
            }

            /// See [`Operation::run_cpu`].
            pub fn run_cpu<N: Number>(&self, kernel: &'static str, io: &mut HostIo<'_, N>) {
                match self {
                    $(Self::$op(op) => op.run_cpu(kernel, io),)*
                    Self::Foreign(op) => op.run_cpu(kernel, io),
                }
            }

            /// See [`Operation::cuda`].
            pub fn cuda(&self) -> &'static [&'static str] {
                match self {
                    $(Self::$op(op) => op.cuda(),)*
                    Self::Foreign(op) => op.op().cuda(),
                }
            }

            /// See [`Operation::run_cuda`].
            pub fn run_cuda(&self, kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
                match self {
                    $(Self::$op(op) => op.run_cuda(kernel, io),)*
                    Self::Foreign(op) => op.op().run_cuda(kernel, io),
                }
            }

            /// See [`Operation::wgsl`].
            pub fn wgsl(&self) -> &'static [&'static str] {
                match self {
                    $(Self::$op(op) => op.wgsl(),)*
                    Self::Foreign(op) => op.op().wgsl(),
                }
            }

            /// See [`Operation::run_wgsl`]; what no shader takes is refused before. Kernels named after a form of shaders ask for
            /// the shaders of that form.
            pub fn run_wgsl(&self, kernel: &'static str, io: &mut ShaderIo) -> Result<(), Misfit> {
                io.check()?;
                match self {
                    $(Self::$op(op) => op.run_wgsl(kernel, io),)*
                    Self::Foreign(op) => op.op().run_wgsl(kernel, io),
                }?;
                io.in_form(kernel);
                Ok(())
            }
        }
    };
}

registry! {
    accumulate: Accumulate,
    adamw: AdamW,
    attention: Attention,
    attention_pool: AttentionPool,
    batch_norm: BatchNorm,
    body_mask: BodyMask,
    clip_loss: ClipLoss,
    conv2d: Conv2d,
    convert: Convert,
    cross_entropy: CrossEntropy,
    dice_loss: DiceLoss,
    elementwise_loss: ElementwiseLoss,
    embed: Embed,
    finite: Finite,
    gelu: Gelu,
    ingest: Ingest,
    layer_norm: LayerNorm,
    leaky_relu: LeakyRelu,
    linear: Linear,
    mask_threshold: MaskThreshold,
    max_pool: MaxPool,
    pseudo_mask: PseudoMask,
    rows: Rows,
    segmentation_loss: SegmentationLoss,
    spatial_mean: SpatialMean,
}
