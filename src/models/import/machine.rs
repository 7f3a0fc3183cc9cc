//! The stack machine of Python's pickles, which notes calls and makes none (see
//! [`pickle`](super::pickle)).

use std::collections::HashMap;

use super::pickle::{Id, Node};

/// The machine at work.
pub struct Machine<'a> {
    bytes: &'a [u8],
    /// Bytes that were read.
    pub at: usize,
    pub nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

/// The end of a sentence where a step cannot be made.
pub type Step<T = ()> = Result<T, &'static str>;

const EMPTY: &str = "takes more from the stack than there is";

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Machine { bytes, at: 0, nodes: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
    }

    fn take(&mut self, n: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or("ends before its end")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Step<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as many bytes as were asked for"))
    }

    /// A length in so many bytes, little-endian.
    fn length<const N: usize>(&mut self) -> Step<usize> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&self.number::<N>()?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| "has a length that cannot be")
    }

    /// Up to the end of the line, without it.
    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').ok_or("ends within a line")?;
        self.at += end + 1;
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        std::str::from_utf8(line).map_err(|_| "has a line that is not UTF-8")
    }

    fn text(&mut self, n: usize) -> Step<String> {
        let bytes = self.take(n)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_string()),
            Err(_) => Err("has a text that is not UTF-8"),
        }
    }

    fn add(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn push(&mut self, node: Node) {
        let id = self.add(node);
        self.stack.push(id);
    }

    /// The lowest item that may be taken.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<Id> {
        if self.stack.len() <= self.floor() {
            return Err(EMPTY);
        }
        self.stack.pop().ok_or(EMPTY)
    }

    fn top(&self) -> Step<Id> {
        self.stack.last().copied().filter(|_| self.stack.len() > self.floor()).ok_or(EMPTY)
    }

    /// Everything above the last mark.
    fn since_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or("ends a group that it never began")?;
        Ok(self.stack.split_off(mark))
    }

    fn many(&mut self, n: usize) -> Step<Vec<Id>> {
        let from = self.stack.len().checked_sub(n).filter(|&from| from >= self.floor()).ok_or(EMPTY)?;
        Ok(self.stack.split_off(from))
    }

    fn pairs(items: &[Id]) -> Step<Vec<(Id, Id)>> {
        match items.len() % 2 {
            0 => Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()),
            _ => Err("has a key without a value"),
        }
    }

    fn recall(&mut self, number: u64) -> Step {
        let id = *self.memo.get(&number).ok_or("fetches a memo entry that it never stored")?;
        self.stack.push(id);
        Ok(())
    }

    fn note(&mut self, number: u64) -> Step {
        let id = self.top()?;
        self.memo.insert(number, id);
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Step {
        let to = self.top()?;
        match &mut self.nodes[to] {
            Node::List(list) | Node::Object { items: list, .. } => list.extend(items),
            _ => return Err("appends to an object that is no list"),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Step {
        let (to, new) = (self.top()?, Self::pairs(items)?);
        match &mut self.nodes[to] {
            Node::Dict(pairs) | Node::Object { pairs, .. } => pairs.extend(new),
            _ => return Err("sets items of an object that is no dictionary"),
        }
        Ok(())
    }

    /// The result that a call would have.
    fn call(&mut self, class: Id, arguments: Id) -> Step {
        let arguments = match &self.nodes[arguments] {
            Node::Tuple(items) => items.clone(),
            _ => return Err("calls with arguments that are no tuple"),
        };
        self.object(class, arguments);
        Ok(())
    }

    fn object(&mut self, class: Id, arguments: Vec<Id>) {
        self.push(Node::Object { class, arguments, state: None, items: Vec::new(), pairs: Vec::new() });
    }

    fn class(&mut self) -> Step<Id> {
        let (module, name) = (self.line()?.to_string(), self.line()?.to_string());
        Ok(self.add(Node::Class { module, name }))
    }

    /// A whole number in two's complement, little-endian.
    fn long(&mut self, n: usize) -> Step {
        let bytes = self.take(n)?;
        if n > 16 {
            return Err("has a whole number of more than 16 bytes");
        }
        let fill = if bytes.last().is_some_and(|&b| b >= 0x80) { 0xff } else { 0 };
        let mut wide = [fill; 16];
        wide[..n].copy_from_slice(bytes);
        self.push(Node::Int(i128::from_le_bytes(wide)));
        Ok(())
    }

    /// Runs the program to its end; returns its result.
    pub fn run(&mut self) -> Step<Id> {
        loop {
            let [code] = self.number::<1>()?;
            if code == b'.' {
                return self.pop();
            }
            self.step(code)?;
        }
    }

    fn step(&mut self, code: u8) -> Step {
        match code {
            // the protocol's number; a frame's length, which says nothing that is needed
            0x80 => match self.number::<1>()? {
                [0..=5] => {}
                _ => return Err("is of a protocol after 5"),
            },
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => match self.stack.len() > self.floor() {
                true => drop(self.pop()?),
                false => drop(self.marks.pop().ok_or(EMPTY)?),
            },
            b'1' => drop(self.since_mark()?),
            b'2' => self.stack.push(self.top()?),
            b'N' => self.push(Node::None),
            0x88 => self.push(Node::Bool(true)),
            0x89 => self.push(Node::Bool(false)),
            // numbers
            b'I' => match self.line()? {
                "00" => self.push(Node::Bool(false)),
                "01" => self.push(Node::Bool(true)),
                line => self.push(Node::Int(line.parse().map_err(|_| "has a number that is none")?)),
            },
            b'L' => {
                let line = self.line()?;
                let digits = line.strip_suffix('L').unwrap_or(line);
                self.push(Node::Int(digits.parse().map_err(|_| "has a number that is none")?));
            }
            b'J' => {
                let value = i32::from_le_bytes(self.number()?);
                self.push(Node::Int(value.into()));
            }
            b'K' => {
                let value = self.length::<1>()?;
                self.push(Node::Int(value as i128));
            }
            b'M' => {
                let value = self.length::<2>()?;
                self.push(Node::Int(value as i128));
            }
            0x8a => {
                let n = self.length::<1>()?;
                self.long(n)?;
            }
            0x8b => {
                let n = self.length::<4>()?;
                self.long(n)?;
            }
            b'F' => {
                let value = self.line()?.parse().map_err(|_| "has a number that is none")?;
                self.push(Node::Float(value));
            }
            b'G' => {
                let value = f64::from_be_bytes(self.number()?);
                self.push(Node::Float(value));
            }
            // texts and bytes
            b'S' => {
                let text = quoted(self.line()?)?;
                self.push(Node::Bytes(text));
            }
            b'V' => {
                let text = escaped(self.line()?)?;
                self.push(Node::Text(text));
            }
            b'X' | 0x8c | 0x8d => {
                let n = match code {
                    0x8c => self.length::<1>()?,
                    b'X' => self.length::<4>()?,
                    _ => self.length::<8>()?,
                };
                let text = self.text(n)?;
                self.push(Node::Text(text));
            }
            b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => {
                let n = match code {
                    b'U' | b'C' => self.length::<1>()?,
                    b'T' | b'B' => self.length::<4>()?,
                    _ => self.length::<8>()?,
                };
                let bytes = self.take(n)?.to_vec();
                self.push(Node::Bytes(bytes));
            }
            // collections
            b')' => self.push(Node::Tuple(Vec::new())),
            0x85..=0x87 => {
                let items = self.many(usize::from(code - 0x84))?;
                self.push(Node::Tuple(items));
            }
            b't' => {
                let items = self.since_mark()?;
                self.push(Node::Tuple(items));
            }
            b']' | 0x8f => self.push(Node::List(Vec::new())),
            b'l' | 0x91 => {
                let items = self.since_mark()?;
                self.push(Node::List(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.since_mark()?;
                self.append(items)?;
            }
            b'}' => self.push(Node::Dict(Vec::new())),
            b'd' => {
                let items = self.since_mark()?;
                let pairs = Self::pairs(&items)?;
                self.push(Node::Dict(pairs));
            }
            b's' => {
                let items = self.many(2)?;
                self.set(&items)?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set(&items)?;
            }
            // notes of the machine
            b'g' => {
                let number = self.line()?.parse().map_err(|_| "fetches a memo entry that it never stored")?;
                self.recall(number)?;
            }
            b'h' => {
                let number = self.length::<1>()?;
                self.recall(number as u64)?;
            }
            b'j' => {
                let number = self.length::<4>()?;
                self.recall(number as u64)?;
            }
            b'p' => {
                let number = self.line()?.parse().map_err(|_| "stores a memo entry under a key that is no number")?;
                self.note(number)?;
            }
            b'q' => {
                let number = self.length::<1>()?;
                self.note(number as u64)?;
            }
            b'r' => {
                let number = self.length::<4>()?;
                self.note(number as u64)?;
            }
            0x94 => self.note(self.memo.len() as u64)?,
            // the object that Python would import and call
            b'c' => {
                let class = self.class()?;
                self.stack.push(class);
            }
            0x93 => {
                let pair = self.many(2)?;
                let part = |id: Id| match &self.nodes[id] {
                    Node::Text(text) => Ok(text.clone()),
                    _ => Err("names a class by an object that is no text"),
                };
                let (module, name) = (part(pair[0])?, part(pair[1])?);
                self.push(Node::Class { module, name });
            }
            b'R' | 0x81 => {
                let pair = self.many(2)?;
                self.call(pair[0], pair[1])?;
            }
            0x92 => {
                let all = self.many(3)?;
                self.call(all[0], all[1])?;
            }
            b'i' => {
                let class = self.class()?;
                let arguments = self.since_mark()?;
                self.object(class, arguments);
            }
            b'o' => {
                let mut arguments = self.since_mark()?;
                if arguments.is_empty() {
                    return Err(EMPTY);
                }
                let class = arguments.remove(0);
                self.object(class, arguments);
            }
            b'b' => {
                let new = self.pop()?;
                let to = self.top()?;
                if let Node::Object { state, .. } = &mut self.nodes[to] {
                    *state = Some(new);
                }
            }
            b'P' => {
                let line = self.line()?.to_string();
                let name = self.add(Node::Text(line));
                self.push(Node::Persistent(name));
            }
            b'Q' => {
                let name = self.pop()?;
                self.push(Node::Persistent(name));
            }
            0x82..=0x84 => return Err("names a class by a number of a register that is not here"),
            0x97 | 0x98 => return Err("has buffers beside it, which are not here"),
            _ => return Err("has a step that no protocol knows"),
        }
        Ok(())
    }
}

/// The text between a line's quotes, with the escapes that Python writes.
fn quoted(line: &str) -> Step<Vec<u8>> {
    let bytes = line.as_bytes();
    let inner = match bytes {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return Err("has a text without quotes"),
    };
    let (mut out, mut rest) = (Vec::with_capacity(inner.len()), inner);
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (&kind, after) = rest.split_first().ok_or("has a text with an escape that is none")?;
        rest = after;
        match kind {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'\\' | b'\'' | b'"' => out.push(kind),
            b'x' if rest.len() >= 2 => {
                let digits = std::str::from_utf8(&rest[..2]).map_err(|_| "has a text with an escape that is none")?;
                out.push(u8::from_str_radix(digits, 16).map_err(|_| "has a text with an escape that is none")?);
                rest = &rest[2..];
            }
            _ => return Err("has a text with an escape that is none"),
        }
    }
    Ok(out)
}

/// A text in which `\uXXXX` and `\UXXXXXXXX` stand for characters.
fn escaped(line: &str) -> Step<String> {
    const NONE: &str = "has a text with an escape that is none";
    let (mut out, mut rest) = (String::with_capacity(line.len()), line);
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let digits = match rest.as_bytes().get(at + 1) {
            Some(b'u') => 4,
            Some(b'U') => 8,
            _ => {
                out.push('\\');
                rest = &rest[at + 1..];
                continue;
            }
        };
        let code = rest.get(at + 2..at + 2 + digits).ok_or(NONE)?;
        let code = u32::from_str_radix(code, 16).map_err(|_| NONE)?;
        out.push(char::from_u32(code).ok_or(NONE)?);
        rest = &rest[at + 2 + digits..];
    }
    out.push_str(rest);
    Ok(out)
}
