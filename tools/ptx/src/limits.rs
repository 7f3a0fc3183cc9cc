//! The table of what a kernel may use.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::assemble::Use;
use crate::{Result, read};

/// Ceilings of one kernel, over all architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    registers: u32,
    /// Bytes of static shared memory.
    shared: u32,
}

/// Ceilings by kernel. Spills and stack are allowed to none.
pub struct Table(BTreeMap<String, Limit>);

impl Table {
    pub fn read(path: &Path) -> Result<Self> {
        toml::from_str(&read(path)?).map(Table).map_err(|e| format!("{}: {e}", path.display()))
    }

    #[cfg(test)]
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Registers are rounded up to the eight in which a GPU hands them out.
    pub fn from_measured(measured: &[Use]) -> Self {
        let mut table = BTreeMap::new();
        for used in measured {
            let limit = table.entry(used.kernel.clone()).or_insert(Limit { registers: 0, shared: 0 });
            limit.registers = limit.registers.max(used.registers.next_multiple_of(8));
            limit.shared = limit.shared.max(used.shared);
        }
        Table(table)
    }

    pub fn text(&self) -> String {
        let mut text = "# The most that a kernel may use on any architecture: registers a thread, bytes of static shared\n\
                        # memory a block. 'cargo run -p ptx -- --limits' measures and rewrites; '-- --check' enforces.\n\
                        # No kernel may spill.\n"
            .to_string();
        for (kernel, limit) in &self.0 {
            text += &format!("{kernel} = {{ registers = {}, shared = {} }}\n", limit.registers, limit.shared);
        }
        text
    }

    /// Every kernel has a line that it keeps to, and every line a kernel; nothing spills.
    pub fn check(&self, measured: &[Use]) -> Result<()> {
        for used in measured {
            let Use { kernel, architecture, .. } = used;
            let Some(limit) = self.0.get(kernel) else {
                return Err(format!("kernels/limits.toml has no line for kernel '{kernel}'"));
            };
            for (what, found, most) in [
                ("registers", used.registers, limit.registers),
                ("bytes of shared memory", used.shared, limit.shared),
                ("bytes of stack", used.stack, 0),
                ("bytes of spills", used.spills, 0),
            ] {
                if found > most {
                    return Err(format!(
                        "kernel '{kernel}' takes {found} {what} on sm_{architecture}; at most {most} are allowed"
                    ));
                }
            }
        }
        match self.0.keys().find(|name| measured.iter().all(|used| used.kernel != **name)) {
            Some(name) => Err(format!("kernels/limits.toml names kernel '{name}', which does not exist")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_a_limit_is_named() {
        let a = Use { kernel: "a".into(), architecture: 80, registers: 25, shared: 64, stack: 0, spills: 0 };
        let table = Table::from_measured(std::slice::from_ref(&a));
        assert_eq!(table.0["a"], Limit { registers: 32, shared: 64 });
        let text: BTreeMap<String, Limit> = toml::from_str(&table.text()).unwrap();
        assert_eq!(text, table.0);
        assert_eq!(table.check(std::slice::from_ref(&a)), Ok(()));
        for (changed, word) in [
            (Use { registers: 33, ..a.clone() }, "33 registers"),
            (Use { shared: 65, ..a.clone() }, "65 bytes of shared"),
            (Use { stack: 8, ..a.clone() }, "8 bytes of stack"),
            (Use { spills: 4, ..a.clone() }, "4 bytes of spills"),
            (Use { kernel: "b".into(), ..a.clone() }, "no line for kernel 'b'"),
        ] {
            assert!(table.check(&[changed]).unwrap_err().contains(word), "{word}");
        }
        assert!(table.check(&[]).unwrap_err().contains("does not exist"));
    }
}
