//! The reverse pass.

use std::collections::HashMap;

use super::op::Backward;
use super::record::{RecordError, Recorder, Role, Value};
use crate::base::Real;
use crate::ops::accumulate::Accumulate;

impl Recorder {
    /// Records the gradient of `loss` (shape \[1\]) by every trainable parameter that reaches it, and keeps the list in
    /// [`Program::gradients`](super::Program), in the order in which gradients complete.
    ///
    /// Forward reach from the trainable parameters and backward reach from the loss meet in the active nodes; those
    /// are walked in reverse. Each op returns contributions; adding them up happens here and nowhere else.
    pub fn differentiate(&mut self, loss: Value) -> Result<(), RecordError> {
        let parameters: Vec<(usize, Value)> = (self.program.states.iter().enumerate())
            .filter(|(_, state)| state.role == Role::Parameter { trainable: true })
            .map(|(at, state)| (at, state.value))
            .collect();
        let wrt: Vec<Value> = parameters.iter().map(|&(_, value)| value).collect();
        let seed = self.one(Accumulate::Fill { value: Real(1.0) }, &[])?;
        let gradients = self.reverse(&[(loss, seed)], &wrt)?;
        let mut found: Vec<(usize, Value)> =
            parameters.iter().zip(gradients).filter_map(|(&(at, _), gradient)| Some((at, gradient?))).collect();
        found.sort_by_key(|&(_, gradient)| gradient);
        self.program.gradients = found;
        Ok(())
    }

    /// The gradient by each of `wrt` of the sum of `seeds`, each a value and the gradient by it. `None` where a value
    /// reaches none of them, or only through ops that are by definition not differentiable.
    pub fn reverse(&mut self, seeds: &[(Value, Value)], wrt: &[Value]) -> Result<Vec<Option<Value>>, RecordError> {
        let active = self.active(wrt);
        let mut gradients: HashMap<Value, Value> = HashMap::new();
        for &(value, seed) in seeds {
            self.contribute(&mut gradients, value, seed)?;
        }
        for at in (0..self.program.nodes.len()).rev() {
            let node = self.program.nodes[at].clone();
            let wanted: Vec<bool> = node.inputs.iter().map(|value| active[value.index()]).collect();
            let seeds: Vec<Option<Value>> = node.outputs.iter().map(|value| gradients.get(value).copied()).collect();
            if !wanted.contains(&true) || seeds.iter().all(Option::is_none) {
                continue;
            }
            let fail = |misfit| RecordError { scope: format!("{}'", node.scope), op: format!("{:?}", node.op), misfit };
            let context = Backward { inputs: &node.inputs, outputs: &node.outputs, seeds: &seeds, wanted: &wanted };
            let scopes = std::mem::replace(&mut self.scopes, vec![format!("{}'", node.scope)]);
            let contributions = node.op.vjp(self, &context).map_err(fail);
            let added = contributions.and_then(|contributions| {
                for ((&input, wanted), contribution) in node.inputs.iter().zip(wanted).zip(contributions) {
                    if let (true, Some(contribution)) = (wanted, contribution) {
                        self.contribute(&mut gradients, input, contribution)?;
                    }
                }
                Ok(())
            });
            self.scopes = scopes;
            added?;
        }
        Ok(wrt.iter().map(|value| gradients.get(value).copied()).collect())
    }

    /// For each value whether it depends on one of `wrt`.
    fn active(&self, wrt: &[Value]) -> Vec<bool> {
        let mut active = vec![false; self.program.values.len()];
        for value in wrt {
            active[value.index()] = true;
        }
        for node in &self.program.nodes {
            if node.inputs.iter().any(|value| active[value.index()]) {
                for output in &node.outputs {
                    active[output.index()] = self.spec(*output).is_real();
                }
            }
        }
        active
    }

    fn contribute(
        &mut self,
        gradients: &mut HashMap<Value, Value>,
        value: Value,
        contribution: Value,
    ) -> Result<(), RecordError> {
        let sum = match gradients.get(&value) {
            None => contribution,
            Some(&earlier) => self.one(Accumulate::Add { scale: Real(1.0) }, &[earlier, contribution])?,
        };
        gradients.insert(value, sum);
        Ok(())
    }
}
