//! What a session computes, before anything is allocated: programs, groups of parameters, layout, plans.

use std::sync::Arc;

use super::device::Capacity;
use super::groups;
use super::reader::Reader;
use super::session::Options;
use crate::error::Error;
use crate::model::batch::{Reports, Shapes};
use crate::model::g2d::{self, Phase};
use crate::model::interference;
use crate::model::optimizer::{self, Group};
use crate::program::{Checked, Program, StateLayout, plan};

/// AdamW's decay rates of the moments, as the specification has them.
const BETAS: (f64, f64) = (0.9, 0.999);

/// See the [module](self).
pub(super) struct Planned {
    /// The whole step on tokens: every state of the model is in it.
    pub program: Program,
    /// Groups of parameters and their factors of the learning rate.
    pub groups: Vec<(Group, f64)>,
    /// Where every state lies.
    pub states: StateLayout,
    /// Of a whole step, one of the warm-up, evaluation, interference and a report's states, where they are asked for, and those
    /// of [`Reader::programs`].
    pub plans: Vec<Arc<Checked>>,
}

impl Planned {
    /// For a batch of another size than that of the options, perhaps, on a device of such capacity.
    pub fn of(options: &Options, batch: usize, capacity: Capacity) -> Result<Self, Error> {
        let shapes = Shapes { batch, ..options.shapes() };
        let (program, groups) = record(options, &shapes, Phase::Full, Reports::Tokens)?;
        let reports = if options.text_cache { Reports::States } else { Reports::Tokens };
        let full = match reports {
            Reports::Tokens => program.clone(),
            Reports::States => record(options, &shapes, Phase::Full, reports)?.0,
        };
        let (warmup, _) = record(options, &shapes, Phase::Warmup, reports)?;
        let states = StateLayout::in_pieces(&program, options.precision, capacity.piece);
        let kernels = options.device.kernels(options.kernels, capacity);
        let planned = |program| Ok::<_, Error>(Arc::new(plan(program, &states, kernels)?));
        let evaluate = g2d::record_validate(&options.config, &shapes)?.finish();
        let mut plans = vec![planned(full)?, planned(warmup)?, planned(evaluate)?];
        if options.interference {
            plans.push(planned(interference::record_interference(&options.config, &shapes)?.finish())?);
        }
        if options.text_cache {
            let alone = Shapes { batch: 1, ..shapes };
            plans.push(planned(g2d::record_text_states(&options.config, &alone)?.finish())?);
        }
        for read in Reader::programs(&options.config, &shapes, true)? {
            plans.push(planned(read)?);
        }
        Ok(Self { program, groups, states, plans })
    }
}

/// The recorded step with its optimizer, and the groups with their factors of the learning rate.
fn record(
    options: &Options,
    shapes: &Shapes,
    phase: Phase,
    reports: Reports,
) -> Result<(Program, Vec<(Group, f64)>), Error> {
    let mut recorder = g2d::record_step(&options.config, shapes, phase, reports)?;
    let trainable: Vec<usize> = optimizer::trainable(recorder.program()).collect();
    let names: Vec<String> = trainable.iter().map(|&at| recorder.program().states[at].name.clone()).collect();
    let resolved = groups::resolve(&options.groups, &names)?;
    let groups: Vec<(Group, f64)> = (options.groups.iter().zip(resolved))
        .map(|(rule, members)| {
            let group = Group {
                name: rule.name.clone(),
                parameters: members.into_iter().map(|member| trainable[member]).collect(),
                weight_decay: rule.weight_decay.unwrap_or(options.config.weight_decay),
                beta1: BETAS.0,
                beta2: BETAS.1,
                eps: options.config.adam_eps,
            };
            (group, rule.learning_rate_factor)
        })
        .collect();
    let only: Vec<Group> = groups.iter().map(|(group, _)| group.clone()).collect();
    optimizer::optimize(&mut recorder, &only)?;
    Ok((recorder.finish(), groups))
}
