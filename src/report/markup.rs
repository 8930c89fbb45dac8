//! What all pages are made of: the frame, text as HTML takes it, numbers as people read them.

use base64::prelude::{BASE64_STANDARD, Engine};

/// Nothing may be loaded and nothing run, whatever a name or a report holds.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";
/// What all pages look like.
const STYLE: &str = include_str!("page.css");

/// A page of which all lies in one file, which needs nothing else and runs nothing. `style` comes behind what all pages look like;
/// `name` is a text, `style` and `body` are not.
pub fn document(name: &str, style: &str, body: &str) -> String {
    let name = escape(name);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{name} \u{b7} g2d</title>\n<style>\n{STYLE}{style}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// Under a heading, what is asked first: name, value, note, which are markup.
pub fn facts(facts: &[[String; 3]]) -> String {
    let item =
        |[name, value, note]: &[String; 3]| format!("<li><span>{name}</span><b>{value}</b><small>{note}</small></li>");
    match facts.is_empty() {
        true => String::new(),
        false => format!("<ul class=\"facts\">{}</ul>\n", facts.iter().map(item).collect::<String>()),
    }
}

/// What is to be known beside it, line by line; texts.
pub fn notes(notes: &[String]) -> String {
    let item = |note: &String| format!("<li>{}</li>", escape(note));
    match notes.is_empty() {
        true => String::new(),
        false => format!("<ul class=\"notes\">{}</ul>\n", notes.iter().map(item).collect::<String>()),
    }
}

/// A text that may hold anything, as text within an element or a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Letters that turn the direction of what follows could disguise the text around them.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escaped.push('\u{fffd}'),
            other if other.is_control() && !other.is_whitespace() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The first `most` letters of a text, with an ellipsis if there are more.
pub fn clipped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}\u{2026}", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

/// A number in three digits that matter.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || !value.is_finite() {
        return format!("{value}").replace("-0", "0");
    }
    // Rounded first: 999.6 is 1000.
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    let power = rounded.abs().log10().floor();
    if (-4.0..6.0).contains(&power) {
        let digits = (2.0 - power).max(0.0) as usize;
        return plain(format!("{rounded:.digits$}"));
    }
    let (digits, exponent) = (format!("{:.2}", rounded / 10f64.powf(power)), power as i32);
    format!("{}e{exponent}", plain(digits))
}

/// Without zeros at the end of a fraction.
fn plain(digits: String) -> String {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.').to_owned() } else { digits }
}

/// A PNG as an address that holds it (RFC 2397).
pub fn data_url(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_text_becomes_markup() {
        assert_eq!(escape("<script>alert('a' & \"b\")</script>"), {
            "&lt;script&gt;alert(&#39;a&#39; &amp; &quot;b&quot;)&lt;/script&gt;"
        });
        assert_eq!(escape("a\u{0}b\u{202e}c\td"), "a\u{fffd}b\u{fffd}c\td");
        assert_eq!(clipped("Büste, links", 5), "Büste\u{2026}");
        assert_eq!(clipped("Büste", 5), "Büste");
    }

    #[test]
    fn numbers_have_three_digits() {
        let wanted = [
            (0.0, "0"),
            (-0.0, "0"),
            (2.0, "2"),
            (0.0015, "0.0015"),
            (6.9314, "6.93"),
            (-0.5, "-0.5"),
            (999.6, "1000"),
            (12345.0, "12300"),
            (1.23e7, "1.23e7"),
            (2e-5, "2e-5"),
            (0.1 + 0.2, "0.3"),
        ];
        for (value, text) in wanted {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn base64_as_the_rfc_has_it() {
        let wanted =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (bytes, text) in wanted {
            assert_eq!(data_url(bytes.as_bytes()), format!("data:image/png;base64,{text}"));
        }
    }
}
