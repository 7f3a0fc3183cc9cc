//! One class for a document: masked concat pooling, then blocks of batch norm, dropout and linear
//! layer (docs/SPEC.md §1.6).

use super::super::noise::Noise;
use super::super::{initial, sites};
use super::{Answers, Features, Head, HeadLoss, Targets};
use crate::autodiff::{Graph, Group, ParameterId, Parameters, ParametersBuilder, Role, Var};
use crate::error::Result;
use crate::ops::batch_norm::{EPSILON, batch_norm};
use crate::ops::concat_pool::{Masking, concat_pool};
use crate::ops::dropout::dropout;
use crate::ops::linear::linear;
use crate::ops::pair_features::pair_features;
use crate::ops::relu::relu;
use crate::random::Key;
use crate::tensor::Tensor;
use crate::trace;

/// One block of the head: batch norm → dropout → linear, ReLU after all but the last.
#[derive(Clone, Copy, Debug)]
struct Block {
    weight: ParameterId,
    bias: ParameterId,
    mean: ParameterId,
    variance: ParameterId,
    linear: ParameterId,
    linear_bias: Option<ParameterId>,
    part: trace::Layer,
}

/// A block of the head as it computes in evaluation, in f64: `W·(scale ⊙ x + shift) + bias`.
#[derive(Clone, Debug)]
pub struct AffineBlock {
    /// The batch norm's, `[F]` each.
    pub scale: Vec<f64>,
    pub shift: Vec<f64>,
    /// The mean of its inputs in training, `[F]`.
    pub mean: Vec<f64>,
    /// `[O, F]`
    pub weight: Vec<f64>,
    /// `[O]`; zeros where the layer has none.
    pub bias: Vec<f64>,
}

/// The outputs of the head for a batch.
#[derive(Clone, Debug)]
pub struct Pooled {
    /// `[B, C]`
    pub logits: Var,
    /// `[B, 3E]`, of pairs `[B, 12E]`
    pub pooled: Var,
    /// Inputs of the ReLUs, `[B, n]` each.
    pub hidden: Vec<Var>,
}

/// Parameters of the head.
#[derive(Clone, Debug)]
pub struct PooledClasses {
    answers: Answers,
    blocks: Vec<Block>,
    masking: Masking,
    norm_bias: f64,
    /// Where the time of the pooling is counted.
    part: trace::Layer,
}

impl PooledClasses {
    /// Declares the parameters. `sizes`: widths from the pooled vector (3E; of a pair 12E) to the
    /// classes; `linear_bias`: whether linear layers have a bias; `norm_bias`: start value of the
    /// batch norms' bias.
    pub fn declare(
        builder: &mut ParametersBuilder,
        group: Group,
        answers: Answers,
        sizes: &[usize],
        masking: Masking,
        linear_bias: bool,
        norm_bias: f64,
    ) -> Self {
        let block = |(k, size): (usize, &[usize])| {
            let mut add =
                |name: &str, shape: &[usize], role| builder.declare(format!("head.{k}.{name}"), shape, group, role);
            Block {
                weight: add("norm.weight", &[size[0]], Role::Norm),
                bias: add("norm.bias", &[size[0]], Role::Norm),
                mean: add("norm.running_mean", &[size[0]], Role::Buffer),
                variance: add("norm.running_var", &[size[0]], Role::Buffer),
                linear: add("linear.weight", &[size[1], size[0]], Role::Matrix),
                linear_bias: linear_bias.then(|| add("linear.bias", &[size[1]], Role::Bias)),
                part: trace::Layer::named(&format!("head{}", k + 1)),
            }
        };
        let part = trace::Layer::named("pooling");
        PooledClasses { answers, blocks: sizes.windows(2).enumerate().map(block).collect(), masking, norm_bias, part }
    }

    /// Its blocks in evaluation; between two of them is a ReLU.
    pub fn affine_blocks(&self, parameters: &Parameters) -> Vec<AffineBlock> {
        let of = |id: ParameterId| parameters.value(id).to_f64();
        let block = |block: &Block| {
            let (weight, mean, variance) = (of(block.linear), of(block.mean), of(block.variance));
            let scale: Vec<f64> =
                of(block.weight).iter().zip(&variance).map(|(w, v)| w / (v + EPSILON).sqrt()).collect();
            let shift = of(block.bias).iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
            let outputs = weight.len() / scale.len().max(1);
            let bias = block.linear_bias.map_or_else(|| vec![0.0; outputs], of);
            AffineBlock { scale, shift, mean, weight, bias }
        };
        self.blocks.iter().map(block).collect()
    }

    /// Logits of every row.
    ///
    /// # Errors
    /// No memory left, chunks that lack steps.
    pub fn logits(&self, g: &mut Graph, parameters: &Parameters, features: &Features, noise: &Noise) -> Result<Pooled> {
        let Features { chunks, start, first, lengths, norm, pairs, .. } = *features;
        let first = vec![first as u32; lengths.len()];
        let lengths = g.constant(Tensor::from_slice([lengths.len()], lengths)?);
        let first = g.constant(Tensor::from_slice([first.len()], &first)?);
        let part = trace::within(self.part);
        let mut pooled = concat_pool(g, chunks, start, lengths, first, self.masking)?;
        if let Some([first, second]) = pairs {
            pooled = pair_features(g, pooled, first, second)?;
        }
        drop(part);
        let (mut x, mut hidden) = (pooled, Vec::with_capacity(self.blocks.len()));
        for (k, block) in self.blocks.iter().enumerate() {
            let _part = trace::within(block.part);
            if k > 0 {
                hidden.push(x);
                x = relu(g, x)?;
            }
            let (weight, bias) = (g.parameter(parameters, block.weight), g.parameter(parameters, block.bias));
            let (mean, variance) = (parameters.value(block.mean), parameters.value(block.variance));
            x = batch_norm(g, x, weight, bias, mean, variance, norm)?;
            x = dropout(g, x, &noise.mask(sites::HEAD.site(k)?, noise.head_rate(k))?)?;
            let w = g.parameter(parameters, block.linear);
            let b = block.linear_bias.map(|b| g.parameter(parameters, b));
            x = linear(g, x, w, b)?;
        }
        Ok(Pooled { logits: x, pooled, hidden })
    }
}

impl Head for PooledClasses {
    /// Linear layers U(±1/√n_in) (Kaiming-uniform with a = √5); batch norms 1 and the bias that was
    /// declared.
    fn initialise(&self, parameters: &Parameters, key: Key) -> Result<()> {
        for block in &self.blocks {
            initial::constant(parameters, block.weight, 1.0);
            initial::constant(parameters, block.bias, self.norm_bias);
            initial::constant(parameters, block.mean, 0.0);
            initial::constant(parameters, block.variance, 1.0);
            let range = 1.0 / (parameters.shape(block.linear).dims()[1] as f64).sqrt();
            initial::uniform(parameters, block.linear, key, range)?;
            if let Some(bias) = block.linear_bias {
                initial::uniform(parameters, bias, key, range)?;
            }
        }
        Ok(())
    }

    fn loss(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        features: &Features,
        targets: &Targets,
        noise: &Noise,
    ) -> Result<HeadLoss> {
        let logits = self.logits(g, parameters, features, noise)?.logits;
        let loss = self.answers.loss(g, logits, targets)?;
        Ok(HeadLoss { loss, dropped: None })
    }
}
