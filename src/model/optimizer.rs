//! The optimizer's part of a step: finite check and AdamW by groups.

use super::config::Config;
use crate::base::{Real, Spec};
use crate::ops::adamw::AdamW;
use crate::ops::finite::Finite;
use crate::program::record::{Init, Program, RecordError, Role, State};
use crate::program::{Recorder, Value};

/// Parameters that share AdamW's constants and its scalars, the input `adamw.<name>` \[3\]: learning rate,
/// 1 - beta1^t, 1 - beta2^t.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Positions in [`Program::states`].
    pub parameters: Vec<usize>,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

impl Group {
    /// The specification's one group: every parameter that learns.
    pub fn all(program: &Program, config: &Config) -> Self {
        Self {
            name: "all".into(),
            parameters: trainable(program).collect(),
            weight_decay: config.weight_decay,
            beta1: 0.9,
            beta2: 0.999,
            eps: config.adam_eps,
        }
    }
}

/// Positions of the states that learn.
pub fn trainable(program: &Program) -> impl Iterator<Item = usize> + '_ {
    let learns = |&(_, state): &(usize, &State)| state.role == Role::Parameter { trainable: true };
    program.states.iter().enumerate().filter(learns).map(|(at, _)| at)
}

/// Records, behind [`Recorder::differentiate`], the check of all gradients and of the outputs `loss.*` (output `finite`
/// \[2\]: sum of squares of the gradients, how many numbers are not finite) and AdamW for each group, which updates
/// nothing unless all are finite. A parameter that the loss does not reach has a gradient
/// that is known to be zero: its moments decay and its weight decays all the same.
///
/// Declares the moments `<parameter>.m` and `<parameter>.v`, in the order of the groups, whatever has a gradient.
pub fn optimize(r: &mut Recorder, groups: &[Group]) -> Result<(), RecordError> {
    let gradients = r.program().gradients.clone();
    let losses = r.program().outputs.iter().filter(|(name, _)| name.starts_with("loss.")).map(|&(_, loss)| loss);
    let losses: Vec<Value> = losses.collect();
    let every: Vec<Value> = gradients.iter().map(|&(_, gradient)| gradient).chain(losses.iter().copied()).collect();
    let finite = r.scope("optimizer", |r| r.one(Finite { losses: losses.len() }, &every))?;
    r.output("finite", finite);
    for group in groups {
        let scalars = r.input(format!("adamw.{}", group.name), Spec::exact([3]));
        let (mut with, mut without) = (vec![scalars, finite], vec![scalars, finite]);
        for &at in &group.parameters {
            let state = r.program().states[at].clone();
            let spec = r.spec(state.value);
            let [m, v] = ["m", "v"].map(|moment| {
                r.state(&format!("{}.{moment}", state.name), spec, Role::Moment, Init::Constant(0.0), state.layout)
            });
            match gradients.iter().find(|&&(parameter, _)| parameter == at) {
                Some(&(_, gradient)) => with.extend([gradient, state.value, m, v]),
                None => without.extend([state.value, m, v]),
            }
        }
        for (gradient, inputs) in [(true, with), (false, without)] {
            if inputs.len() > 2 {
                let op = AdamW {
                    beta1: Real(group.beta1),
                    beta2: Real(group.beta2),
                    eps: Real(group.eps),
                    weight_decay: Real(group.weight_decay),
                    gradient,
                };
                r.scope(format!("optimizer.{}", group.name), |r| r.node(op, &inputs))?;
            }
        }
    }
    Ok(())
}
