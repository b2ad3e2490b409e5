//! Plans, and what they refuse. A whole build, which needs the network, is in the soak.

use super::*;

#[test]
fn a_plan_has_the_same_identities_every_time_and_another_plan_others() {
    let plan = Plan::new(Architecture::Amd64);
    assert_eq!(plan.uuid("root"), plan.uuid("root"));
    assert_ne!(plan.uuid("root"), plan.uuid("disk"));
    let other = Plan { include: vec!["fio".to_owned()], ..plan.clone() };
    assert_ne!(plan.uuid("root"), other.uuid("root"));
    assert_eq!(plan.uuid("root").len(), 36);
}

#[test]
fn a_plan_that_cannot_be_carried_out_is_refused_first() {
    let plan = Plan::new(Architecture::I386);
    plan.check().unwrap();
    let refused = [
        Plan { kernel: Kernel::Cloud, ..plan.clone() },
        Plan { bytes: 1 << 20, ..plan.clone() },
        Plan { include: vec!["--foo".to_owned()], ..plan.clone() },
        Plan { include: vec!["a,b;c".to_owned()], ..plan.clone() },
        Plan { hostname: "a b".to_owned(), ..plan.clone() },
        Plan { user: "../x".to_owned(), ..plan.clone() },
        Plan { password: String::new(), ..plan.clone() },
        Plan { password: "a\nroot:x".to_owned(), ..plan.clone() },
        Plan { ssh_key: Some("ssh-ed25519 a\nb".to_owned()), ..plan.clone() },
    ];
    for plan in refused {
        assert!(plan.check().is_err(), "{plan:?}");
    }
}

#[test]
fn nothing_that_exists_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("disk.img");
    fs::write(&output, "mine").unwrap();
    let error = build(&Plan::new(Architecture::Amd64), &output, &mut |_| {}).unwrap_err();
    assert!(matches!(error, BuildError::Image(ImageError::Exists { .. })), "{error}");
    assert_eq!(fs::read(&output).unwrap(), b"mine");
}

#[test]
fn kernels_and_architectures_have_the_names_they_print() {
    for name in ["amd64", "cloud", "686", "686-pae"] {
        assert_eq!(name.parse::<Kernel>().unwrap().to_string(), name);
    }
    assert!("arm64".parse::<Architecture>().is_err());
}
