//! Splits as published scripts draw them: scikit-learn's `train_test_split`, pandas' `sample` and NumPy's `choice`, all with seed
//! 0 and so all by the first of one permutation, which NumPy's old generator shuffles, the Mersenne twister (Matsumoto, Nishimura,
//! 1998).

use crate::data::record::Split;

const WORDS: usize = 624;
const MIDDLE: usize = 397;

/// NumPy's `RandomState(seed)`.
struct RandomState {
    words: [u32; WORDS],
    used: usize,
}

impl RandomState {
    fn new(seed: u32) -> Self {
        let mut words = [seed; WORDS];
        for at in 1..WORDS {
            let before = words[at - 1] ^ (words[at - 1] >> 30);
            words[at] = before.wrapping_mul(1_812_433_253).wrapping_add(at as u32);
        }
        Self { words, used: WORDS }
    }

    fn next(&mut self) -> u32 {
        if self.used == WORDS {
            for at in 0..WORDS {
                let joined = (self.words[at] & 1 << 31) | (self.words[(at + 1) % WORDS] & !(1 << 31));
                let odd = if joined & 1 == 1 { 0x9908_B0DF } else { 0 };
                self.words[at] = self.words[(at + MIDDLE) % WORDS] ^ (joined >> 1) ^ odd;
            }
            self.used = 0;
        }
        let mut word = self.words[self.used];
        self.used += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9D2C_5680;
        word ^= (word << 15) & 0xEFC6_0000;
        word ^ (word >> 18)
    }

    /// Uniform in `0..=most`: words cut to as few bits as hold it, until one is not above.
    fn up_to(&mut self, most: u32) -> u32 {
        let mask = u32::MAX.checked_shr(most.leading_zeros()).unwrap_or(0);
        loop {
            let value = self.next() & mask;
            if value <= most {
                return value;
            }
        }
    }

    fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for at in (1..count).rev() {
            let other = self.up_to(at as u32) as usize;
            order.swap(at, other);
        }
        order
    }
}

/// The `chosen` (at most `count`) of `count` items that seed 0 draws without putting back, in the order drawn.
pub(super) fn drawn(count: usize, chosen: usize) -> Vec<usize> {
    let mut order = RandomState::new(0).permutation(count);
    order.truncate(chosen);
    order
}

/// Training and validation of `count` items in their order, of which `held_out` are drawn for validation by seed 0.
pub(super) fn held_out(count: usize, held_out: usize) -> Vec<Split> {
    let mut splits = vec![Split::Train; count];
    drawn(count, held_out).into_iter().for_each(|at| splits[at] = Split::Val);
    splits
}

/// MGCA's split of `count` items in their order (mgca/preprocess): `percent` of them are set apart for testing and
/// validation, half each, both times by seed 0.
pub(super) fn mgca(count: usize, percent: usize) -> Vec<Split> {
    let apart = (count * percent).div_ceil(100);
    let mut splits = vec![Split::Train; count];
    let chosen = drawn(count, apart);
    for (at, position) in drawn(apart, apart).into_iter().enumerate() {
        splits[chosen[position]] = if at < apart.div_ceil(2) { Split::Val } else { Split::Test };
    }
    splits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_numpy() {
        assert_eq!(RandomState::new(5489).next(), 3_499_211_612, "the generator's published first number");
        assert_eq!(RandomState::new(0).permutation(10), [2, 8, 4, 9, 1, 6, 7, 3, 0, 5], "numpy 1.26");
    }

    #[test]
    fn the_published_numbers_of_films_come_out() {
        let counts = |count: usize, parts: usize| {
            let splits = mgca(count, parts);
            Split::ALL.map(|split| splits.iter().filter(|&&one| one == split).count())
        };
        assert_eq!(counts(26_684, 40), [16_010, 5_337, 5_337], "RSNA, G2D paper");
        assert_eq!(counts(12_047, 30), [8_432, 1_808, 1_807], "SIIM; the paper has 8,433, 1,807, 1,807");
        assert_eq!((counts(1, 40), counts(0, 40)), ([0, 1, 0], [0; 3]));
        assert_eq!(held_out(10, 3).iter().filter(|&&one| one == Split::Val).count(), 3);
    }
}
