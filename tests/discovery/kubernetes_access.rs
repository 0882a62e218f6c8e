//! Access to an API server by TLS: as a pod, and by a kubeconfig with a token or a client certificate.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::api_server::{ApiServer, HOST, endpoint, slice};
use crate::lab::{backend, config, in_folder, leads_to, mounted, of_source};
use crate::support::certificates::Authority;
use crate::support::{Backend, Gateway, folder, server_config};

const OF_NO_USE: &str = "the members of a stay as they are, their source (kubernetes) is of no use: ";
const AGAIN: &str = "the source of the members of a (kubernetes) answers again";
const BY_KUBECONFIG: &str = "{ kubernetes: { service: chat, port: ws, kubeconfig: \"{dir}/kubeconfig\" }, settle: 0s }";

/// An API server with one endpoint. Clients have to show a certificate of `clients`, where that is given.
async fn api_server(backend: &Backend, authority: &Authority, clients: Option<&Authority>) -> ApiServer {
    let slices = vec![slice("one", &[endpoint("chat-0", backend.address, "ready")], backend.address.port())];
    ApiServer::start_tls(slices, server_config(&authority.issue(&[HOST]), clients, rustls::ALL_VERSIONS)).await
}

/// A gateway that reads this kubeconfig. It waits for no answer.
async fn by_kubeconfig(files: &[(&str, &str)]) -> Gateway {
    let dir = folder(&config(&BY_KUBECONFIG.replace("settle", "wait: 0s, settle"), ""));
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    Gateway::begin(dir, &[], &[]).listening().await
}

