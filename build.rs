//! Generates the gRPC code from `proto/`, with protox in place of a system `protoc`.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

/// The files with services; what they import comes along.
const SERVICES: [&str; 2] = ["envoy/service/auth/v3/external_auth.proto", "anteroom/v1/waiting_room.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    // A directory stands for every file in it: a new or removed one counts as well.
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(SERVICES)?;
    // Comments become documentation, so the generator gets them; reflection has no use for them.
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .codec_path("crate::pb::codec::SmallCodec")
        .compile_fds(compiler.file_descriptor_set())?;

    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: cargo runs this file")?);
    let descriptors = compiler.include_source_info(false).encode_file_descriptor_set();
    fs::write(out.join("descriptors.bin"), descriptors)?;
    Ok(())
}
