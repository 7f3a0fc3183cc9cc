//! Switches, read from the environment when the driver is initialised.

use crate::devices::{DEVICES, Device};

/// Which checks run. Bounds, alignment, barriers and shuffles are always checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Reads of registers and memory that were never written.
    pub init: bool,
    /// Races in shared and global memory.
    pub races: bool,
}

/// What the switch `refuse` has refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Cooperative launches, as where programs share a GPU.
    Cooperative,
    /// Captures of a stream.
    Capture,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub device: &'static Device,
    pub checks: Checks,
    /// Sectors and bank conflicts are counted.
    pub counters: bool,
    /// Draws the order of blocks and warps, the length of their turns, and the order of atomics.
    pub seed: u64,
    /// Faults of kernels come out at the next synchronisation and not at the launch.
    pub delay_errors: bool,
    /// What a real driver may refuse, is.
    pub refuse: Option<Refused>,
    /// Seed by which multiplications and additions are fused, where an assembler may.
    pub contract: Option<u64>,
    /// Matrix instructions sum as those of an Ampere: see `exec/matrix.rs`.
    pub truncate: bool,
    /// Readers that are remembered of a word, that nothing orders: one, or slower two.
    pub readers: u32,
    /// Freed addresses are handed out again, as real drivers do.
    pub reuse: bool,
    /// Warp instructions a launch may take.
    pub limit: u64,
    /// The interpreter's form for AVX2 runs, where the processor has it; results are the same.
    pub avx2: bool,
    /// Findings go to standard error.
    pub print: bool,
    /// Counters go here at the end.
    pub json: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            device: &DEVICES[3],
            checks: Checks { init: true, races: true },
            counters: true,
            seed: 0,
            delay_errors: false,
            refuse: None,
            contract: None,
            truncate: false,
            readers: 1,
            reuse: false,
            limit: 20_000_000_000,
            avx2: true,
            print: true,
            json: None,
        }
    }
}

impl Config {
    /// From `CUDASIM_*`; the error says which variable is wrong.
    pub fn from_env() -> Result<Config, String> {
        let mut config = Config::default();
        for key in [
            "GPU",
            "CHECKS",
            "COUNTERS",
            "SEED",
            "DELAY_ERRORS",
            "REFUSE",
            "CONTRACT",
            "MMA",
            "READERS",
            "REUSE",
            "LIMIT",
            "AVX2",
            "PRINT",
            "JSON",
        ] {
            if let Ok(value) = std::env::var(format!("CUDASIM_{key}")) {
                config.set(&key.to_ascii_lowercase(), &value).map_err(|e| format!("CUDASIM_{key}: {e}"))?;
            }
        }
        Ok(config)
    }

    /// Sets one switch by the name of its variable in lower case, without the prefix.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let switch = || match value {
            "1" | "on" | "true" => Ok(true),
            "0" | "off" | "false" => Ok(false),
            _ => Err(format!("`{value}` is neither on nor off")),
        };
        let number = || value.parse::<u64>().map_err(|_| format!("`{value}` is not a whole number"));
        match key {
            "gpu" => {
                self.device = Device::find(value).ok_or_else(|| {
                    let known: Vec<&str> = DEVICES.iter().map(|d| d.key).collect();
                    format!("unknown GPU `{value}`; known are {}", known.join(", "))
                })?;
            }
            "checks" => {
                self.checks = match value {
                    "init" => Checks { init: true, races: false },
                    "races" => Checks { init: false, races: true },
                    _ => Checks { init: switch()?, races: switch()? },
                };
            }
            "counters" => self.counters = switch()?,
            "seed" => self.seed = number()?,
            "delay_errors" => self.delay_errors = switch()?,
            "refuse" => {
                self.refuse = match value {
                    "off" => None,
                    "cooperative" => Some(Refused::Cooperative),
                    "capture" => Some(Refused::Capture),
                    _ => return Err(format!("`{value}` is none of off, cooperative, capture")),
                };
            }
            "contract" => self.contract = if value == "off" { None } else { Some(number()?) },
            "mma" => {
                self.truncate = match value {
                    "exact" => false,
                    "truncate" => true,
                    _ => return Err(format!("`{value}` is neither exact nor truncate")),
                };
            }
            "readers" => {
                self.readers = match value {
                    "1" => 1,
                    "2" => 2,
                    _ => return Err(format!("`{value}` is neither 1 nor 2")),
                };
            }
            "reuse" => self.reuse = switch()?,
            "limit" => self.limit = number()?,
            "avx2" => self.avx2 = switch()?,
            "print" => self.print = switch()?,
            "json" => self.json = Some(value.to_string()).filter(|v| !v.is_empty()),
            _ => return Err(format!("unknown switch `{key}`")),
        }
        Ok(())
    }
}
