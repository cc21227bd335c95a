//! Compiles the contract without a system `protoc`, and keeps its descriptors for reflection.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

const PROTO: &str = "likeness/v1/likeness.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=likeness");
    let descriptors = protox::Compiler::new(["."])?
        .include_imports(true)
        .include_source_info(true)
        .open_file(PROTO)?
        .file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let encoded = protox::prost::Message::encode_to_vec(&descriptors);
    fs::write(out.join("likeness.v1.bin"), encoded)?;
    tonic_prost_build::configure()
        // A debug print of a request would hold a photograph, and one of a reply a PersonID.
        .skip_debug(["."])
        // A server collects each message itself, and hands it on whole.
        .codec_path("crate::handed::HandedCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
