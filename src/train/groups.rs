//! Parameter groups: name patterns to optimizer options, in one table.

use serde::{Deserialize, Serialize};

/// Options for the parameters whose names match a pattern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The group's name.
    pub name: String,
    /// A pattern over published names; `*` stands for any text.
    pub pattern: String,
    /// Weight decay of these; absent: the run's.
    #[serde(default)]
    pub weight_decay: Option<f64>,
    /// The run's learning rate is multiplied by it.
    #[serde(default = "one")]
    pub learning_rate_factor: f64,
}

fn one() -> f64 {
    1.0
}

impl Rule {
    /// One group that holds every parameter with the run's own options, as the published code has it.
    pub fn everything() -> Self {
        Self { name: "all".into(), pattern: "*".into(), weight_decay: None, learning_rate_factor: 1.0 }
    }
}

/// Why rules do not fit a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// A pattern that matches no trainable parameter that an earlier rule left.
    #[error("group `{0}`: its pattern `{1}` matches no trainable parameter that an earlier group has left")]
    Empty(String, String),
    /// A parameter that no rule takes.
    #[error("parameter {0} matches no group's pattern; add a last group with the pattern `*`")]
    Unmatched(String),
    /// Two groups of one name.
    #[error("there are two groups of the name `{0}`; a group's learning rate is found by its name")]
    Twice(String),
    /// A number that cannot be: group, what, number.
    #[error("group `{0}`: its {1} is {2}; it must be a number not below 0")]
    Impossible(String, &'static str, String),
}

/// For each rule the positions in `names` that it takes. The first rule that matches a name has it.
pub fn resolve(rules: &[Rule], names: &[String]) -> Result<Vec<Vec<usize>>, GroupError> {
    for (at, rule) in rules.iter().enumerate() {
        if rules[..at].iter().any(|earlier| earlier.name == rule.name) {
            return Err(GroupError::Twice(rule.name.clone()));
        }
        let numbers = [("learning_rate_factor", Some(rule.learning_rate_factor)), ("weight_decay", rule.weight_decay)];
        let impossible = |&(_, number): &(&str, Option<f64>)| number.is_some_and(|n| !(n >= 0.0 && n.is_finite()));
        if let Some(&(what, Some(number))) = numbers.iter().find(|number| impossible(number)) {
            return Err(GroupError::Impossible(rule.name.clone(), what, number.to_string()));
        }
    }
    let mut groups = vec![Vec::new(); rules.len()];
    for (at, name) in names.iter().enumerate() {
        let rule = rules.iter().position(|rule| matches(&rule.pattern, name));
        groups[rule.ok_or_else(|| GroupError::Unmatched(name.clone()))?].push(at);
    }
    match groups.iter().position(Vec::is_empty) {
        Some(empty) => Err(GroupError::Empty(rules[empty].name.clone(), rules[empty].pattern.clone())),
        None => Ok(groups),
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => {
            let Some(rest) = name.strip_prefix(head) else { return false };
            (0..=rest.len()).any(|skip| rest.is_char_boundary(skip) && matches(tail, &rest[skip..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, pattern: &str) -> Rule {
        Rule { name: name.into(), pattern: pattern.into(), ..Rule::everything() }
    }

    #[test]
    fn the_first_match_wins_and_everything_must_match() {
        let names: Vec<String> = ["a.weight", "a.bias", "b.norm.weight"].map(String::from).into();
        let groups = resolve(&[rule("norms", "*norm*"), rule("rest", "*")], &names).unwrap();
        assert_eq!(groups, [vec![2], vec![0, 1]]);
        assert_eq!(resolve(&[rule("a", "a.*")], &names), Err(GroupError::Unmatched("b.norm.weight".into())));
        let shadowed = resolve(&[rule("rest", "*"), rule("late", "a.*")], &names);
        assert_eq!(shadowed, Err(GroupError::Empty("late".into(), "a.*".into())));
        assert!(resolve(&[rule("bias", "*.bias"), rule("weight", "*.weight")], &names).is_ok());
    }

    #[test]
    fn one_name_and_impossible_numbers_are_refused() {
        let names = ["a.weight".to_string(), "a.bias".to_string()];
        let twice = resolve(&[rule("a", "*.bias"), rule("a", "*")], &names);
        assert_eq!(twice, Err(GroupError::Twice("a".into())));
        for number in [f64::NAN, f64::INFINITY, -1.0] {
            let factor = Rule { learning_rate_factor: number, ..rule("a", "*") };
            let decay = Rule { weight_decay: Some(number), ..rule("a", "*") };
            for (rule, what) in [(factor, "learning_rate_factor"), (decay, "weight_decay")] {
                let error = resolve(&[rule], &names).unwrap_err().to_string();
                assert!(error.contains("group `a`") && error.contains(what), "{error}");
            }
        }
    }
}
