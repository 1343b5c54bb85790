//! Invocation Jobs on a real API server, as `tests/kubernetes` starts one; skipped unless
//! WINDLASS_TEST_CLUSTER=1. Each test has a namespace of its own. The pods run the image
//! `WINDLASS_TEST_IMAGE` (`windlass:dev`) against a dispatcher played by this process, which says that
//! every invocation is gone.

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use windlass_jobs::kubernetes::invocation::{InvocationJobs, Site};
use windlass_jobs::kubernetes::{Cluster, names};
use windlass_jobs::launch::{Heard, Launcher, News, Order, Refusal};

const ID: &str = "0.1.2.1700000000000.0.0.1";
/// A cold start on a busy machine takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// A namespace, deleted with this.
struct Place {
    config: Config,
    client: Client,
    namespace: String,
    dispatcher: SocketAddr,
    tasks: JoinSet<()>,
}

/// Orders to a launcher, and what it tells.
struct Talk {
    orders: UnboundedSender<Order>,
    heard: UnboundedReceiver<Heard>,
}

impl Place {
    /// `None` without a cluster.
    async fn new(test: &str) -> Option<Self> {
        // `tests/kubernetes` sees to it that a run of everything does not skip them.
        if std::env::var("WINDLASS_TEST_CLUSTER").as_deref() != Ok("1") {
            eprintln!("skipped: WINDLASS_TEST_CLUSTER is not 1");
            return None;
        }
        let config = Config::infer().await.unwrap();
        let client = Client::try_from(config.clone()).unwrap();
        let namespace = format!("wl-placement-{test}-{}", std::process::id());
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
        // This machine as the cluster sees it.
        let server = config.cluster_url.authority().unwrap().to_string();
        let route = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        route.connect(server).unwrap();
        let host = route.local_addr().unwrap().ip();
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(everything_is_gone(listener));
        Some(Self {
            config,
            client,
            namespace,
            dispatcher: SocketAddr::new(host, port),
            tasks,
        })
    }

    fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn template(&self, text: &str) {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": names::JOB_TEMPLATE},
            "data": {(names::JOB_TEMPLATE_KEY): text},
        });
        let how = PatchParams::apply("test").force();
        maps.patch(names::JOB_TEMPLATE, &how, &Patch::Apply(map))
            .await
            .unwrap();
    }

    fn launch(&mut self, client: Client) -> Talk {
        let cluster = Cluster {
            client,
            namespace: self.namespace.clone(),
        };
        let site = Site {
            deployment: "0badcafe".into(),
            made_by: "test".into(),
            dispatcher: format!("http://{}", self.dispatcher),
            token: false,
            deadline_seconds: 300,
        };
        let jobs = InvocationJobs::new(cluster, site, names::JOB_TEMPLATE);
        let (orders, ordered) = unbounded_channel();
        let (tell, heard) = unbounded_channel();
        let launcher = Launcher::Kubernetes(Box::new(jobs));
        self.tasks.spawn(launcher.run(ordered, tell));
        Talk { orders, heard }
    }

    async fn done(mut self) {
        self.tasks.shutdown().await;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::background())
            .await
            .unwrap();
    }
}

impl Talk {
    fn create(&self, id: &str) {
        self.orders.send(Order::Create(id.into())).unwrap();
    }

