//! Tells the linker how to write the binary's relative relocations.
//!
//! Of a position-independent program of this size the table of relocations takes 5 MB, all of which the dynamic linker
//! reads at each start; packed (`DT_RELR`) it takes 60 KB. The loader of glibc knows that form from 2.36 on, so that it
//! is used only where the binary is built on, and so for, such a system: <https://sourceware.org/glibc/wiki/Release/2.36>.
//! Whoever chooses a linker, or flags for it, may build for another system, or have one that lacks the option.

use std::{env, process::Command};

#[expect(clippy::disallowed_macros, reason = "what a build script has to say to cargo, it prints")]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTFLAGS");
    if is_native() && is_linked_as_usual() && glibc().is_some_and(|version| version >= (2, 36)) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Whether the binary is for this machine, and for glibc on Linux.
fn is_native() -> bool {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let target = env::var("TARGET").unwrap_or_default();
    is("HOST", &target) && is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu")
}

/// Whether nobody has chosen a linker, or what it does.
fn is_linked_as_usual() -> bool {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    env::var_os("RUSTC_LINKER").is_none() && !flags.contains("link")
}

/// Major and minor number of this machine's glibc. `None`: who knows? Then nothing is packed.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, rest) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    let minor = rest.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
