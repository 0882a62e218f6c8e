//! Certificates that have expired, or are not valid yet: an error of `check`, and no reason to lose all else.

use std::fs;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use rcgen::CertificateParams;

use crate::client::{Client, VERSIONS, config};
use crate::lab::{Lab, yaml};
use crate::support::certificates::{Authority, ending_in};
use crate::support::{Gateway, Named, Successor, folder, within};

/// A change that makes a certificate end in the past.
fn expired(params: &mut CertificateParams) {
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2019, 1, 1), rcgen::date_time_ymd(2020, 2, 3));
}

/// A change that makes a certificate begin in the future.
fn not_yet(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(3001, 2, 3);
}

/// A gateway whose certificate for `a.test` is changed so, beside a good one for `b.test`.
async fn lab(change: impl FnOnce(&mut CertificateParams)) -> Lab {
    let backend = Named::start().await;
    let text = yaml(&[backend.address()], "", "")
        .replace(
            "[{ cert: '{dir}/a.pem', key: '{dir}/a.key' }]",
            "[{ cert: '{dir}/a.pem', key: '{dir}/a.key' }, { cert: '{dir}/b.pem', key: '{dir}/b.key' }]",
        )
        .replacen("version: 1\n", "version: 1\nupgrade_sock: '{dir}/upgrade.sock'\n", 1);
    let (dir, authority) = (folder(&text), Authority::new("Test Authority"));
    authority.issue_with(&["a.test"], change).write(dir.path(), "a");
    authority.issue(&["b.test"]).write(dir.path(), "b");
    let gateway = Gateway::begin(Arc::clone(&dir), &[], &[]).listening().await;
    gateway.log.find(&["control socket at"]).await;
    Lab { gateway, authority, dir }
}

impl Lab {
    fn connects(&self, name: &str) -> bool {
        Client::connect(self.address(), name, &config(&self.authority.pem, &VERSIONS, None)).is_ok()
    }

    /// Names another certificate for `b.test`, which is changed so.
    fn name_new(&self, change: impl FnOnce(&mut CertificateParams)) {
        self.authority.issue_with(&["b.test"], change).write(self.dir.path(), "c");
        let text = fs::read_to_string(self.file("longhaul.yaml")).unwrap();
        fs::write(self.file("longhaul.yaml"), text.replace("b.pem", "c.pem").replace("b.key", "c.key")).unwrap();
    }

