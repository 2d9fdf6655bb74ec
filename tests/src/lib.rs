//! What the live tests share: starting workloads, running pyalloc, comparing what both say.

pub mod broker;
pub mod browser;
pub mod code;
pub mod container;
pub mod corpus;
pub mod demo_service;
pub mod doomed;
pub mod guard;
pub mod http;
pub mod interpreters;
pub mod looker;
pub mod lookup;
pub mod readers;
pub mod sample;
pub mod skip;
pub mod source;
pub mod tracer;
pub mod workload;
