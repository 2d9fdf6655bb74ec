//! What the live tests share: starting workloads, running pyalloc, reading what they print.
