//! Tensors: a contiguous buffer, a run-time shape and an element type, on a device. No strides, no
//! type parameters.

pub mod file;
mod shape;

use std::sync::Arc;

pub use shape::Shape;

use crate::device::cuda::Argument;
use crate::device::{Block, Pool};
pub use crate::device::{DType, Device, Element, Read, Real, Write, bf16};
use crate::error::{Error, Result};

/// A dense, row-major array of one of four element types. Cloning shares the memory.
///
/// ```
/// use ulmfit::tensor::Tensor;
/// let x = Tensor::from_slice(&[2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// assert_eq!(x.dims(), [2, 3]);
/// assert_eq!(x.read::<f32>()[4], 5.0);
/// # Ok::<(), ulmfit::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tensor {
    block: Arc<Block>,
    shape: Shape,
    dtype: DType,
    device: Device,
}

impl Tensor {
    /// A tensor over a whole block. The block must hold at least the shape's elements.
    pub fn from_block(block: Arc<Block>, shape: Shape, dtype: DType, device: Device) -> Self {
        assert!(block.bytes() >= shape.len() * dtype.size(), "the block is too small for shape {shape}");
        Tensor { block, shape, dtype, device }
    }

    /// A tensor with memory from a pool; its content is undefined.
    pub fn uninitialised(pool: &mut Pool, shape: impl Into<Shape>, dtype: DType) -> Result<Self> {
        let shape = shape.into();
        let block = pool.take(shape.len() * dtype.size())?;
        Ok(Tensor { block, shape, dtype, device: pool.device() })
    }

    /// A tensor of zeros on the CPU, with memory of its own.
    pub fn zeros(shape: impl Into<Shape>, dtype: DType) -> Result<Self> {
        let shape = shape.into();
        let block = Arc::new(Block::new(Device::Cpu, shape.len() * dtype.size())?);
        Ok(Tensor { block, shape, dtype, device: Device::Cpu })
    }

    /// A tensor of a dry graph without a block of its pool, as a caller brings it: indices have
    /// values, zeros.
    pub fn dry(shape: impl Into<Shape>, dtype: DType) -> Self {
        let shape = shape.into();
        let block = Arc::new(Block::dry(shape.len() * dtype.size()));
        Tensor { block, shape, dtype, device: Device::Cpu }
    }

    /// A tensor of zeros on any device, with memory of its own.
    pub fn zeros_on(device: Device, shape: impl Into<Shape>, dtype: DType) -> Result<Self> {
        let shape = shape.into();
        let block = Arc::new(Block::new(device, shape.len() * dtype.size())?);
        let tensor = Tensor { block, shape, dtype, device };
        if device != Device::Cpu {
            tensor.fill_zero();
        }
        Ok(tensor)
    }

