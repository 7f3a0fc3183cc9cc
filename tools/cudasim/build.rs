//! Gives the library the name under which programs ask for the CUDA driver, while its file keeps
//! another one, so that it never shadows a real driver by lying in a library path.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
}
