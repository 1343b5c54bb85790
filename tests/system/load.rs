//! What a site's producers do: publish a workload to its end, or until they are told to end.

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use windlass_datagen::broker::Target;
use windlass_datagen::feed::Feed;
use windlass_datagen::manifest::{Manifest, Origin};
use windlass_datagen::message::{Format, Messages, Packing};
use windlass_datagen::publish::{Speed, publish};
use windlass_datagen::workload::{Options, Workload};

use crate::harness::{Site, unix_ms};

impl Site {
    /// A feed of orders for this site: `options` with the event time starting now, unless it is set.
    pub fn workload(&self, options: Options) -> Workload {
        let start_ms = match options.start_ms {
            0 => unix_ms(),
            set => set,
        };
        let options = Options {
            start_ms,
            ..options
        };
        Workload::new(options).expect("the test's workload is within its ranges")
    }

    /// Publishes a workload with confirms and returns its manifest.
    pub async fn publish(&self, options: Options, format: Format, speed: Speed) -> Manifest {
        let packing = Packing {
            format,
            batch: format.default_batch(),
            duplicates: 0.01,
            seed: options.seed,
        };
        self.publish_packed(options, packing, speed).await
    }

    /// The same with a packing of choice.
    pub async fn publish_packed(
        &self,
        options: Options,
        packing: Packing,
        speed: Speed,
    ) -> Manifest {
        self.publishing(options, packing, speed, std::future::pending())
            .await
    }

    /// Publishes in the background, one JSON order a message, until it is told to end.
    pub fn load(&self, options: Options, speed: Speed) -> Load {
        let packing = Packing {
            format: Format::Json,
            batch: 1,
            duplicates: 0.01,
            seed: options.seed,
        };
        let options = Options {
            // Longer than any test.
            duration_ms: 24 * 3_600_000,
            ..options
        };
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let run = tokio::spawn(self.publishing(options, packing, speed, stopped));
        Load { stop, run }
    }

    fn publishing(
        &self,
        options: Options,
        packing: Packing,
        speed: Speed,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = Manifest> + Send + 'static {
        let workload = self.workload(options);
        let origin = Origin::Workload(workload.options().clone());
        let messages = Messages::new(Feed::Workload(Box::new(workload)), packing);
        let target = Target::parse(&self.broker, &self.stream.name, self.shards)
            .expect("tests/services prints URLs");
        let window_ms = self.stream.window_ms;
        async move {
            let published = publish(&target, messages, window_ms, speed, origin, |_| {}, stop)
                .await
                .expect("the broker takes the run");
            assert!(published.failure.is_none(), "{:?}", published.failure);
            published.manifest
        }
    }
}

/// A publisher in the background.
pub struct Load {
    stop: oneshot::Sender<()>,
    run: JoinHandle<Manifest>,
}

impl Load {
    /// Ends it, and returns the manifest of all that the broker has confirmed.
    pub async fn end(self) -> Manifest {
        // A run that has failed does not listen; its panic follows.
        let _ = self.stop.send(());
        self.run.await.expect("the publisher ends well")
    }
}