    /// The same values on a device: the tensor itself if it is there, else a copy with memory of
    /// its own.
    ///
    /// # Errors
    /// No memory, or an error of the GPU that it comes from.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        if self.device == device {
            return Ok(self.clone());
        }
        let block = Arc::new(Block::new(device, self.len() * self.dtype.size())?);
        let copy = Tensor { block, shape: self.shape, dtype: self.dtype, device };
        copy.copy_from(self);
        if let Device::Cuda(gpu) = self.device {
            crate::device::cuda::context(gpu)?.synchronise()?;
        }
        Ok(copy)
    }

    /// A tensor on the CPU with memory of its own, copied from a slice of `shape`'s length.
    pub fn from_slice<T: Element>(shape: impl Into<Shape>, values: &[T]) -> Result<Self> {
        let shape = shape.into();
        if shape.len() != values.len() {
            return Err(Error::shape("tensor", "values", format!("{} values for {shape}", shape.len()), values.len()));
        }
        let tensor = Self::zeros(shape, T::DTYPE)?;
        tensor.write::<T>().copy_from_slice(values);
        Ok(tensor)
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn device(&self) -> Device {
        self.device
    }

    /// Whether this is a tensor of a dry graph: a size without numbers. To set, fill or copy it
    /// does nothing, but to indices (u32), which are kept.
    pub fn is_dry(&self) -> bool {
        self.block.is_dry()
    }

    fn has_no_numbers(&self) -> bool {
        self.is_dry() && self.dtype != DType::U32
    }

    /// The elements as an argument of a kernel. Panics unless the tensor is on a GPU (a bug in an
    /// operation).
    pub fn argument(&self) -> Argument<'_> {
        self.block.argument(0)
    }

    /// The elements from the `first` one on as an argument of a kernel.
    pub fn argument_from(&self, first: usize) -> Argument<'_> {
        assert!(first <= self.len(), "an argument past the end of a tensor");
        self.block.argument(first * self.dtype.size())
    }

    /// Copies the elements to the host.
    fn host<T: Element>(&self) -> Vec<T> {
        let mut values = vec![T::zeroed(); self.len()];
        match self.device {
            Device::Cpu => values.copy_from_slice(&self.read::<T>()),
            Device::Cuda(_) => self.block.download(0, bytemuck::cast_slice_mut(&mut values)),
        }
        values
    }

    /// Takes over elements of the host.
    fn set_host<T: Element>(&self, values: &[T]) {
        match self.device {
            Device::Cpu => self.write::<T>().copy_from_slice(values),
            Device::Cuda(_) => self.upload(0, values),
        }
    }

    /// Takes over elements of the host into memory of a GPU, from element `first` on.
    pub(crate) fn upload<T: Element>(&self, first: usize, values: &[T]) {
        assert!(T::DTYPE == self.dtype && first + values.len() <= self.len(), "an upload that does not fit");
        self.block.upload(first * size_of::<T>(), bytemuck::cast_slice(values));
    }

    /// The elements, shared. Panics on another element type, while somebody writes, or on a GPU
    /// (bugs in an operation).
    pub fn read<T: Element>(&self) -> Read<'_, T> {
        assert_eq!(T::DTYPE, self.dtype, "a {} tensor is read as {}", self.dtype, T::DTYPE);
        self.block.read(self.shape.len())
    }

    /// The elements, exclusive. Panics on another element type, while somebody else reads or
    /// writes, or on a GPU (bugs in an operation).
    pub fn write<T: Element>(&self) -> Write<'_, T> {
        assert_eq!(T::DTYPE, self.dtype, "a {} tensor is written as {}", self.dtype, T::DTYPE);
        self.block.write(self.shape.len())
    }

    /// The same memory under another shape of the same length.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if shape.len() != self.len() {
            return Err(Error::shape("reshape", "shape", format!("{} elements", self.len()), shape));
        }
        Ok(Tensor { shape, ..self.clone() })
    }

    /// The first rows (along the first axis) as a tensor over the same memory.
    pub fn leading_rows(&self, rows: usize) -> Result<Self> {
        let mut dims = self.shape;
        if self.shape.rank() == 0 || rows > dims.dims()[0] {
            return Err(Error::shape("leading_rows", "rows", format!("at most those of {}", self.shape), rows));
        }
        dims.set(0, rows);
        Ok(Tensor { shape: dims, ..self.clone() })
    }

    /// Whether two tensors share their memory.
    pub fn same_memory(&self, other: &Tensor) -> bool {
        Arc::ptr_eq(&self.block, &other.block)
    }

    /// All elements as f64 (u32, f32 and bf16 convert exactly). From a GPU they are copied, after
    /// all that was launched before; if that fails, they are zeros and the next launch returns the
    /// error.
    pub fn to_f64(&self) -> Vec<f64> {
        if self.device != Device::Cpu {
            return match self.dtype {
                DType::F32 => self.host::<f32>().iter().map(|&x| f64::from(x)).collect(),
                DType::F64 => self.host::<f64>(),
                DType::BF16 => self.host::<bf16>().iter().map(|x| x.to_f64()).collect(),
                DType::U32 => self.host::<u32>().iter().map(|&x| f64::from(x)).collect(),
            };
        }
        match self.dtype {
            DType::F32 => self.read::<f32>().iter().map(|&x| f64::from(x)).collect(),
            DType::F64 => self.read::<f64>().to_vec(),
            DType::BF16 => self.read::<bf16>().iter().map(|x| x.to_f64()).collect(),
            DType::U32 => self.read::<u32>().iter().map(|&x| f64::from(x)).collect(),
        }
    }

    /// Sets all elements from f64, rounding to the tensor's type.
    pub fn set_f64(&self, values: &[f64]) {
        assert_eq!(values.len(), self.len(), "as many values as elements");
        if self.has_no_numbers() {
            return;
        }
        if self.device != Device::Cpu {
            return match self.dtype {
                DType::F32 => self.set_host(&values.iter().map(|&x| x as f32).collect::<Vec<_>>()),
                DType::F64 => self.set_host(values),
                DType::BF16 => self.set_host(&values.iter().map(|&x| bf16::from_f64(x)).collect::<Vec<_>>()),
                DType::U32 => self.set_host(&values.iter().map(|&x| x as u32).collect::<Vec<_>>()),
            };
        }
        match self.dtype {
            DType::F32 => self.write::<f32>().iter_mut().zip(values).for_each(|(y, &x)| *y = x as f32),
            DType::F64 => self.write::<f64>().copy_from_slice(values),
            DType::BF16 => self.write::<bf16>().iter_mut().zip(values).for_each(|(y, &x)| *y = bf16::from_f64(x)),
            DType::U32 => self.write::<u32>().iter_mut().zip(values).for_each(|(y, &x)| *y = x as u32),
        }
    }

    /// Sets every element to zero.
    pub fn fill_zero(&self) {
        if self.has_no_numbers() {
            return;
        }
        if self.device != Device::Cpu {
            return self.block.zero(self.len() * self.dtype.size());
        }
        match self.dtype {
            DType::F32 => self.write::<f32>().fill(0.0),
            DType::F64 => self.write::<f64>().fill(0.0),
            DType::BF16 => self.write::<bf16>().fill(bf16::ZERO),
            DType::U32 => self.write::<u32>().fill(0),
        }
    }

    /// Copies the elements of a tensor of the same type and length, from any device.
    pub fn copy_from(&self, other: &Tensor) {
        assert!(self.dtype == other.dtype && self.len() == other.len(), "copy between unlike tensors");
        self.copy_elements(0, other, 0, self.len());
    }

    /// Copies a row (along the first axis) of a tensor whose rows are alike, from any device.
    pub fn copy_row(&self, row: usize, other: &Tensor, other_row: usize) {
        let width = |t: &Tensor| t.len() / t.dims()[0].max(1);
        assert!(self.dtype == other.dtype && width(self) == width(other), "copy between unlike rows");
        self.copy_elements(row * width(self), other, other_row * width(other), width(self));
    }

    /// Copies `n` elements of a tensor of the same type.
    pub fn copy_elements(&self, to: usize, other: &Tensor, from: usize, n: usize) {
        // from or to a size alone
        if self.has_no_numbers() || other.has_no_numbers() {
            return;
        }
        match self.dtype {
            DType::F32 => self.copy_typed::<f32>(to, other, from, n),
            DType::F64 => self.copy_typed::<f64>(to, other, from, n),
            DType::BF16 => self.copy_typed::<bf16>(to, other, from, n),
            DType::U32 => self.copy_typed::<u32>(to, other, from, n),
        }
    }

    fn copy_typed<T: Element>(&self, to: usize, other: &Tensor, from: usize, n: usize) {
        let size = size_of::<T>();
        match (self.device, other.device) {
            (Device::Cpu, Device::Cpu) => {
                self.write::<T>()[to..to + n].copy_from_slice(&other.read::<T>()[from..from + n]);
            }
            (Device::Cuda(_), Device::Cpu) => {
                self.block.upload(to * size, bytemuck::cast_slice(&other.read::<T>()[from..from + n]));
            }
            (Device::Cpu, Device::Cuda(_)) => {
                other.block.download(from * size, bytemuck::cast_slice_mut(&mut self.write::<T>()[to..to + n]));
            }
            (Device::Cuda(a), Device::Cuda(b)) => {
                assert_eq!(a, b, "a copy between two GPUs");
                self.block.copy(to * size, &other.block, from * size, n * size);
            }
        }
    }

    /// The only element of a tensor of one element.
    pub fn scalar(&self) -> f64 {
        assert_eq!(self.len(), 1, "a scalar has one element");
        if self.device != Device::Cpu {
            return self.to_f64()[0];
        }
        match self.dtype {
            DType::F32 => f64::from(self.read::<f32>()[0]),
            DType::F64 => self.read::<f64>()[0],
            DType::BF16 => self.read::<bf16>()[0].to_f64(),
            DType::U32 => f64::from(self.read::<u32>()[0]),
        }
    }
}

