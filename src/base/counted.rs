//! Counts in sentences.

use std::fmt::Display;

/// A count with what is counted: `1 film`, `2 films`. For words whose plural ends in a plain s.
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let ending = if count == N::from(1) { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one() {
        let films = [0_usize, 1, 2].map(|count| counted(count, "film"));
        assert_eq!(films, ["0 films", "1 film", "2 films"]);
    }
}
