//! PTX text to tokens (4.2 to 4.5).

use super::SyntaxError;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// Identifier, directive or dotted opcode: `%tid.x`, `.reg`, `ld.shared::cta.u32`.
    Word(String),
    /// Digits with whatever belongs to a number.
    Number(String),
    /// What stands between two quotes.
    Text(String),
    /// Any other character.
    Sign(char),
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(text) | Self::Number(text) => write!(f, "`{text}`"),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::Sign(sign) => write!(f, "`{sign}`"),
        }
    }
}

/// All tokens, each with its line.
pub fn lex(text: &str) -> Result<Vec<(Token, u32)>, SyntaxError> {
    let bytes = text.as_bytes();
    let (mut at, mut line, mut tokens) = (0, 1, Vec::new());
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        match byte {
            b'\n' => {
                line += 1;
                at += 1;
            }
            _ if byte.is_ascii_whitespace() => at += 1,
            b'/' if bytes.get(at + 1) == Some(&b'/') => at += until(&bytes[at..], b"\n").unwrap_or(bytes.len() - at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let unclosed = || SyntaxError { line, what: "a comment is not closed by */".into() };
                at += 2 + until(&bytes[at + 2..], b"*/").ok_or_else(unclosed)? + 2;
                line += newlines(&bytes[start..at]);
            }
            b'"' => {
                let unclosed = || SyntaxError { line, what: "a quote is not closed".into() };
                at += 1 + until(&bytes[at + 1..], b"\"").ok_or_else(unclosed)? + 1;
                tokens.push((Token::Text(owned(&bytes[start + 1..at - 1])), line));
                line += newlines(&bytes[start..at]);
            }
            b'0'..=b'9' => {
                at += number(&bytes[at..]);
                tokens.push((Token::Number(owned(&bytes[start..at])), line));
            }
            _ if in_word(byte) => {
                at += word(&bytes[at..]);
                tokens.push((Token::Word(owned(&bytes[start..at])), line));
            }
            _ if byte.is_ascii() => {
                at += 1;
                tokens.push((Token::Sign(char::from(byte)), line));
            }
            _ => {
                let found = text.get(at..).and_then(|rest| rest.chars().next()).unwrap_or('?');
                return Err(SyntaxError { line, what: format!("`{found}` is not a character of PTX") });
            }
        }
    }
    Ok(tokens)
}

fn owned(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn until(bytes: &[u8], end: &[u8]) -> Option<usize> {
    bytes.windows(end.len()).position(|window| window == end)
}

fn newlines(bytes: &[u8]) -> u32 {
    bytes.iter().filter(|&&byte| byte == b'\n').count() as u32
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

/// Length of the word at the start; `::` belongs to it (`shared::cta`), a single colon ends a label.
fn word(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            _ if in_word(byte) => at += 1,
            b':' if bytes.get(at + 1) == Some(&b':') => at += 2,
            _ => break,
        }
    }
    at
}

/// Length of the number at the start; a sign belongs to it after the `e` of a decimal fraction.
fn number(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let exponent = at > 0 && matches!(bytes[at - 1], b'e' | b'E') && bytes[..at].contains(&b'.');
        match byte {
            _ if byte.is_ascii_alphanumeric() || byte == b'.' => at += 1,
            b'+' | b'-' if exponent => at += 1,
            _ => break,
        }
    }
    at
}
