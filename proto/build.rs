//! Compiles the `.proto` files in pure Rust, so that a fresh machine needs no `protoc`.

#![expect(clippy::disallowed_methods, reason = "a build script reads its environment and writes its output")]

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

/// A protobuf package: its file, the name of its descriptor set in `OUT_DIR`, and whether a server is generated.
/// The agent answers the query services with messages that are already encoded, which a generated server cannot take.
const PACKAGES: [(&str, &str, bool); 4] = [
    ("podresources/v1/podresources.proto", "podresources_v1.bin", true),
    ("podresources/v1alpha1/podresources.proto", "podresources_v1alpha1.bin", false),
    ("runtime/v1/runtime.proto", "runtime_v1.bin", true),
    ("trimtab/node/v1alpha1/node_state.proto", "node_v1alpha1.bin", false),
];

/// Files of which only the messages are used: what carries them is written by hand.
const MESSAGES: [&str; 2] = ["nri/v1alpha1/nri.proto", "ttrpc/ttrpc.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for (file, descriptors, server) in PACKAGES {
        println!("cargo::rerun-if-changed={file}");
        let mut set = protox::compile([file], ["."])?;
        tonic_prost_build::configure().build_server(server).build_transport(false).compile_fds(set.clone())?;
        // Comments are three quarters of the set and of no use to a client that asks for reflection.
        for file in &mut set.file {
            file.source_code_info = None;
        }
        fs::write(out.join(descriptors), set.encode_to_vec())?;
    }
    for file in MESSAGES {
        println!("cargo::rerun-if-changed={file}");
        tonic_prost_build::configure().build_transport(false).compile_fds(protox::compile([file], ["."])?)?;
    }
    Ok(())
}
