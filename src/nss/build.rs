//! Gives the module the name by which the C library and `ldconfig` know it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libnss_tarnet.so.2");
}
