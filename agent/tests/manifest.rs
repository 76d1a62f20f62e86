//! The manifest and what it grants.

#![allow(clippy::unwrap_used, clippy::undocumented_unsafe_blocks)]

mod support;

use serde_json::{Value, json};
use shelter_agent::grants::{check_run, grants_argv, grants_mount, grants_variable};
use shelter_agent::manifest::{Manifest, MountGrant};
use shelter_agent::protocol::message::{Run, Streams};
use support::{Random, manifest, read_json, rounds};

fn parse(value: &Value) -> Result<Manifest, (String, String)> {
    Manifest::parse(value.to_string().as_bytes()).map_err(|e| (e.code().to_owned(), e.to_string()))
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_documented_manifest_is_taken() {
    let manifest = parse(&manifest()).unwrap();
    assert_eq!(manifest.process.user.groups, [27]);
    assert_eq!(manifest.ports, [6379]);
    assert_eq!(manifest.root.key.as_deref(), Some("kbs:///default/disk-key/app"));
    assert_eq!(manifest.secrets.len(), 2);
}

#[test]
fn one_wrong_member_refuses_the_manifest() {
    let cases = [
        ("/version", json!(2), "MANIFEST_UNSUPPORTED"),
        ("/version", json!("1"), "MANIFEST_MALFORMED"),
        ("/extra", json!(1), "MANIFEST_MALFORMED"),
        ("/process/extra", json!(1), "MANIFEST_MALFORMED"),
        ("/process/user/uid", json!(4_294_967_295u32), "MANIFEST_MALFORMED"),
        ("/process/user/groups/0", json!(-1), "MANIFEST_MALFORMED"),
        ("/process/cwd", json!("srv"), "MANIFEST_MALFORMED"),
        ("/process/env/0", json!("PATH"), "MANIFEST_MALFORMED"),
        ("/process/entrypoint/0", json!("a\u{0}b"), "MANIFEST_MALFORMED"),
        ("/allow/args", json!("*"), "MANIFEST_MALFORMED"),
        ("/allow/args/0", json!("ls"), "MANIFEST_MALFORMED"),
        ("/allow/stdin", json!(1), "MANIFEST_MALFORMED"),
        ("/allow/mounts/0/target", json!("/data/../etc"), "MANIFEST_MALFORMED"),
        ("/allow/mounts/0/target", json!("/"), "MANIFEST_MALFORMED"),
        ("/secrets/0/env", json!("BOTH"), "MANIFEST_MALFORMED"),
        ("/secrets/1/mode", json!(256), "MANIFEST_MALFORMED"),
        ("/secrets/0/mode", json!(0o4755), "MANIFEST_MALFORMED"),
        ("/secrets/0/uri", json!("kbs:///a/../b"), "MANIFEST_MALFORMED"),
        ("/secrets/0/uri", json!("kbs:///a/b"), "MANIFEST_MALFORMED"),
        ("/secrets/0/uri", json!("kbs:///a/b/c?x=1"), "MANIFEST_MALFORMED"),
        ("/secrets/0/uri", json!("kbs://host/a/b/c"), "MANIFEST_MALFORMED"),
        ("/ports/0", json!(0), "MANIFEST_MALFORMED"),
        ("/ports/0", json!(65536), "MANIFEST_MALFORMED"),
        ("/root/verity/rootHash", json!("AB".repeat(32)), "MANIFEST_MALFORMED"),
        ("/root/verity/salt", json!("ab 0 8 linear".repeat(5)), "MANIFEST_MALFORMED"),
        ("/root/verity/dataBlocks", json!(2), "MANIFEST_UNSUPPORTED"),
        ("/root/encryption/cipher", json!("null"), "MANIFEST_UNSUPPORTED"),
        ("/root/encryption/sectorSize", json!(512), "MANIFEST_UNSUPPORTED"),
        ("/root/shape", json!("initrd"), "MANIFEST_UNSUPPORTED"),
        ("/root/check", json!("never"), "MANIFEST_UNSUPPORTED"),
        ("/root/shape", json!("net"), "MANIFEST_UNSUPPORTED"),
    ];
    for (pointer, value, code) in cases {
        let mut document = manifest();
        let (above, key) = pointer.rsplit_once('/').unwrap();
        match document.pointer_mut(above).unwrap() {
            Value::Array(items) => items[key.parse::<usize>().unwrap()] = value.clone(),
            object => object[key] = value.clone(),
        }
        match parse(&document) {
            Ok(_) => panic!("{pointer} = {value} is taken"),
            Err((got, text)) => assert_eq!(got, code, "{pointer} = {value}: {text}"),
        }
    }
}

#[test]
fn a_missing_member_refuses_the_manifest() {
    for key in ["version", "process", "allow", "secrets", "ports", "network", "resources", "capabilities", "root"] {
        let mut document = manifest();
        document.as_object_mut().unwrap().remove(key);
        let (code, text) = parse(&document).err().unwrap();
        assert_eq!(code, "MANIFEST_MALFORMED");
        assert_eq!(text, format!("manifest: {key} is missing"));
    }
}

#[test]
fn a_key_twice_refuses_the_manifest() {
    let text = manifest().to_string().replacen("\"outbound\":false", "\"outbound\":false,\"outbound\":true", 1);
    let error = Manifest::parse(text.as_bytes()).err().unwrap().to_string();
    assert!(error.contains("key \"outbound\" twice"), "{error}");
}

#[test]
fn grants_are_those_of_the_schema() {
    let vectors = read_json("../schema/grants.vectors.json");
    for case in vectors["argv"].as_array().unwrap() {
        let grants: Vec<Vec<String>> = case["grants"].as_array().unwrap().iter().map(texts).collect();
        assert_eq!(grants_argv(&grants, &texts(&case["argv"])), case["granted"], "{}", case["name"]);
    }
    for case in vectors["env"].as_array().unwrap() {
        let granted = grants_variable(&texts(&case["grants"]), case["variable"].as_str().unwrap());
        assert_eq!(granted, case["granted"], "{}", case["name"]);
    }
    for case in vectors["mounts"].as_array().unwrap() {
        let grants: Vec<MountGrant> = case["grants"]
            .as_array()
            .unwrap()
            .iter()
            .map(|g| MountGrant {
                target: g["target"].as_str().unwrap().to_owned(),
                read_only: g["readOnly"].as_bool().unwrap(),
            })
            .collect();
        let mount = &case["mount"];
        let granted = grants_mount(&grants, mount["target"].as_str().unwrap(), mount["readOnly"].as_bool().unwrap());
        assert_eq!(granted, case["granted"], "{}", case["name"]);
    }
}

#[test]
fn a_refusal_names_the_line_to_change() {
    let mut document = manifest();
    document["allow"]["args"] = json!([]);
    document["allow"]["stdin"] = json!(false);
    let manifest = parse(&document).unwrap();
    let streams = Streams { stdin: 1, stdout: 2, stderr: 3 };
    let run = |args: Option<Vec<String>>, env: &[&str], stdin| Run {
        args,
        env: env.iter().map(|e| (*e).to_owned()).collect(),
        tty: false,
        size: None,
        stdin,
        streams,
        mounts: Vec::new(),
        hostname: "a".to_owned(),
    };
    assert!(check_run(&manifest, &run(None, &["ABC=1"], false)).is_ok());
    let refusal = check_run(&manifest, &run(Some(vec!["x".to_owned()]), &[], false)).err().unwrap();
    assert_eq!((refusal.key, refusal.reason.as_str()), ("allow.args", "the arguments \"x\" are not granted"));
    let refusal = check_run(&manifest, &run(None, &["B=1"], false)).err().unwrap();
    assert_eq!((refusal.key, refusal.reason.as_str()), ("allow.env", "the variable \"B\" is not granted"));
    assert_eq!(check_run(&manifest, &run(None, &[], true)).err().unwrap().key, "allow.stdin");
}

#[test]
fn altered_manifests_do_no_harm() {
    let seed = manifest().to_string().into_bytes();
    let mut random = Random::new("manifest");
    for _ in 0..rounds(5000) {
        let mut text = seed.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(text.len());
            text[at] = *random.pick(b"{}[]\",:0129.-eE\\u/*a ");
        }
        let _ = Manifest::parse(&text);
    }
}
