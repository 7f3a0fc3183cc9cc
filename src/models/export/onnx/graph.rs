//! The graph of an ONNX file while it is made: nodes, constants, inputs, outputs.

use crate::error::{Error, Result};
use crate::models::export::protobuf::Message;

/// A type, by its number in ONNX's table.
pub const FLOAT: i64 = 1;
pub const INT32: i64 = 6;
pub const INT64: i64 = 7;
const OPSET: i64 = 17;
/// Version of the file format that came with it.
const IR: i64 = 8;
/// A file with more bytes is no protocol buffer.
const LARGEST: usize = i32::MAX as usize;

/// A graph that is being made.
#[derive(Default)]
pub struct Graph {
    nodes: Vec<Message>,
    constants: Vec<Message>,
    inputs: Vec<Message>,
    outputs: Vec<Message>,
    /// Nodes and constants so far, for their names.
    count: usize,
}

/// An attribute of a node.
pub enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
    /// A graph that is run again and again, as [`Graph::inner`] makes it.
    Body(&'a str, &'a Message),
}

impl Graph {
    pub fn name(&mut self, what: &str) -> String {
        self.count += 1;
        format!("{what}_{}", self.count)
    }

    pub fn node_with(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attributes: &[Attribute]) {
        let name = self.name(op);
        let attributes: Vec<Message> = attributes
            .iter()
            .map(|attribute| match *attribute {
                Attribute::Int(name, value) => Message::default().text(1, name).int(3, value).int(20, 2),
                Attribute::Ints(name, values) => Message::default().text(1, name).ints(8, values).int(20, 7),
                Attribute::Body(name, body) => Message::default().text(1, name).message(6, body).int(20, 5),
            })
            .collect();
        let node = Message::default().texts(1, inputs).texts(2, outputs).text(3, &name).text(4, op);
        self.nodes.push(node.messages(5, &attributes));
    }

    /// A node with one output, whose name is returned.
    pub fn node(&mut self, op: &str, inputs: &[&str], attributes: &[Attribute]) -> String {
        let output = self.name(&op.to_lowercase());
        self.node_with(op, inputs, &[&output], attributes);
        output
    }

    fn constant(&mut self, what: &str, shape: &[usize], kind: i64, raw: &[u8]) -> String {
        let name = self.name(what);
        let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        self.constants.push(Message::default().ints(1, &shape).int(2, kind).text(8, &name).bytes(9, raw));
        name
    }

    pub fn floats(&mut self, what: &str, shape: &[usize], values: &[f32]) -> String {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(what, shape, FLOAT, &raw)
    }

    pub fn ints(&mut self, shape: &[usize], values: &[i64]) -> String {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant("ints", shape, INT64, &raw)
    }

    /// An input or output; a dimension is a number or a name.
    fn value(name: &str, kind: i64, dims: &[Dim]) -> Message {
        let dims: Vec<Message> = dims
            .iter()
            .map(|dim| match dim {
                Dim::Size(size) => Message::default().int(1, *size as i64),
                Dim::Named(name) => Message::default().text(2, name),
            })
            .collect();
        let shape = Message::default().messages(1, &dims);
        let tensor = Message::default().int(1, kind).message(2, &shape);
        Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
    }

    pub fn input(&mut self, name: &str, kind: i64, dims: &[Dim]) {
        self.inputs.push(Self::value(name, kind, dims));
    }

    /// Names what a node gives, and makes it an output.
    pub fn output(&mut self, from: &str, name: &str, dims: &[Dim]) {
        self.node_with("Identity", &[from], &[name], &[]);
        self.outputs.push(Self::value(name, FLOAT, dims));
    }

    /// A graph within the graph, of the nodes that `make` adds. `inputs`: its inputs, of floats;
    /// `make` gives the names of its outputs.
    pub fn inner(&mut self, inputs: &[String], make: impl FnOnce(&mut Self) -> Vec<String>) -> Message {
        let outside = std::mem::take(&mut self.nodes);
        let outputs = make(self);
        let nodes = std::mem::replace(&mut self.nodes, outside);
        // of a type, and of any shape
        let kind = Message::default().message(1, &Message::default().int(1, FLOAT));
        let value = |name: &String| Message::default().text(1, name).message(2, &kind);
        Message::default()
            .messages(1, &nodes)
            .text(2, &self.name("body"))
            .messages(11, &inputs.iter().map(value).collect::<Vec<_>>())
            .messages(12, &outputs.iter().map(value).collect::<Vec<_>>())
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// [`Error::Usage`]: more bytes than an ONNX file can have.
    pub fn file(self, metadata: &[(&str, String)]) -> Result<Vec<u8>> {
        let graph = Message::default()
            .messages(1, &self.nodes)
            .text(2, "ulmfit")
            .messages(5, &self.constants)
            .messages(11, &self.inputs)
            .messages(12, &self.outputs);
        let opset = Message::default().text(1, "").int(2, OPSET);
        let properties: Vec<Message> =
            metadata.iter().map(|(key, value)| Message::default().text(1, key).text(2, value)).collect();
        let file = Message::default()
            .int(1, IR)
            .text(2, "ulmfit")
            .text(3, env!("CARGO_PKG_VERSION"))
            .message(7, &graph)
            .message(8, &opset)
            .messages(14, &properties)
            .finish();
        match file.len() {
            bytes if bytes > LARGEST => {
                let message = format!("--to onnx: the file would have {bytes} bytes, more than ONNX allows");
                Err(Error::usage(message).hint("--network N writes one network, --to safetensors has no such limit"))
            }
            _ => Ok(file),
        }
    }
}

#[derive(Clone, Copy)]
pub enum Dim {
    Size(usize),
    Named(&'static str),
}
