//! Just enough reading of Rust source for the rules about it: text without comments and literals, functions, paths.

/// The source with comments and the insides of string and character literals blanked; line breaks stay.
pub fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = skip(source, at);
        match end {
            Some(end) => {
                for byte in &mut code[at..end] {
                    if *byte != b'\n' {
                        *byte = b' ';
                    }
                }
                at = end;
            }
            None => at += 1,
        }
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// Where the comment or literal that starts at `at` ends; `None` if none starts there.
fn skip(source: &str, at: usize) -> Option<usize> {
    let bytes = source.as_bytes();
    let rest = &bytes[at..];
    let inside_name = at > 0 && is_name(bytes[at - 1]);
    if rest.starts_with(b"//") {
        return Some(find(rest, b"\n").map_or(bytes.len(), |end| at + end));
    }
    if rest.starts_with(b"/*") {
        let mut depth = 0;
        let mut end = at;
        while end < bytes.len() {
            match &bytes[end..] {
                [b'/', b'*', ..] => (depth, end) = (depth + 1, end + 2),
                [b'*', b'/', ..] => (depth, end) = (depth - 1, end + 2),
                _ => end += 1,
            }
            if depth == 0 {
                return Some(end);
            }
        }
        return Some(end);
    }
    if !inside_name && (rest.starts_with(b"r\"") || rest.starts_with(b"r#") || rest.starts_with(b"br")) {
        let prefix = 1 + usize::from(rest[0] == b'b');
        let hashes = rest[prefix..].iter().take_while(|&&byte| byte == b'#').count();
        if rest.get(prefix + hashes) == Some(&b'"') {
            let closing = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
            let body = prefix + hashes + 1;
            return Some(find(&rest[body..], &closing).map_or(bytes.len(), |end| at + body + end + closing.len()));
        }
    }
    if rest[0] == b'"' {
        return Some(at + quoted(rest, b'"'));
    }
    let character = rest[0] == b'\'' && (rest.get(1) == Some(&b'\\') || is_character(source, at));
    character.then(|| at + quoted(rest, b'\''))
}

/// `'x'` rather than the lifetime `'x`.
fn is_character(source: &str, at: usize) -> bool {
    let mut rest = source[at + 1..].chars();
    rest.next().is_some() && rest.next() == Some('\'')
}

/// The length of a literal up to its closing quote.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut end = 1;
    while end < rest.len() && rest[end] != quote {
        end += 1 + usize::from(rest[end] == b'\\');
    }
    (end + 1).min(rest.len())
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Positions at which `word` stands as a word of its own.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let bytes = code.as_bytes();
        (at == 0 || !is_name(bytes[at - 1])) && !bytes.get(at + word.len()).is_some_and(|&byte| is_name(byte))
    })
}

/// The name that starts a text; may be empty.
pub fn leading_name(text: &str) -> &str {
    &text[..text.bytes().position(|byte| !is_name(byte)).unwrap_or(text.len())]
}

/// Name, first line and number of lines of every function with a body, signature included.
pub fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for start in words(code, "fn") {
        let name = leading_name(code[start + 2..].trim_start());
        if name.is_empty() {
            continue;
        }
        if let Some(end) = body_end(&code[start..]) {
            let line = code[..start].matches('\n').count() + 1;
            found.push((name.to_owned(), line, code[start..start + end].matches('\n').count() + 1));
        }
    }
    found
}

/// Where the body of the function that starts `code` ends; `None` for a declaration.
fn body_end(code: &str) -> Option<usize> {
    let (mut round, mut curly) = (0, 0);
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'(' | b'[' => round += 1,
            b')' | b']' => round -= 1,
            b';' if round == 0 && curly == 0 => return None,
            b'{' => curly += 1,
            b'}' if curly <= 1 => return (curly == 1).then_some(at + 1),
            b'}' => curly -= 1,
            _ => {}
        }
    }
    None
}

/// The modules of this crate that a file names: `base` in `crate::base::Rng` and in `use crate::{base::Rng, ops}`.
pub fn crate_modules(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for start in words(code, "crate") {
        let line = code[..start].matches('\n').count() + 1;
        let Some(path) = code[start + "crate".len()..].strip_prefix("::") else { continue };
        let Some(group) = path.strip_prefix('{') else {
            found.push((leading_name(path).to_owned(), line));
            continue;
        };
        let mut depth = 0;
        let mut fresh = true;
        for (at, byte) in group.bytes().enumerate() {
            match byte {
                b'{' => depth += 1,
                b'}' if depth == 0 => break,
                b'}' => depth -= 1,
                b',' if depth == 0 => fresh = true,
                _ if depth == 0 && fresh && is_name(byte) => {
                    found.push((leading_name(&group[at..]).to_owned(), line));
                    fresh = false;
                }
                _ => {}
            }
        }
    }
    found
}