    /// The next news of `id` that `wanted` lets pass.
    async fn until(&mut self, id: &str, wanted: impl Fn(&News) -> bool) -> News {
        let next = async {
            loop {
                match self.heard.recv().await.unwrap() {
                    Heard::Of(of, news) if of == id && wanted(&news) => return news,
                    other => eprintln!("heard {other:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, next)
            .await
            .expect("nothing of the kind was heard")
    }
}

/// Answers 410 to whatever it is asked.
async fn everything_is_gone(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let gone = b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(gone).await;
        });
    }
}

fn template(image: &str, more: &str) -> String {
    format!(
        "spec:\n  enableServiceLinks: false\n  securityContext:\n    runAsNonRoot: true\n    \
         runAsUser: 65532\n{more}  containers:\n    - name: windlass\n      image: {image}\n      \
         imagePullPolicy: IfNotPresent\n"
    )
}

fn good() -> String {
    let image = std::env::var("WINDLASS_TEST_IMAGE").unwrap_or_else(|_| "windlass:dev".into());
    template(&image, "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_created_once_scheduled_and_its_end_is_told() {
    let Some(mut place) = Place::new("once").await else {
        return;
    };
    place.template(&good()).await;
    let mut talk = place.launch(place.client.clone());
    talk.create(ID);
    talk.until(ID, |news| *news == News::Created).await;
    // The same attempt's Job, created twice.
    talk.create(ID);
    talk.until(ID, |news| *news == News::Exists { finished: false })
        .await;
    talk.until(ID, |news| *news == News::Scheduled).await;
    let ended = talk.until(ID, |news| matches!(news, News::Ended(_))).await;
    assert_eq!(
        ended,
        News::Ended("its program ended well".into()),
        "its invocation was gone"
    );
    talk.create(ID);
    talk.until(ID, |news| *news == News::Exists { finished: true })
        .await;
    let jobs = place.jobs().list(&ListParams::default()).await.unwrap();
    assert_eq!(jobs.items.len(), 1);
    place.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_template_is_told_with_its_field_and_an_edit_is_seen() {
    let Some(mut place) = Place::new("template").await else {
        return;
    };
    let mut talk = place.launch(place.client.clone());
    talk.create(ID);
    let refused = |part: &'static str| move |news: &News| matches!(news, News::Refused(Refusal::Template, why) if why.contains(part));
    talk.until(ID, refused("expected a ConfigMap windlass-job-template"))
        .await;
    for (text, part) in [
        (
            template("windlass:dev", "  nodeSelektor: {a: b}\n"),
            "spec.nodeSelektor",
        ),
        // What only the API server knows to be wrong.
        (
            template("windlass:dev", "  dnsPolicy: Sometimes\n"),
            "spec.template.spec.dnsPolicy",
        ),
    ] {
        place.template(&text).await;
        loop {
            talk.create(ID);
            let news = talk
                .until(ID, |news| matches!(news, News::Refused(..)))
                .await;
            if refused(part)(&news) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    place.template(&good()).await;
    loop {
        talk.create(ID);
        let created = |news: &News| matches!(news, News::Created | News::Refused(..));
        if talk.until(ID, created).await == News::Created {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A bad edit leaves the last good one in force.
    place.template("spec: {}").await;
    talk.create("0.1.2.1700000000000.0.0.2");
    talk.until("0.1.2.1700000000000.0.0.2", |news| *news == News::Created)
        .await;
    place.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_cannot_be_pulled_is_told_and_the_job_removed() {
    let Some(mut place) = Place::new("image").await else {
        return;
    };
    place
        .template(&template("registry.invalid/none:1", ""))
        .await;
    let mut talk = place.launch(place.client.clone());
    talk.create(ID);
    talk.until(
        ID,
        |news| matches!(news, News::Stuck(why) if why.contains("Image")),
    )
    .await;
    talk.orders.send(Order::Remove(ID.into())).unwrap();
    talk.until(
        ID,
        |news| matches!(news, News::Ended(how) if how.contains("deleted")),
    )
    .await;
    place.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forbidden_is_told_with_the_verb_that_is_missing() {
    let Some(mut place) = Place::new("forbidden").await else {
        return;
    };
    place.template(&good()).await;
    let mut config = place.config.clone();
    // May read everything in a namespace, and create nothing.
    config.auth_info.impersonate = Some("reader".into());
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}],
    });
    let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> =
        Api::namespaced(place.client.clone(), &place.namespace);
    let binding = serde_json::from_value(binding).unwrap();
    bindings
        .create(&PostParams::default(), &binding)
        .await
        .unwrap();
    let mut talk = place.launch(Client::try_from(config).unwrap());
    talk.create(ID);
    let forbidden = |news: &News| matches!(news, News::Refused(Refusal::Forbidden, why) if why.contains("create on jobs"));
    talk.until(ID, forbidden).await;
    place.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_api_server_the_outcome_is_unknown() {
    let Some(mut place) = Place::new("unknown").await else {
        return;
    };
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut config = place.config.clone();
    config.cluster_url = format!("https://127.0.0.1:{port}").parse().unwrap();
    let mut talk = place.launch(Client::try_from(config).unwrap());
    talk.create(ID);
    talk.until(ID, |news| {
        matches!(news, News::Refused(Refusal::Unreachable, _))
    })
    .await;
    place.done().await;
}
