//! A benchmark in progress, as the suites see it.

use super::clock::Effort;
use super::format::Format;
use super::report::Row;
use crate::error::{Error, Result};

/// Steps of a window where work is counted on the simulated GPU, so that it takes minutes; the rows
/// say so.
pub(super) const COUNTED: usize = 2;

/// A benchmark in progress.
pub(super) struct Bench<'a> {
    pub quick: bool,
    /// Sizes of a second at most, for tests; the rows name them.
    pub reduced: bool,
    /// Only what has this name.
    pub only: Option<&'a str>,
    /// Each has its own rows.
    pub formats: &'a [Format],
    pub rows: Vec<Row>,
    pub skipped: Vec<String>,
    pub told: &'a mut dyn FnMut(&Row) -> Result<()>,
}

impl Bench<'_> {
    /// Whether rows of this name are asked for; others are neither verified nor timed.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_none_or(|only| only == name)
    }

    pub fn effort(&self, effort: Effort, format: Format) -> Effort {
        effort.quick(self.quick || self.reduced).on(format)
    }

    /// Notes what cannot be measured on a device.
    pub fn skip(&mut self, why: &Error) {
        let why = why.to_string();
        if !self.skipped.contains(&why) {
            self.skipped.push(why);
        }
    }

    /// Whether something is counted on the simulated GPU.
    pub fn is_counted(&self) -> bool {
        self.formats.iter().any(|format| format.is_counted())
    }

    pub fn row(&mut self, row: Row) -> Result<()> {
        if !self.wants(&row.name) {
            return Ok(());
        }
        (self.told)(&row)?;
        self.rows.push(row);
        Ok(())
    }
}
