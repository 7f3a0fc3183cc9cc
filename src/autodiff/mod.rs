//! Reverse-mode differentiation on a linear tape.
//!
//! [`Graph`] runs operations, keeps their results and records, for everything that a gradient has
//! to flow through, one named node with what its backward needs. [`Graph::backward`] consumes the
//! tape in reverse. Parameters live in [`Parameters`]: one slab of values, one of gradients,
//! divided into layer groups with frozen flags. State leaves a step only through [`Graph::detach`].
//!
//! # A new operation
//!
//! ```
//! use ulmfit::autodiff::{Attributes, Backward, Graph, Operation, Parameters, Store, Var};
//! use ulmfit::error::Result;
//! use ulmfit::tensor::{Device, DType, Tensor};
//!
//! /// y = x²
//! struct Square;
//!
//! impl Operation for Square {
//!     fn name(&self) -> &'static str {
//!         "square"
//!     }
//!     fn backward(&self, b: &mut Backward) -> Result<()> {
//!         let Some(dy) = b.grad_output(0).cloned() else { return Ok(()) };
//!         let x = b.input(0).clone();
//!         if let Some((dx, store)) = b.grad_input(0)?
//!             && b.computes()
//!         {
//!             let (x, dy, mut dx) = (x.read::<f64>(), dy.read::<f64>(), dx.write::<f64>());
//!             for i in 0..dx.len() {
//!                 let g = 2.0 * x[i] * dy[i];
//!                 if store == Store::Add { dx[i] += g } else { dx[i] = g }
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! fn square(g: &mut Graph, x: Var) -> Result<Var> {
//!     let y = g.uninitialised(g.shape(x), g.dtype(x))?;
//!     // buffers first; a dry graph, which plans, computes nothing
//!     if g.computes() {
//!         let x = g.tensor(x).read::<f64>();
//!         y.write::<f64>().iter_mut().zip(x.iter()).for_each(|(y, x)| *y = x * x);
//!     }
//!     g.record(&Square, &[x], &[], Attributes::none(), y)
//! }
//!
//! let mut parameters = Parameters::builder();
//! let w = parameters.add("w", &[3], 0);
//! let mut parameters = parameters.build(DType::F64)?;
//! parameters.value(w).set_f64(&[1.0, -2.0, 3.0]);
//! let mut g = Graph::new(Device::Cpu, DType::F64, None);
//! let x = g.parameter(&parameters, w);
//! let y = square(&mut g, x)?;
//! g.backward_from(&[(y, Tensor::from_slice(&[3], &[1.0f64; 3])?)], &mut parameters)?;
//! assert_eq!(parameters.gradient(w).to_f64(), [2.0, -4.0, 6.0]);
//! # Ok::<(), ulmfit::error::Error>(())
//! ```

mod graph;
mod parameters;
mod tape;

pub(crate) use graph::Keep;
pub use graph::{Counted, Fault, Graph, Var};
pub use parameters::{Group, ParameterId, Parameters, ParametersBuilder, Role};
pub use tape::{Attributes, Backward, Operation};

pub use crate::device::cpu::gemm::Store;