    /// Runs a command of the program, with the file or the control socket of this gateway.
    async fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
        command.args(arguments);
        match arguments {
            ["check"] => command.arg("-c").arg(self.file("longhaul.yaml")),
            _ => command.arg("--socket").arg(self.file("control.sock")),
        };
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_warns_of_a_lapsed_certificate_and_serves_all_else() {
    for (change, fault) in [
        (expired as fn(&mut CertificateParams), "a.pem expired on 2020-02-03T00:00:00Z: clients refuse it"),
        (not_yet, "a.pem is not valid before 3001-02-03T00:00:00Z: clients refuse it"),
    ] {
        let lab = lab(change).await;
        lab.gateway.log.find(&["longhaul.yaml:", "warning: listeners[0].tls.certificates[0].cert: ", fault]).await;
        assert!(!lab.connects("a.test") && lab.connects("b.test"));
        let check = lab.command(&["check"]).await;
        let fault = fault.trim_end_matches(": clients refuse it");
        assert!(check.status.code() == Some(2) && said(&check).contains(fault), "{}", said(&check));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_a_lapsed_certificate_that_is_in_use_and_refuses_a_new_one() {
    let lab = lab(|_| ()).await;
    // It expires while it is in use: the files are looked at again, and nothing is wrong with what is in force.
    lab.authority.issue_with(&["a.test"], ending_in(Duration::from_secs(3))).write(lab.dir.path(), "a");
    lab.gateway.metric_becomes("longhaul_tls_file_reloads_total{outcome=\"done\"}", 1.0).await;
    within("the end of a certificate", async { while lab.connects("a.test") {} }).await;
    let touched = fs::read(lab.file("a.pem")).unwrap();
    fs::write(lab.file("a.pem"), touched).unwrap();
    let reload = lab.command(&["reload"]).await;
    assert!(reload.status.success(), "{}", said(&reload));
    lab.gateway.log.find(&["WARN", "certificates[0].cert: ", "a.pem expired on ", ": clients refuse it"]).await;
    assert!(lab.connects("b.test"));

    for (number, (change, fault)) in
        [(expired as fn(&mut CertificateParams), "c.pem expired on 2020"), (not_yet, "c.pem is not valid before 3001")]
            .into_iter()
            .enumerate()
    {
        lab.name_new(change);
        let reload = lab.command(&["reload"]).await;
        assert!(!reload.status.success() && said(&reload).contains(fault), "{}", said(&reload));
        lab.gateway.log.find_nth(&["the reload is refused"], number).await;
        assert!(lab.connects("b.test"));
        assert_eq!(lab.gateway.metric("longhaul_config_generation").await, 2.0);
    }
    assert_eq!(lab.gateway.metric("longhaul_tls_file_reloads_total{outcome=\"failed\"}").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lapsed_certificate_in_use_is_renewed_by_a_good_one_alone() {
    let lab = lab(expired).await;
    let own = "longhaul_tls_file_reloads_total{outcome=\"failed\"}";
    lab.authority.issue_with(&["a.test"], expired).write(lab.dir.path(), "a");
    lab.gateway.metric_becomes(own, 1.0).await;
    lab.gateway.log.find(&["ERROR", "what was read before stays in force", "a.pem expired on 2020"]).await;
    lab.authority.issue(&["a.test"]).write(lab.dir.path(), "a");
    within("the renewal", async { while !lab.connects("a.test") {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_keeps_a_lapsed_certificate_that_is_in_use_and_refuses_a_new_one() {
    let mut lab = lab(expired).await;
    let good = fs::read_to_string(lab.file("longhaul.yaml")).unwrap();
    lab.name_new(expired);
    let upgrade = lab.command(&["upgrade"]).await;
    let refused = said(&upgrade);
    assert!(!upgrade.status.success() && refused.contains("refuses the configuration"), "{refused}");
    let of = |number| format!("listeners[0].tls.certificates[{number}].cert: ");
    assert!(refused.contains(&format!(": warning: {}", of(0))), "{refused}");
    assert!(
        refused.contains("c.pem expired on 2020") && !refused.contains(&format!("warning: {}", of(1))),
        "{refused}"
    );
    assert!(lab.connects("b.test"));
    fs::write(lab.file("longhaul.yaml"), good).unwrap();
    let upgrade = lab.command(&["upgrade"]).await;
    let done = said(&upgrade);
    assert!(upgrade.status.success() && done.contains(" has taken over: "), "{done}");
    let _successor = Successor::of(&done);
    assert_eq!(lab.gateway.ended().await, Some(0));
    assert!(lab.connects("b.test"));
    // At the start, by the upgrade that was refused, and by the new process.
    lab.gateway.log.find_nth(&["warning: ", "a.pem expired on 2020-02-03T00:00:00Z: clients refuse it"], 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lapsed_certificate_that_backends_are_shown_does_not_keep_a_reload_from_its_work() {
    let backend = Named::start().await;
    let tls =
        "    tls: { server_name: u.test, ca: '{dir}/ca.pem', certificate: '{dir}/own.pem', key: '{dir}/own.key' }\n";
    let (dir, authority) = (folder(&yaml(&[backend.address()], "", tls)), Authority::new("Test Authority"));
    authority.issue(&["a.test"]).write(dir.path(), "a");
    authority.issue_with(&["own.test"], expired).write(dir.path(), "own");
    fs::write(dir.path().join("ca.pem"), &authority.pem).unwrap();
    let gateway = Gateway::begin(Arc::clone(&dir), &[], &[]).listening().await;
    gateway.log.find(&["warning: upstreams.u.tls.certificate: ", "own.pem expired on 2020"]).await;
    gateway.signal("HUP");
    gateway.metric_becomes("longhaul_config_generation", 2.0).await;
    authority.issue_with(&["own.test"], expired).write(dir.path(), "new");
    let text = fs::read_to_string(dir.path().join("longhaul.yaml")).unwrap();
    let text = text.replace("own.pem", "new.pem").replace("own.key", "new.key");
    fs::write(dir.path().join("longhaul.yaml"), text).unwrap();
    gateway.signal("HUP");
    gateway.log.find(&["the reload is refused", "new.pem expired on 2020"]).await;
}
