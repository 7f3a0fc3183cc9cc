//! Parameters of a model: a slab of values, a slab of gradients, layer groups, frozen flags.

use std::sync::Arc;

use crate::device::{Block, DType, Device};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

/// Number of a parameter within its [`Parameters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParameterId(pub(crate) usize);

impl ParameterId {
    /// Position in the order in which parameters were added.
    pub fn index(self) -> usize {
        self.0
    }
}

/// The kind of a parameter: code that treats some parameters in another way asks for this, never
/// for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A matrix of weights.
    Matrix,
    /// A vector that is added.
    Bias,
    /// Scale or shift of a normalisation.
    Norm,
    /// A row for every word: the rows follow the words from one vocabulary to another.
    VocabularyRows,
    /// A value for every word, added to its score; follows the words, too.
    VocabularyBias,
    /// A row or a value for every part of the vocabulary: they start anew where there are other
    /// parts.
    VocabularyParts,
    /// Saved with the model, never trained (running statistics).
    Buffer,
}

/// One parameter of a model.
#[derive(Clone, Debug)]
struct Declaration {
    name: String,
    shape: Shape,
    group: usize,
    role: Role,
}

impl Declaration {
    fn is_buffer(&self) -> bool {
        self.role == Role::Buffer
    }
}

/// Number of a layer group: 0 is nearest to the input.
pub type Group = usize;

/// Collects parameters and layer groups; [`build`](Self::build) makes the slabs.
#[derive(Clone, Debug, Default)]
pub struct ParametersBuilder {
    declarations: Vec<Declaration>,
    groups: Vec<String>,
    /// The prefix of the names that are declared.
    prefix: &'static str,
}

impl ParametersBuilder {
    /// The next layer group, the one nearest to the input first.
    pub fn group(&mut self, name: impl Into<String>) -> Group {
        self.groups.push(name.into());
        self.groups.len() - 1
    }

    /// Puts `prefix` before the names that `declare` gives, for a second part of the same kind.
    pub fn within<R>(&mut self, prefix: &'static str, declare: impl FnOnce(&mut Self) -> R) -> R {
        let before = std::mem::replace(&mut self.prefix, prefix);
        let declared = declare(self);
        self.prefix = before;
        declared
    }

    /// Declares a parameter of a layer group.
    pub fn declare(&mut self, name: impl Into<String>, shape: &[usize], group: Group, role: Role) -> ParameterId {
        // tests and examples number their groups without naming them
        for unnamed in self.groups.len()..=group {
            self.groups.push(format!("group {unnamed}"));
        }
        let name = format!("{}{}", self.prefix, name.into());
        self.declarations.push(Declaration { name, shape: Shape::new(shape), group, role });
        ParameterId(self.declarations.len() - 1)
    }

    /// Declares a trainable [`Role::Matrix`].
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize], group: Group) -> ParameterId {
        self.declare(name, shape, group, Role::Matrix)
    }

    /// Bytes that the slabs of values and of gradients will take.
    pub fn bytes(&self, dtype: DType) -> (usize, usize) {
        let size = |buffers: bool| {
            let all = self.declarations.iter().filter(|d| buffers || !d.is_buffer());
            all.map(|d| (d.shape.len() * dtype.size()).div_ceil(64) * 64).sum()
        };
        (size(true), size(false))
    }

    /// Number of values, those of buffers included.
    pub fn values(&self) -> usize {
        self.declarations.iter().map(|d| d.shape.len()).sum()
    }

    /// Allocates both slabs on the CPU, zeroed. Two parameters of one name are an error.
    pub fn build(self, dtype: DType) -> Result<Parameters> {
        self.build_on(Device::Cpu, dtype)
    }

    /// As [`build`](Self::build), on any device.
    pub fn build_on(self, device: Device, dtype: DType) -> Result<Parameters> {
        self.build_of(device, dtype, |sizes| Block::slab(device, sizes))
    }

    /// Parameters without values, for a [dry](crate::autodiff::Graph::dry) graph.
    pub fn build_dry(self, dtype: DType) -> Result<Parameters> {
        self.build_of(Device::Cpu, dtype, |sizes| Ok(sizes.iter().map(|&bytes| Block::dry(bytes)).collect()))
    }

    fn build_of(
        self,
        device: Device,
        dtype: DType,
        blocks: impl Fn(&[usize]) -> Result<Vec<Block>>,
    ) -> Result<Parameters> {
        for (i, d) in self.declarations.iter().enumerate() {
            if self.declarations[..i].iter().any(|other| other.name == d.name) {
                return Err(Error::data(format!("two parameters are called '{}'", d.name)));
            }
        }
        let slab = |with_buffers: bool| -> Result<Vec<Tensor>> {
            let size = |d: &Declaration| if d.is_buffer() && !with_buffers { 0 } else { d.shape.len() * dtype.size() };
            let blocks = blocks(&self.declarations.iter().map(size).collect::<Vec<_>>())?;
            Ok(blocks
                .into_iter()
                .zip(&self.declarations)
                .map(|(block, d)| {
                    let shape = if block.bytes() == 0 { Shape::new(&[0]) } else { d.shape };
                    Tensor::from_block(Arc::new(block), shape, dtype, device)
                })
                .collect())
        };
        Ok(Parameters {
            values: slab(true)?,
            gradients: slab(false)?,
            written: vec![false; self.declarations.len()],
            frozen: vec![false; self.groups.len()],
            declarations: self.declarations,
            groups: self.groups,
            dtype,
            device,
        })
    }
}