/// Runs `$body` with `$t` standing for f32 or f64, by the run-time type of a tensor; any other type
/// is a shape error of `$operation`.
#[macro_export]
macro_rules! real_type {
    ($operation:expr, $argument:expr, $dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::tensor::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::tensor::DType::F64 => {
                type $t = f64;
                $body
            }
            other => return Err($crate::error::Error::shape($operation, $argument, "f32 or f64", other)),
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_types_round_trip() {
        for dtype in [DType::F32, DType::F64, DType::BF16, DType::U32] {
            let t = Tensor::zeros([2, 3], dtype).unwrap();
            t.set_f64(&[0.0, 1.0, 2.0, 3.0, 4.0, 250.0]);
            assert_eq!(t.to_f64(), [0.0, 1.0, 2.0, 3.0, 4.0, 250.0]);
        }
    }

    #[test]
    fn views_share_memory() {
        let t = Tensor::from_slice([4, 2], &[0u32, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        let rows = t.leading_rows(3).unwrap();
        assert_eq!((rows.dims(), rows.same_memory(&t)), (&[3, 2][..], true));
        assert!(t.leading_rows(5).is_err() && t.reshape([3, 3]).is_err());
        assert_eq!(t.reshape([8]).unwrap().read::<u32>()[7], 7);
    }

    #[test]
    #[should_panic(expected = "is read as f64")]
    fn a_wrong_type_is_a_bug() {
        Tensor::zeros([1], DType::F32).unwrap().read::<f64>();
    }
}
