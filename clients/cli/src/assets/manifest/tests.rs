use super::*;

const DIGEST: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

fn package(fields: &str, to: &str) -> String {
    format!(
        "format = 1\n[[package]]\nname = 'a'\nversion = '1'\narchive = 'a-1.tgz'\nbytes = 0\nblake3 = '{DIGEST}'\n\
         licence = 'MIT'\n{fields}\n[[package.file]]\npath = 'p'\nto = '{to}'\nbytes = 0\nblake3 = '{DIGEST}'\n"
    )
}

fn refusal(text: &str) -> String {
    Manifest::parse(text).expect_err("must be refused").to_string()
}

#[test]
fn the_default_manifest_parses_and_serves_the_machines_it_names() {
    let manifest = Manifest::parse(crate::assets::DEFAULT_MANIFEST).expect("a valid manifest");
    for machine in ["x86_64-linux", "aarch64-linux"] {
        let packages = manifest.packages_for(machine).expect("a machine it knows");
        let places: Vec<_> = packages
            .iter()
            .flat_map(|package| &package.files)
            .map(|file| &file.to)
            .collect();
        assert_eq!(places.len(), 12, "{machine}");
        assert!(places.contains(&&PathBuf::from("runtime/libonnxruntime.so")));
    }
}

#[test]
fn a_model_and_the_package_that_brings_it_are_pinned_alike() {
    let manifest = Manifest::parse(crate::assets::DEFAULT_MANIFEST).expect("a valid manifest");
    let packages = manifest.packages_for("x86_64-linux").expect("a machine it knows");
    for model in manifest.models().iter().filter(|model| !model.blake3.is_empty()) {
        let to = Path::new("models").join(&model.file);
        let file = packages
            .iter()
            .flat_map(|package| &package.files)
            .find(|file| file.to == to)
            .expect("a pinned file");
        assert_eq!(file.pin.blake3.to_hex().as_str(), model.blake3, "{}", model.role);
    }
}

#[test]
fn a_machine_without_a_package_is_told_which_ones_have_it() {
    let manifest = Manifest::parse(crate::assets::DEFAULT_MANIFEST).expect("a valid manifest");
    let error = manifest.packages_for("riscv64-linux").unwrap_err().to_string();
    assert!(
        error.contains("onnxruntime") && error.contains("riscv64-linux"),
        "{error}"
    );
    assert!(error.contains("x86_64-linux, aarch64-linux"), "{error}");
}

#[test]
fn a_place_outside_the_assets_directory_is_refused() {
    for to in [
        "../escape",
        "/etc/escape",
        "models/../../escape",
        "",
        ".lock",
        "models/.hidden",
    ] {
        let error = refusal(&package("client = 'npm'", to));
        assert!(error.contains("relative `to`"), "{to}: {error}");
    }
}

#[test]
fn a_name_that_a_client_could_take_for_an_option_is_refused() {
    for (good, bad) in [
        ("name = 'a'", "name = '--global'"),
        ("version = '1'", "version = '1 --x'"),
    ] {
        let text = package("client = 'npm'", "p").replace(good, bad);
        assert!(refusal(&text).contains("letters, digits"), "{bad}");
    }
    let text = package("client = 'npm'", "p").replace("a-1.tgz", "../a-1.tgz");
    assert!(refusal(&text).contains("archive"));
}

#[test]
fn a_wheel_needs_its_python_and_platform() {
    assert!(refusal(&package("client = 'pip-wheel'\npython = '3.12'", "p")).contains("python and platform"));
    assert!(refusal(&package("client = 'wget'", "p")).contains("client wget"));
}

#[test]
fn a_digest_that_is_none_is_refused() {
    let error = refusal(&package("client = 'npm'", "p").replace(DIGEST, "af13"));
    assert!(
        error.contains("64 hexadecimal digits") && error.contains("'af13'"),
        "{error}"
    );
}

#[test]
fn two_packages_share_a_place_only_on_different_machines() {
    let second = |fields: &str| package(fields, "p").replace("format = 1", "");
    let both = |a: &str, b: &str| package(a, "p") + &second(b);
    let x86 = "client = 'npm'\nmachine = 'x86_64-linux'";
    let arm = "client = 'npm'\nmachine = 'aarch64-linux'";
    Manifest::parse(&both(x86, arm)).expect("a valid manifest");
    assert!(refusal(&both(x86, x86)).contains("each `to` once"));
    assert!(refusal(&both(x86, "client = 'npm'")).contains("each `to` once"));
}

#[test]
fn another_format_is_refused() {
    assert!(refusal("format = 2").contains("expected 1, found 2"));
}