#[tokio::test]
async fn a_pod_is_known_by_the_files_of_its_service_account_and_a_token_that_is_renewed_is_used() {
    let [one, two] = [backend().await, backend().await];
    let authority = Authority::new("cluster");
    let api = api_server(&one, &authority, None).await;
    let account = ServiceAccount::new(&authority.pem);
    account.renew("secret-1");
    let dir = folder(&config("{ kubernetes: { service: chat, port: ws }, settle: 0s, wait: 20s }", ""));
    let port = api.address.port().to_string();
    let environment = [("KUBERNETES_SERVICE_HOST", HOST), ("KUBERNETES_SERVICE_PORT", &*port)];
    let gateway = mounted(dir, &account.mounts(), &environment).await;
    leads_to(&gateway, &[one.address]).await;
    api.asked(&["/namespaces/prod/endpointslices?", "limit=", "Bearer secret-1"], 0).await;
    api.asked(&["watch=1", "Bearer secret-1"], 0).await;

    // The kubelet renews a token long before its end, and each watch ends within minutes.
    account.renew("secret-2");
    api.cut();
    api.asked(&["watch=1", "Bearer secret-2"], 0).await;
    assert_eq!(gateway.metric(&of_source("errors_total", "kubernetes")).await, 0.0);
    // One that is not believed any more.
    account.renew("secret-3");
    api.break_with(Some(401));
    api.asked(&["limit=", "Bearer secret-3"], 0).await;
    leads_to(&gateway, &[one.address]).await;
    api.break_with(None);
    gateway.log.find(&[AGAIN]).await;
    api.put(slice("one", &[endpoint("chat-0", two.address, "ready")], two.address.port()));
    leads_to(&gateway, &[two.address]).await;
    assert_eq!(gateway.log.count(&["secret-"]), 0);
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_believed_until_the_right_one_is_named() {
    let one = backend().await;
    let (authority, stranger) = (Authority::new("cluster"), Authority::new("stranger"));
    let api = api_server(&one, &authority, None).await;
    let file = api.kubeconfig_with(", certificate-authority: ca.crt", "{ tokenFile: token }");
    let files = [("kubeconfig", &*file), ("ca.crt", &*stranger.pem), ("token", "by-file\n")];
    let gateway = by_kubeconfig(&files).await;
    gateway.log.find(&[OF_NO_USE, &api.url(), "invalid peer certificate: UnknownIssuer"]).await;
    assert_eq!(api.count(""), 0, "nothing was asked, and no token shown");
    fs::write(in_folder(&gateway, "ca.crt"), &authority.pem).unwrap();
    gateway.log.find(&[AGAIN]).await;
    leads_to(&gateway, &[one.address]).await;
    api.asked(&["limit=", "Bearer by-file"], 0).await;

    // A server under a name that its certificate is not for; and one whose authority is none of the system's.
    let other = ApiServer::start_tls(Vec::new(), server_config(&authority.issue(&["api"]), None, rustls::ALL_VERSIONS));
    let other = other.await;
    let inline = format!(", certificate-authority-data: {}", STANDARD.encode(&authority.pem));
    for (file, part) in [
        (
            other.kubeconfig_with(&inline, "{ token: secret }"),
            "invalid peer certificate: certificate not valid for name",
        ),
        (api.kubeconfig("{ token: secret }"), "invalid peer certificate: UnknownIssuer"),
    ] {
        let gateway = by_kubeconfig(&[("kubeconfig", &*file)]).await;
        gateway.log.find(&[OF_NO_USE, part]).await;
    }
    assert_eq!(other.count(""), 0);
}

#[tokio::test]
async fn a_client_certificate_opens_a_server_that_asks_for_one_from_files_or_from_the_kubeconfig_itself() {
    let one = backend().await;
    let (authority, users, stranger) = (Authority::new("cluster"), Authority::new("users"), Authority::new("stranger"));
    let api = api_server(&one, &authority, Some(&users)).await;
    let known = users.issue(&["gateway"]);
    let inline = format!(", certificate-authority-data: {}", STANDARD.encode(&authority.pem));
    let data = format!(
        "{{ client-certificate-data: {}, client-key-data: {} }}",
        STANDARD.encode(&known.cert),
        STANDARD.encode(&known.key)
    );
    let by_data = by_kubeconfig(&[("kubeconfig", &*api.kubeconfig_with(&inline, &data))]).await;
    leads_to(&by_data, &[one.address]).await;

    let named = "{ client-certificate: user.crt, client-key: user.key }";
    let wrong = stranger.issue(&["gateway"]);
    let file = api.kubeconfig_with(&inline, named);
    let files = [("kubeconfig", &*file), ("user.crt", &*wrong.cert), ("user.key", &*wrong.key)];
    let by_files = by_kubeconfig(&files).await;
    by_files.log.find(&[OF_NO_USE, &api.url()]).await;
    // Each is read anew; for a moment they do not fit.
    fs::write(in_folder(&by_files, "user.crt"), &known.cert).unwrap();
    fs::write(in_folder(&by_files, "user.key"), &known.key).unwrap();
    leads_to(&by_files, &[one.address]).await;

    let without = by_kubeconfig(&[("kubeconfig", &*api.kubeconfig_with(&inline, "{ token: secret }"))]).await;
    without.log.find(&[OF_NO_USE, &api.url()]).await;
}

/// Files of a pod's service account. The folder that a pod has them in is there for one gateway alone.
struct ServiceAccount {
    dir: TempDir,
}

impl ServiceAccount {
    /// An account in `prod`, without a token, of a cluster with this authority.
    fn new(authority: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = dir.path().join("files");
        fs::create_dir(&files).unwrap();
        fs::write(files.join("ca.crt"), authority).unwrap();
        fs::write(files.join("namespace"), "prod").unwrap();
        Self { dir }
    }

    /// Puts a token in place in one step, as a kubelet does.
    fn renew(&self, token: &str) {
        let (fresh, files) = (self.dir.path().join("fresh"), self.dir.path().join("files"));
        fs::write(self.dir.path().join(token), token).unwrap();
        symlink(self.dir.path().join(token), &fresh).unwrap();
        fs::rename(fresh, files.join("token")).unwrap();
    }

    /// Commands after which the files are where a pod has them.
    fn mounts(&self) -> String {
        let (files, parent) = (self.dir.path().join("files"), Path::new(FOLDER).parent().unwrap().display());
        format!("mount -t tmpfs none /var/run && mkdir -p {parent} && ln -s {} {FOLDER}", files.display())
    }
}

/// Kubernetes documentation, "Accessing the Kubernetes API from a Pod".
const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
