//! The program from outside: the commands on the CPU, through the binary.

#[path = "../support/mod.rs"]
mod support;

mod awkward_runs;
mod bad_input;
mod bad_models;
mod base;
mod cli;
mod commands;
mod data_check;
mod elsewhere;
mod end_to_end;
mod experiments;
mod explain;
mod export;
mod exports;
mod foreign;
mod get;
mod guide;
mod import;
mod inspect;
mod instruments;
mod int8;
mod linear;
mod misread;
mod output;
mod page;
mod recorded_bits;
mod reliability;
mod report;
mod serve;
mod subword;
mod tags;
mod tasks;
mod text_in;
mod together;
mod words_in;
