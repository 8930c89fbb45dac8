//! Planes drawn by hand.

use super::reference::image;

/// `#` is bright; the body of the drawing, drawn the same way.
fn body(drawing: &[&str]) -> Vec<String> {
    let width = drawing[0].len();
    let plane: Vec<f32> = drawing.concat().chars().map(|c| if c == '#' { 1.0 } else { 0.1 }).collect();
    let mut body = vec![7; plane.len()];
    image(&plane, 0.1, width, &mut body);
    let draw = |row: &[u8]| row.iter().map(|&byte| ['.', '#'][byte as usize]).collect();
    body.chunks(width).map(draw).collect()
}

#[test]
fn holes_are_filled_and_smaller_components_dropped() {
    assert_eq!(body(&["####..#", "#..#..#", "#.##...", "####..."]), ["####...", "####...", "####...", "####..."]);
}

#[test]
fn another_component_inside_a_hole_is_body() {
    assert_eq!(body(&["#####", "#...#", "#.#.#", "#...#", "#####"]), ["#####"; 5]);
}

#[test]
fn a_gap_to_the_border_is_no_hole_but_a_diagonal_one_is() {
    assert_eq!(body(&["###", "#.#", "#.#"]), ["###", "#.#", "#.#"]);
    // The ring is closed for its inside (4-connected), though it is itself held together along its sides only.
    assert_eq!(body(&["####.", "#..#.", "###.#", "....."]), ["####.", "####.", "###..", "....."].map(String::from));
}

#[test]
fn the_first_of_equals_wins_and_diagonals_do_not_connect() {
    assert_eq!(body(&["#..", ".#.", "..#"]), ["#..", "...", "..."]);
}

#[test]
fn a_bright_frame_makes_all_of_it_body() {
    assert_eq!(body(&["####", "#..#", "####"]), ["####"; 3]);
}

#[test]
fn without_bright_pixels_all_is_body() {
    assert_eq!(body(&["...", "..."]), ["###"; 2]);
}

#[test]
fn one_pixel_and_one_row_have_a_body() {
    assert_eq!(body(&["#"]), ["#"]);
    assert_eq!(body(&["##.###."]), ["...###."]);
}
