//! A reader of Python's pickles that never calls anything.
//!
//! A pickle is a program for a small stack machine. Python's own machine imports and calls what the
//! program names, so that opening a file can run any code. Here a call becomes a [`Node::Object`]: a
//! note of what would have been called, with which arguments. Who reads the notes decides what they
//! mean (see [`torch`](super::torch)). Protocols 0 to 5.
//!
//! Memory and time are linear in the length of the file: every step of the machine reads at least one
//! byte, and adds at most one node and the items that were put on the stack.

use std::collections::HashMap;

/// A place in [`Pickle::nodes`].
pub type Id = usize;

/// Longest pickle: that of a model names tensors, their data lie elsewhere.
const LONGEST: usize = 64 << 20;

/// A value of a pickle.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Bytes(Vec<u8>),
    Text(String),
    Tuple(Vec<Id>),
    /// A list or a set.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// Something that Python would import.
    Class {
        module: String,
        name: String,
    },
    /// What Python would make by calling `class` with `arguments`; what it would add afterwards.
    Object {
        class: Id,
        arguments: Vec<Id>,
        state: Option<Id>,
        items: Vec<Id>,
        pairs: Vec<(Id, Id)>,
    },
    /// What the program that wrote the pickle keeps elsewhere, under this name.
    Persistent(Id),
}

/// A pickle that was read.
#[derive(Debug)]
pub struct Pickle {
    pub nodes: Vec<Node>,
    pub root: Id,
    /// Bytes that it took.
    pub length: usize,
}

