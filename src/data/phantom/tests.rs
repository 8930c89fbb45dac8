//! What must hold for every phantom.

use super::*;

#[test]
fn a_film_depends_on_seed_and_index_alone() {
    assert_eq!(draw(3, 5), draw(3, 5));
    assert_ne!(draw(3, 5).pixels, draw(4, 5).pixels);
    assert_ne!(draw(3, 5).pixels, draw(3, 6).pixels);
}
