//! The fuzz targets under `cargo fuzz`; the bodies are in [`bodies`], which a plain test of the domain runs too.

pub mod bodies;