impl Pickle {
    /// Reads the pickle that `bytes` begin with.
    ///
    /// # Errors
    /// One sentence's end: what is wrong, at which byte.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut machine = Machine {
            bytes: &bytes[..bytes.len().min(LONGEST)],
            at: 0,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        match machine.run() {
            Ok(root) => Ok(Pickle { nodes: machine.nodes, root, length: machine.at }),
            Err(what) => Err(format!("{what} (byte {} of the pickle)", machine.at)),
        }
    }

    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    pub fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Text(text) => Some(text),
            // Python 2 wrote its strings so
            Node::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// A number that is a size or a place.
    pub fn size(&self, id: Id) -> Option<usize> {
        match self.node(id) {
            Node::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The items of a tuple or list.
    pub fn items(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(items) | Node::List(items) => Some(items),
            _ => None,
        }
    }

    /// `module.name` of a class.
    pub fn class_name(&self, id: Id) -> Option<String> {
        match self.node(id) {
            Node::Class { module, name } => Some(format!("{module}.{name}")),
            _ => None,
        }
    }

    /// The pairs of a dictionary, also of an ordered one.
    pub fn pairs(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.node(id) {
            Node::Dict(pairs) => Some(pairs),
            Node::Object { class, pairs, .. } if self.class_name(*class)? == "collections.OrderedDict" => Some(pairs),
            _ => None,
        }
    }

    /// The value under a name in a dictionary.
    pub fn get(&self, dictionary: Id, name: &str) -> Option<Id> {
        let pairs = self.pairs(dictionary)?;
        pairs.iter().find(|(key, _)| self.text(*key) == Some(name)).map(|&(_, value)| value)
    }

    /// What a node is, for messages.
    pub fn describe(&self, id: Id) -> String {
        match self.node(id) {
            Node::None => "nothing".into(),
            Node::Bool(_) => "a truth value".into(),
            Node::Int(_) | Node::Float(_) => "a number".into(),
            Node::Bytes(_) => "bytes".into(),
            Node::Text(_) => "a text".into(),
            Node::Tuple(_) => "a tuple".into(),
            Node::List(_) => "a list".into(),
            Node::Dict(_) => "a dictionary".into(),
            Node::Class { .. } => format!("the class {}", self.class_name(id).unwrap_or_default()),
            Node::Object { class, .. } => match self.class_name(*class) {
                Some(name) => format!("a call of {name}"),
                None => "a call".into(),
            },
            Node::Persistent(_) => "a reference".into(),
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

type Step<T = ()> = Result<T, &'static str>;

const EMPTY: &str = "takes more from the stack than there is";

impl<'a> Machine<'a> {
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
        let id = *self.memo.get(&number).ok_or("recalls what it never noted")?;
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
            _ => return Err("appends to what is no list"),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Step {
        let (to, new) = (self.top()?, Self::pairs(items)?);
        match &mut self.nodes[to] {
            Node::Dict(pairs) | Node::Object { pairs, .. } => pairs.extend(new),
            _ => return Err("sets items of what is no dictionary"),
        }
        Ok(())
    }

    /// What a call would make.
    fn call(&mut self, class: Id, arguments: Id) -> Step {
        let arguments = match &self.nodes[arguments] {
            Node::Tuple(items) => items.clone(),
            _ => return Err("calls with what is no tuple"),
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

    fn run(&mut self) -> Step<Id> {
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
                let number = self.line()?.parse().map_err(|_| "recalls what it never noted")?;
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
                let number = self.line()?.parse().map_err(|_| "notes under what is no number")?;
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
            // what Python would import and call
            b'c' => {
                let class = self.class()?;
                self.stack.push(class);
            }
            0x93 => {
                let pair = self.many(2)?;
                let part = |id: Id| match &self.nodes[id] {
                    Node::Text(text) => Ok(text.clone()),
                    _ => Err("names a class by what is no text"),
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

/// What stands between a line's quotes. Of escapes those that Python writes.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Pickle {
        Pickle::read(bytes).unwrap_or_else(|e| panic!("{e}"))
    }

    /// `[1, 'a', -2, 2.5, None, True, (3,), {'k': b'v'}]` as Python writes it in protocols 0 and 4.
    #[test]
    fn old_and_new_protocols_give_the_same_values() {
        let old = b"(lp0\nI1\naVa\np1\naI-2\naF2.5\naNaI01\na(I3\ntp2\na(dp3\nVk\np4\nc_codecs\nencode\np5\n(Vv\np6\nVlatin1\np7\ntp8\nRp9\nsa.";
        let new = b"\x80\x04\x95\x2e\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01\x8c\x01a\x94J\xfe\xff\xff\xffG@\x04\x00\x00\x00\x00\x00\x00N\x88K\x03\x85\x94}\x94\x8c\x01k\x94C\x01v\x94se.";
        for bytes in [&old[..], &new[..]] {
            let pickle = read(bytes);
            let items = pickle.items(pickle.root).unwrap().to_vec();
            let node = |i: usize| pickle.node(items[i]).clone();
            assert_eq!([node(0), node(2), node(3)], [Node::Int(1), Node::Int(-2), Node::Float(2.5)]);
            assert_eq!((pickle.text(items[1]), node(4), node(5)), (Some("a"), Node::None, Node::Bool(true)));
            assert_eq!(pickle.size(pickle.items(items[6]).unwrap()[0]), Some(3));
            assert!(pickle.get(items[7], "k").is_some() && pickle.get(items[7], "v").is_none());
            assert_eq!(pickle.length, bytes.len());
        }
    }

    #[test]
    fn a_call_is_noted_and_not_made() {
        let pickle = read(b"cposix\nsystem\n(S'echo it ran > ran.txt'\ntR.");
        assert_eq!(pickle.describe(pickle.root), "a call of posix.system");
        assert!(!std::path::Path::new("ran.txt").exists());
    }

    #[test]
    fn what_is_no_pickle_is_an_error_and_never_a_panic() {
        let cases: [(&[u8], &str); 10] = [
            (b"", "ends before its end"),
            (b"\x80\x06.", "protocol after 5"),
            (b".", "more from the stack"),
            (b"(a.", "more from the stack"),
            (b"K\x01e.", "group that it never began"),
            (b"h\x07.", "recalls what it never noted"),
            (b"X\xff\xff\xff\xffab.", "ends before its end"),
            (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab.", "ends before its end"),
            (b"\x82\x01.", "a register that is not here"),
            (b"K\x01K\x02a.", "no list"),
        ];
        for (bytes, expected) in cases {
            let error = Pickle::read(bytes).unwrap_err();
            assert!(error.contains(expected), "{bytes:?}: {error}");
        }
        // deep nesting takes no stack of the processor
        let mut deep = vec![b'('; 1 << 20];
        deep.extend(std::iter::repeat_n(b't', 1 << 20));
        deep.push(b'.');
        assert_eq!(read(&deep).nodes.len(), 1 << 20);
        let truncated = b"\x80\x04]\x94(K\x01\x8c\x01a\x94e.";
        for n in 0..truncated.len() {
            assert!(Pickle::read(&truncated[..n]).is_err(), "{n}");
        }
    }
}
