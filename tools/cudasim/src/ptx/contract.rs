//! What an assembler may do with `mul.f32` and `add.f32` that do not say `.rn`: make one `fma` of
//! them. Here it does so where a seed draws it.

use std::collections::HashMap;

use super::{Instruction, Kernel, Operand, Type};
use crate::rng::Rng;

/// Registers that are made up begin with this.
const NEW: &str = "%contracted";

/// Fuses about half of the sums of products that may be fused.
pub fn contract(kernel: &mut Kernel, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut starts: Vec<usize> = kernel.labels.iter().map(|(_, at)| *at).collect();
    starts.sort_unstable();
    // products whose factors still are what they were, by their register
    let mut products: HashMap<String, [Operand; 2]> = HashMap::new();
    let (mut body, mut new, mut moved) = (Vec::with_capacity(kernel.body.len()), 0, Vec::new());
    for (at, i) in std::mem::take(&mut kernel.body).into_iter().enumerate() {
        if starts.binary_search(&at).is_ok() {
            products.clear();
        }
        moved.push(body.len());
        let fused = fusible(&i, &products).filter(|_| rng.below(2) == 1);
        let done = match fused {
            None => i,
            Some((factors, other, signs)) => {
                let mut negate = |operand: &Operand, body: &mut Vec<Instruction>| {
                    let register = Operand::Name(format!("{NEW}{new}"));
                    new += 1;
                    let opcode = words("neg.f32");
                    body.push(Instruction { opcode, operands: vec![register.clone(), operand.clone()], ..i.clone() });
                    register
                };
                let [mut a, b] = factors;
                let mut c = other;
                match signs {
                    Signs::Plain => {}
                    Signs::OtherNegative => c = negate(&c, &mut body),
                    Signs::ProductNegative => a = negate(&a, &mut body),
                }
                Instruction { opcode: words("fma.rn.f32"), operands: vec![i.operands[0].clone(), a, b, c], ..i }
            }
        };
        let written = names(&done.operands[..done.operands.len().min(1)]);
        products.retain(|product, factors| {
            !written.contains(product) && names(factors).iter().all(|f| !written.contains(f))
        });
        if done.opcode[0] == "bra" || done.opcode[0] == "ret" {
            products.clear();
        } else if let Some((register, factors)) = product(&done)
            && !names(&factors).contains(&register)
        {
            products.insert(register, factors);
        }
        body.push(done);
    }
    moved.push(body.len());
    kernel.labels.iter_mut().for_each(|(_, at)| *at = moved[*at]);
    kernel.body = body;
    if new > 0 {
        kernel.registers.push((NEW.into(), Some(new), Some(Type::F32)));
    }
}

fn words(opcode: &str) -> Vec<String> {
    opcode.split('.').map(String::from).collect()
}

/// Whether it is this instruction as it stands, without a guard and without a rounding that is
/// said.
fn is(i: &Instruction, opcode: &str) -> bool {
    i.guard.is_none() && i.name() == opcode
}

/// The register and the factors of a product.
fn product(i: &Instruction) -> Option<(String, [Operand; 2])> {
    let [Operand::Name(register), a, b] = &i.operands[..] else { return None };
    is(i, "mul.f32").then(|| (register.clone(), [a.clone(), b.clone()]))
}

enum Signs {
    Plain,
    OtherNegative,
    ProductNegative,
}

/// The factors of a sum's product, its other term, and their signs.
fn fusible(i: &Instruction, products: &HashMap<String, [Operand; 2]>) -> Option<([Operand; 2], Operand, Signs)> {
    let [_, a, b] = &i.operands[..] else { return None };
    let of = |operand: &Operand| if let Operand::Name(name) = operand { products.get(name).cloned() } else { None };
    let adds = is(i, "add.f32");
    if !adds && !is(i, "sub.f32") {
        return None;
    }
    match (of(a), of(b)) {
        (Some(factors), _) => Some((factors, b.clone(), if adds { Signs::Plain } else { Signs::OtherNegative })),
        (None, Some(factors)) => Some((factors, a.clone(), if adds { Signs::Plain } else { Signs::ProductNegative })),
        (None, None) => None,
    }
}

/// Registers in operands. (Of a store it is those of the address that count as written, which costs
/// a chance to fuse.)
fn names(operands: &[Operand]) -> Vec<String> {
    let mut all = Vec::new();
    for operand in operands {
        match operand {
            Operand::Name(name) | Operand::Not(name) | Operand::Address(Some(name), _) => all.push(name.clone()),
            Operand::Pair(a, b) => all.extend([a.clone(), b.clone()]),
            Operand::Vector(parts) => all.extend(names(parts)),
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ptx::parse;

    fn fused(body: &str) -> Vec<Vec<String>> {
        let text = format!(
            ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry k()\n{{\n.reg .f32 %f<9>;\n.reg .pred %p<2>;\n{body}\nret;\n}}\n"
        );
        let kernel = |seed| {
            let mut kernel = parse(&text).unwrap().kernels.remove(0);
            contract(&mut kernel, seed);
            kernel.body.iter().map(|i| format!("{} {:?}", i.name(), names(&i.operands))).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = (0..20).map(kernel).collect();
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn sums_of_products_are_fused_or_not() {
        let all = fused("mul.f32 %f1, %f2, %f3;\nadd.f32 %f4, %f5, %f1;");
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all.iter().any(|body| body[1] == r#"fma.rn.f32 ["%f4", "%f2", "%f3", "%f5"]"#), "{all:?}");
        let all = fused("mul.f32 %f1, %f2, %f3;\nsub.f32 %f4, %f5, %f1;");
        assert!(
            all.iter().any(|body| body[1..3]
                == [
                    r#"neg.f32 ["%contracted0", "%f2"]"#.to_string(),
                    r#"fma.rn.f32 ["%f4", "%contracted0", "%f3", "%f5"]"#.to_string()
                ]),
            "{all:?}"
        );
        let all = fused("mul.f32 %f1, %f2, %f3;\nsub.f32 %f4, %f1, %f5;");
        assert!(all.iter().any(|body| body[2] == r#"fma.rn.f32 ["%f4", "%f2", "%f3", "%contracted0"]"#), "{all:?}");
    }

    #[test]
    fn what_may_not_be_fused_is_not() {
        for body in [
            "mul.rn.f32 %f1, %f2, %f3;\nadd.f32 %f4, %f5, %f1;",
            "mul.f32 %f1, %f2, %f3;\nadd.rn.f32 %f4, %f5, %f1;",
            "mul.f32 %f1, %f2, %f3;\nmov.f32 %f2, %f5;\nadd.f32 %f4, %f5, %f1;",
            "mul.f32 %f1, %f1, %f3;\nadd.f32 %f4, %f5, %f1;",
            "mul.f32 %f1, %f2, %f3;\nL:\nadd.f32 %f4, %f5, %f1;\nbra L;",
            "@%p1 mul.f32 %f1, %f2, %f3;\nadd.f32 %f4, %f5, %f1;",
            "mul.f32 %f1, %f2, %f3;\n@%p1 add.f32 %f4, %f5, %f1;",
        ] {
            assert_eq!(fused(body).len(), 1, "{body}");
        }
    }
}
