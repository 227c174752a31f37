//! The fuzz targets under `cargo fuzz`; the bodies are in [`bodies`] and [`wire`], which plain tests run too.

pub mod bodies;
pub mod wire;

/// What a target is; plain tests replay the corpora.
pub mod replay {
    /// A fuzz target: its name, which is that of its corpus, and its body.
    pub type Target = (&'static str, fn(&[u8]));
}
