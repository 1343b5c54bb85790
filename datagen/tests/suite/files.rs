use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema};
use windlass_datagen::feed::Feed;
use windlass_datagen::files::{FileFormat, MANIFEST, Recording, generate, list};
use windlass_datagen::manifest::{Manifest, Origin, Recorder, Run};
use windlass_datagen::workload::Options;

use super::{Plain, feed, options, plain};

const FORMATS: [FileFormat; 3] = [FileFormat::Csv, FileFormat::Parquet, FileFormat::Arrow];

/// Five files, one source each, some orders late.
fn five() -> Options {
    Options {
        sources: 5,
        late: 0.01,
        ..options()
    }
}

fn recording(dir: &Path, prefix: &str) -> Feed {
    Feed::Recording(Box::new(
        Recording::open(&list(dir).unwrap(), prefix).unwrap(),
    ))
}

fn sorted(mut orders: Vec<Plain>) -> Vec<Plain> {
    orders.sort();
    orders
}

#[test]
fn files_of_every_format_give_back_the_orders_that_were_generated() {
    for format in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        generate(five(), 1_000, format, dir.path(), |_| ()).unwrap();
        assert_eq!(list(dir.path()).unwrap().len(), 5);
        let found = plain(recording(dir.path(), ""));
        assert_eq!(sorted(found), sorted(plain(feed(five()))), "{format}");
    }
}

#[test]
fn files_hold_one_source_each_and_the_rows_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    generate(five(), 1_000, FileFormat::Csv, dir.path(), |_| ()).unwrap();
    for number in 0..5 {
        let text = fs::read_to_string(dir.path().join(format!("orders-{number:02}.csv"))).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("source,seq,ts,province,amount"));
        assert_eq!(lines.clone().count(), 2_000);
        assert!(lines.all(|line| line.starts_with(&format!("source-{number:02},"))));
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_in_every_format() {
    for format in FORMATS {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for dir in &dirs {
            generate(five(), 1_000, format, dir.path(), |_| ()).unwrap();
        }
        for file in list(dirs[0].path()).unwrap() {
            let other = dirs[1].path().join(file.file_name().unwrap());
            assert!(
                fs::read(&file).unwrap() == fs::read(other).unwrap(),
                "{}",
                file.display()
            );
        }
    }
}

#[test]
fn the_manifest_beside_files_is_that_of_publishing_them() {
    let dir = tempfile::tempdir().unwrap();
    let written = generate(five(), 1_000, FileFormat::Arrow, dir.path(), |_| ()).unwrap();
    assert_eq!(Manifest::read(&dir.path().join(MANIFEST)).unwrap(), written);
    let mut feed = recording(dir.path(), "");
    let mut recorder = Recorder::new(1_000);
    for order in feed.by_ref() {
        recorder.record(&[order.unwrap()]);
    }
    let run = Run {
        origin: Origin::Files(vec![]),
        interrupted: false,
    };
    let published = recorder.finish(feed.dictionaries(), run);
    assert_eq!(published.windows, written.windows);
    assert_eq!(published.totals, written.totals);
    for (source, record) in &written.sources {
        assert_eq!(published.sources[source].published, record.published);
        assert_eq!(published.sources[source].late, record.late);
    }
}

#[test]
fn files_are_merged_by_time_so_that_no_source_falls_behind() {
    let dir = tempfile::tempdir().unwrap();
    generate(five(), 1_000, FileFormat::Parquet, dir.path(), |_| ()).unwrap();
    let mut furthest = [0; 5];
    let mut last = 0;
    for order in recording(dir.path(), "") {
        let order = order.unwrap();
        assert!(order.due_ns >= last);
        last = order.due_ns;
        furthest[order.source as usize] = order.seq;
        let slowest = furthest.iter().min().unwrap();
        // 1,000 a second a source: 300 ms of disorder are some 300 orders.
        assert!(order.seq - slowest < 400, "{furthest:?}");
    }
}

#[test]
fn a_prefix_renames_the_sources_of_files() {
    let dir = tempfile::tempdir().unwrap();
    generate(five(), 1_000, FileFormat::Csv, dir.path(), |_| ()).unwrap();
    assert!(
        plain(recording(dir.path(), "again-"))
            .iter()
            .all(|o| o.source.starts_with("again-source-0"))
    );
}

#[test]
fn rows_without_source_and_seq_get_the_files_name_and_their_number() {
    let dir = tempfile::tempdir().unwrap();
    let rows = |name: &str, body: &str| {
        let path = dir.path().join(name);
        fs::write(&path, body).unwrap();
        plain(Feed::Recording(Box::new(
            Recording::open(&[path], "").unwrap(),
        )))
    };
    let expected = |source: &str| -> Vec<Plain> {
        [(1, 1_000, "Hainan", 1_250), (2, 900, "Jilin", 8_900)]
            .map(|(seq, ts, key, amount)| Plain {
                source: source.into(),
                seq,
                ts,
                key: key.into(),
                amount,
            })
            .into()
    };
    let csv = "ts,province,amount\n1000,Hainan,12.5\n1970-01-01T00:00:00.9Z,Jilin,89\n";
    assert_eq!(rows("shop.csv", csv), expected("shop"));
    let ndjson = "{\"ts\":1000,\"province\":\"Hainan\",\"amount\":12.50}\n\n\
                  {\"ts\":\"1970-01-01T00:00:00.9Z\",\"province\":\"Jilin\",\"amount\":\"89.00\"}";
    assert_eq!(rows("till.ndjson", ndjson), expected("till"));

    let schema = Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Int64, false),
        Field::new("province", DataType::Utf8, false),
        Field::new("amount", DataType::Int64, false),
    ]));
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            Arc::new(Int64Array::from(vec![1_000, 900])),
            Arc::new(StringArray::from(vec!["Hainan", "Jilin"])),
            Arc::new(Int64Array::from(vec![1_250, 8_900])),
        ],
    )
    .unwrap();
    let path = dir.path().join("stream.arrow");
    let mut writer = StreamWriter::try_new(fs::File::create(&path).unwrap(), &schema).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    let found = plain(Feed::Recording(Box::new(
        Recording::open(&[path], "").unwrap(),
    )));
    assert_eq!(found, expected("stream"));
}

#[test]
fn an_illegible_row_ends_the_reading_with_its_file_and_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.csv");
    fs::write(&path, "ts,province,amount\n1000,Hainan,12.345\n").unwrap();
    let mut feed = Recording::open(&[path], "");
    let error = match &mut feed {
        Err(error) => format!("{error:#}"),
        Ok(_) => panic!("12.345 was taken"),
    };
    assert!(
        error.contains("bad.csv beyond row 0") && error.contains("\"12.345\""),
        "{error}"
    );
    let path = dir.path().join("columns.csv");
    fs::write(&path, "ts,amount\n").unwrap();
    let error = format!("{:#}", Recording::open(&[path], "").unwrap_err());
    assert!(error.contains("province is missing"), "{error}");
    let error = format!("{:#}", Recording::open(&["x.txt".into()], "").unwrap_err());
    assert!(error.contains("expected a file named .csv"), "{error}");
}

#[test]
fn a_folder_that_holds_files_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("old.csv"), "").unwrap();
    let error = generate(five(), 1_000, FileFormat::Csv, dir.path(), |_| ()).unwrap_err();
    assert!(
        error.to_string().contains("expected an empty folder"),
        "{error}"
    );
}
