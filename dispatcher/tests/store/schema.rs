//! Migrating, and refusing what does not fit with one line that says what to do.

use windlass_dispatcher::store::{Store, StoreError};
use windlass_functions::stream::Stream;

use crate::backend::{Backend, Kind, databases};

databases! {
    every: [
        migrating_at_once_and_again_is_harmless,
        another_shape_of_the_stream_is_refused,
        another_version_of_the_schema_is_refused,
        a_database_of_version_1_gets_what_is_missing,
        tables_of_somebody_else_are_left_alone,
        a_database_that_was_not_migrated_is_refused,
    ],
    servers: [
        a_missing_privilege_names_the_grant,
        a_wrong_address_user_or_name_is_told_apart_and_hides_the_password,
    ]
}
databases!(file, Sqlite, a_store_that_is_no_file_is_refused);

async fn migrating_at_once_and_again_is_harmless(backend: &Backend) {
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let url = backend.url.clone();
            tokio::spawn(async move {
                let store = Store::connect(&url).await.unwrap();
                store.migrate(&Stream::default(), 4).await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let store = backend.store(4).await;
    store.check(&Stream::default(), 4).await.unwrap();
    assert_eq!(backend.sql("SELECT COUNT(*) FROM shards").await, ["4"]);
}

async fn another_shape_of_the_stream_is_refused(backend: &Backend) {
    let store = backend.store(2).await;
    let shipped = Stream::default();
    let wider = Stream {
        window_ms: 2000,
        ..shipped.clone()
    };
    let coarser = Stream {
        scale: 1,
        ..shipped.clone()
    };
    for (stream, shards, what) in [
        (&shipped, 3, "shards 2, not 3"),
        (&wider, 2, "window-ms 1000, not 2000"),
        (&coarser, 2, "scale 2, not 1"),
    ] {
        for refused in [
            store.check(stream, shards).await,
            store.migrate(stream, shards).await,
        ] {
            let message = refused.unwrap_err().to_string();
            assert!(message.contains(what), "{message}");
            assert!(message.contains("under another name"), "{message}");
        }
    }
    let finer = Stream {
        scale: 3,
        ..shipped
    };
    let message = store.migrate(&finer, 2).await.unwrap_err().to_string();
    assert!(message.contains("DECIMAL(38,2)"), "{message}");
}

async fn another_version_of_the_schema_is_refused(backend: &Backend) {
    let store = backend.store(1).await;
    backend.sql("UPDATE windlass_schema SET version = 99").await;
    for refused in [
        store.check(&Stream::default(), 1).await,
        store.migrate(&Stream::default(), 1).await,
    ] {
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("schema version 99"), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

async fn a_database_of_version_1_gets_what_is_missing(backend: &Backend) {
    let store = backend.store(1).await;
    for added in [
        "retention",
        "datagen_runs",
        "datagen_manifests",
        "commit_log",
    ] {
        backend.sql(&format!("DROP TABLE {added}")).await;
    }
    backend.sql("UPDATE windlass_schema SET version = 1").await;
    let refused = store.check(&Stream::default(), 1).await.unwrap_err();
    assert!(
        refused.to_string().contains("windlass migrate"),
        "{refused}"
    );
    store.migrate(&Stream::default(), 1).await.unwrap();
    store.check(&Stream::default(), 1).await.unwrap();
    assert_eq!(store.runs("orders").await.unwrap(), []);
}

async fn tables_of_somebody_else_are_left_alone(backend: &Backend) {
    if backend.kind == Kind::Sqlite {
        std::fs::File::create(backend.url.trim_start_matches("sqlite:")).unwrap();
    }
    backend.sql("CREATE TABLE results (id INTEGER)").await;
    let store = Store::connect(&backend.url).await.unwrap();
    let refused = store.migrate(&Stream::default(), 1).await;
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("use an empty database"), "{message}");
}

async fn a_database_that_was_not_migrated_is_refused(backend: &Backend) {
    let store = Store::connect(&backend.url).await.unwrap();
    let message = store
        .check(&Stream::default(), 1)
        .await
        .unwrap_err()
        .to_string();
    assert!(message.contains("windlass migrate"), "{message}");
}

async fn a_missing_privilege_names_the_grant(backend: &Backend) {
    let reader = backend.url_with(|url| {
        url.set_username("windlass_reader").unwrap();
        url.set_password(Some("reader")).unwrap();
    });
    let store = Store::connect(&reader).await.unwrap();
    let refused = store.migrate(&Stream::default(), 1).await;
    assert!(
        matches!(refused, Err(StoreError::Privilege(_))),
        "{refused:?}"
    );
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("GRANT SELECT, INSERT"), "{message}");
    // Reading is all that the audit needs.
    backend.store(1).await;
    store.check(&Stream::default(), 1).await.unwrap();
    store.audit(&Stream::default()).await.unwrap();
}

async fn a_wrong_address_user_or_name_is_told_apart_and_hides_the_password(backend: &Backend) {
    let secret = "s3cr3t-word";
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free.local_addr().unwrap().port();
    drop(free);
    let with_secret = |url: &mut url::Url| url.set_password(Some(secret)).unwrap();
    let unreachable = backend.url_with(|url| {
        with_secret(url);
        url.set_port(Some(nobody)).unwrap();
    });
    let denied = backend.url_with(with_secret);
    let unknown = backend.url_with(|url| url.set_path("/windlass_nowhere"));
    let forbidden = backend.url_with(|url| url.set_path("/mysql"));
    for url in [&unreachable, &denied, &unknown, &forbidden] {
        let error = Store::connect(url).await.unwrap_err();
        let message = format!("{error} {error:?}");
        assert!(!message.contains(secret), "{message}");
        assert!(!message.contains(":windlass@"), "{message}");
        assert!(!error.to_string().contains('\n'), "{message}");
        let told = match error {
            StoreError::Unreachable(_) => &unreachable,
            StoreError::Denied(_) if url == &forbidden => &forbidden,
            StoreError::Denied(_) => &denied,
            StoreError::UnknownDatabase(_) => &unknown,
            _ => panic!("{message}"),
        };
        assert_eq!(told, url, "{message}");
    }
    let store = Store::connect(&backend.url).await.unwrap();
    assert!(!format!("{} {:?}", store.name(), store).contains(":windlass@"));
}

async fn a_store_that_is_no_file_is_refused(backend: &Backend) {
    for url in [
        "sqlite:",
        "sqlite::memory:",
        "mysql://",
        "mysql://u:s3cr3t@host",
        "postgres://u:s3cr3t@host/db",
        "no url with s3cr3t",
    ] {
        let error = Store::connect(url).await.unwrap_err();
        assert!(matches!(error, StoreError::Url(_)), "{error:?}");
        assert!(!error.to_string().contains("s3cr3t"), "{error}");
    }
    let path = backend.url.trim_start_matches("sqlite:");
    let error = Store::connect("sqlite:/no/such/directory/x.db")
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("create the directory"),
        "{error}"
    );
    std::fs::write(path, vec![b'x'; 5000]).unwrap();
    let error = Store::connect(&backend.url).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    std::fs::remove_file(path).unwrap();
    std::fs::create_dir(path).unwrap();
    let error = Store::connect(&backend.url).await.unwrap_err();
    assert!(error.to_string().contains("check the path"), "{error}");
}
