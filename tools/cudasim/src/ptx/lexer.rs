//! Splits PTX text into tokens.

use super::PtxError;

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// Opcode, directive, register or label, dots included.
    Name(String),
    Int(i64),
    Float(u32),
    Double(u64),
    Text(String),
    Mark(char),
}

pub struct Spanned {
    pub token: Token,
    pub line: u32,
}

fn starts_name(c: u8) -> bool {
    c.is_ascii_alphabetic() || matches!(c, b'_' | b'$' | b'%' | b'.')
}

fn continues_name(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$' | b'.' | b'%')
}

/// All tokens of the text, comments left out.
pub fn tokens(text: &str) -> Result<Vec<Spanned>, PtxError> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let (mut at, mut line) = (0usize, 1u32);
    while at < bytes.len() {
        let c = bytes[at];
        let next = bytes.get(at + 1).copied().unwrap_or(0);
        match c {
            b'\n' => {
                line += 1;
                at += 1;
            }
            b' ' | b'\t' | b'\r' | 0 => at += 1,
            b'/' if next == b'/' => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
            }
            b'/' if next == b'*' => {
                let start = line;
                at += 2;
                loop {
                    match bytes.get(at) {
                        None => return Err(PtxError::new(start, "comment without an end")),
                        Some(b'*') if bytes.get(at + 1) == Some(&b'/') => break,
                        Some(b'\n') => line += 1,
                        Some(_) => {}
                    }
                    at += 1;
                }
                at += 2;
            }
            b'"' => {
                let from = at + 1;
                let len = bytes[from..]
                    .iter()
                    .position(|&b| b == b'"' || b == b'\n')
                    .ok_or_else(|| PtxError::new(line, "string without an end"))?;
                if bytes[from + len] == b'\n' {
                    return Err(PtxError::new(line, "string without an end"));
                }
                let token = Token::Text(String::from_utf8_lossy(&bytes[from..from + len]).into_owned());
                out.push(Spanned { token, line });
                at = from + len + 1;
            }
            _ if c.is_ascii_digit() => {
                let from = at;
                while at < bytes.len() && bytes[at].is_ascii_alphanumeric() {
                    at += 1;
                }
                // a version such as 7.0 is read as a name, because its two halves are no number
                if bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) {
                    at += 1;
                    while at < bytes.len() && bytes[at].is_ascii_digit() {
                        at += 1;
                    }
                    let token = Token::Name(text[from..at].to_string());
                    out.push(Spanned { token, line });
                    continue;
                }
                let token = number(&text[from..at])
                    .ok_or_else(|| PtxError::new(line, format!("not a number: {}", &text[from..at])))?;
                out.push(Spanned { token, line });
            }
            _ if starts_name(c) => {
                let from = at;
                while at < bytes.len()
                    && (continues_name(bytes[at])
                        || (bytes[at] == b':'
                            && bytes.get(at + 1) == Some(&b':')
                            && bytes.get(at + 2).is_some_and(|&b| b.is_ascii_alphanumeric()))
                        || (bytes[at] == b':' && bytes[at - 1] == b':'))
                {
                    at += 1;
                }
                out.push(Spanned { token: Token::Name(text[from..at].to_string()), line });
            }
            _ if c.is_ascii_punctuation() => {
                out.push(Spanned { token: Token::Mark(c as char), line });
                at += 1;
            }
            _ => return Err(PtxError::new(line, format!("unexpected byte 0x{c:02x}"))),
        }
    }
    Ok(out)
}

fn number(word: &str) -> Option<Token> {
    let lower = word.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0f") {
        return (hex.len() == 8).then(|| u32::from_str_radix(hex, 16).ok().map(Token::Float))?;
    }
    if let Some(hex) = lower.strip_prefix("0d") {
        return (hex.len() == 16).then(|| u64::from_str_radix(hex, 16).ok().map(Token::Double))?;
    }
    let digits = lower.trim_end_matches('u');
    let value = if let Some(hex) = digits.strip_prefix("0x") {
        u64::from_str_radix(hex, 16)
    } else if let Some(bits) = digits.strip_prefix("0b") {
        u64::from_str_radix(bits, 2)
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(&digits[1..], 8)
    } else {
        digits.parse()
    };
    value.ok().map(|v| Token::Int(v as i64))
}
