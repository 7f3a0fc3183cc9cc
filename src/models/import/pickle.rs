//! A reader of Python's pickles that never calls anything.
//!
//! A pickle is a program for a small stack machine. Python's own machine imports and calls what the
//! program names, so that opening a file can run any code. Here a call becomes a [`Node::Object`]:
//! a note of the function that would have been called, and its arguments. Who reads the notes
//! decides what they mean (see [`torch`](super::torch)). Protocols 0 to 5.
//!
//! Memory and time are linear in the length of the file: every step of the machine reads at least
//! one byte, and adds at most one node and the items that were put on the stack.

use super::machine::Machine;

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
    /// The object that Python would make by calling `class` with `arguments`, and the state it
    /// would add.
    Object {
        class: Id,
        arguments: Vec<Id>,
        state: Option<Id>,
        items: Vec<Id>,
        pairs: Vec<(Id, Id)>,
    },
    /// An object that the program which wrote the pickle keeps elsewhere, under this name.
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
        let mut machine = Machine::new(&bytes[..bytes.len().min(LONGEST)]);
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

    /// The kind of a node, for messages.
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
            (b"h\x07.", "fetches a memo entry that it never stored"),
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