/// The parameters of a model, with their gradients.
#[derive(Debug)]
pub struct Parameters {
    declarations: Vec<Declaration>,
    values: Vec<Tensor>,
    gradients: Vec<Tensor>,
    /// Whether a gradient was written since [`clear_gradients`](Self::clear_gradients).
    written: Vec<bool>,
    /// Names of the layer groups.
    groups: Vec<String>,
    /// By layer group.
    frozen: Vec<bool>,
    dtype: DType,
    device: Device,
}

impl Parameters {
    pub fn builder() -> ParametersBuilder {
        ParametersBuilder::default()
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The same values on a device: the same slabs where they are there already, else new ones.
    /// Frozen groups stay frozen; gradients are forgotten.
    pub fn to_device(self, device: Device) -> Result<Self> {
        if self.device == device {
            return Ok(self);
        }
        let declared = ParametersBuilder { declarations: self.declarations, groups: self.groups, prefix: "" };
        let mut there = declared.build_on(device, self.dtype)?;
        there.values.iter().zip(&self.values).for_each(|(to, from)| to.copy_from(from));
        there.frozen = self.frozen;
        Ok(there)
    }

    /// Where the slabs are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Number of parameters and buffers.
    pub fn count(&self) -> usize {
        self.declarations.len()
    }

    /// Number of trainable values.
    pub fn trainable_values(&self) -> usize {
        self.declarations.iter().filter(|d| !d.is_buffer()).map(|d| d.shape.len()).sum()
    }

    pub fn ids(&self) -> impl Iterator<Item = ParameterId> + use<> {
        (0..self.declarations.len()).map(ParameterId)
    }

    pub fn name(&self, id: ParameterId) -> &str {
        &self.declarations[id.0].name
    }

    pub fn find(&self, name: &str) -> Option<ParameterId> {
        self.declarations.iter().position(|d| d.name == name).map(ParameterId)
    }

    pub fn shape(&self, id: ParameterId) -> Shape {
        self.declarations[id.0].shape
    }

    pub fn group(&self, id: ParameterId) -> usize {
        self.declarations[id.0].group
    }

    /// Whether this is a buffer (saved, never trained).
    pub fn is_buffer(&self, id: ParameterId) -> bool {
        self.declarations[id.0].is_buffer()
    }

    pub fn role(&self, id: ParameterId) -> Role {
        self.declarations[id.0].role
    }

    /// Names of the layer groups, the one nearest to the input first.
    pub fn group_names(&self) -> &[String] {
        &self.groups
    }

    /// Number of layer groups.
    pub fn groups(&self) -> usize {
        self.frozen.len()
    }

    pub fn set_frozen(&mut self, group: usize, frozen: bool) {
        self.frozen[group] = frozen;
    }

    pub fn is_frozen(&self, group: usize) -> bool {
        self.frozen[group]
    }

    /// Whether gradients of this parameter are computed and used.
    pub fn is_trainable(&self, id: ParameterId) -> bool {
        !self.is_buffer(id) && !self.is_frozen(self.group(id))
    }

    /// The value; the tensor shares the slab's memory.
    pub fn value(&self, id: ParameterId) -> &Tensor {
        &self.values[id.0]
    }

    /// The gradient; meaningful where [`has_gradient`](Self::has_gradient). Shares the slab's
    /// memory.
    pub fn gradient(&self, id: ParameterId) -> &Tensor {
        &self.gradients[id.0]
    }

    pub fn has_gradient(&self, id: ParameterId) -> bool {
        self.written[id.0]
    }

    /// Forgets all gradients (the next write to each replaces it).
    pub fn clear_gradients(&mut self) {
        self.written.fill(false);
    }

    /// Zeroes the gradients that no backward has written, so that the optimiser sees every
    /// trainable parameter.
    pub fn zero_missing_gradients(&mut self) {
        for i in 0..self.written.len() {
            if !self.written[i] && self.is_trainable(ParameterId(i)) {
                self.gradients[i].fill_zero();
                self.written[i] = true;
            }
        }
    }

    /// Marks a gradient as written; tells whether it was before.
    pub(super) fn touch(&mut self, id: ParameterId) -> bool {
        std::mem::replace(&mut self.written[id.0], true)
    }
}
