//! Rows of Arrow record batches, whatever types their columns have.

use std::collections::VecDeque;

use anyhow::{Context, bail, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal128Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use windlass_functions::tuple::Dictionaries;

use super::read::{Defaults, Row};

/// Appends the rows of `batch`.
pub(super) fn read(
    batch: &RecordBatch,
    defaults: &mut Defaults,
    dictionaries: &mut Dictionaries,
    rows: &mut VecDeque<Row>,
) -> anyhow::Result<()> {
    let column = |name: &str| {
        batch
            .column_by_name(name)
            .with_context(|| format!("expected columns ts, province and amount; {name} is missing"))
    };
    let ts = times(column("ts")?)?;
    let amounts = amounts(column("amount")?)?;
    let mut keys = Vec::with_capacity(batch.num_rows());
    texts("province", column("province")?, |text| {
        keys.push(dictionaries.keys.intern(text));
    })?;
    let mut sources = Vec::with_capacity(batch.num_rows());
    match batch.column_by_name("source") {
        Some(column) => texts("source", column, |text| {
            sources.push(defaults.source(Some(text), dictionaries));
        })?,
        None => sources.resize(batch.num_rows(), defaults.source(None, dictionaries)),
    }
    let seqs = match batch.column_by_name("seq") {
        Some(column) => seqs(column)?,
        None => (defaults.rows + 1..).take(batch.num_rows()).collect(),
    };
    for row in 0..batch.num_rows() {
        rows.push_back(Row {
            source: sources[row],
            seq: seqs[row],
            ts: ts[row],
            key: keys[row],
            amount: amounts[row],
        });
    }
    defaults.rows += batch.num_rows() as u64;
    Ok(())
}

fn no_nulls(name: &str, column: &dyn Array) -> anyhow::Result<()> {
    ensure!(
        column.logical_null_count() == 0,
        "expected a value in every row, column {name} has nulls"
    );
    Ok(())
}

fn values<T: ArrowPrimitiveType<Native = i64>>(column: &dyn Array) -> &[i64] {
    column.as_primitive::<T>().values()
}

/// Event times in ms; finer digits are cut off towards the past.
fn times(column: &dyn Array) -> anyhow::Result<Vec<i64>> {
    no_nulls("ts", column)?;
    Ok(match column.data_type() {
        DataType::Int64 => values::<Int64Type>(column).to_vec(),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            values::<TimestampMillisecondType>(column).to_vec()
        }
        DataType::Timestamp(TimeUnit::Second, _) => values::<TimestampSecondType>(column)
            .iter()
            .map(|s| s.checked_mul(1_000).context("a ts is beyond the calendar"))
            .collect::<anyhow::Result<_>>()?,
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let micros = values::<TimestampMicrosecondType>(column).iter();
            micros.map(|us| us.div_euclid(1_000)).collect()
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let nanos = values::<TimestampNanosecondType>(column).iter();
            nanos.map(|ns| ns.div_euclid(1_000_000)).collect()
        }
        other => bail!("expected column ts as timestamp or int64 (ms), got {other}"),
    })
}

/// Minor units: those of a decimal, or an int64 as it is.
fn amounts(column: &dyn Array) -> anyhow::Result<Vec<i64>> {
    no_nulls("amount", column)?;
    match column.data_type() {
        DataType::Int64 => Ok(values::<Int64Type>(column).to_vec()),
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            let decimals = column.as_primitive::<Decimal128Type>().values();
            decimals
                .iter()
                .map(|&unscaled| {
                    minor_units(unscaled, scale).with_context(|| {
                        format!(
                            "expected an amount of at most two decimals within 64 bits of minor \
                             units, got {unscaled} with {scale} decimals"
                        )
                    })
                })
                .collect()
        }
        other => bail!(
            "expected column amount as decimal128 or int64 (minor units), got {other}; cast it \
             to decimal(18, 2)"
        ),
    }
}

fn minor_units(unscaled: i128, scale: i8) -> Option<i64> {
    let shift = 10_i128.checked_pow(u32::from(scale.abs_diff(2)))?;
    let minor = if scale > 2 {
        (unscaled % shift == 0).then_some(unscaled / shift)?
    } else {
        unscaled.checked_mul(shift)?
    };
    i64::try_from(minor).ok()
}

fn seqs(column: &dyn Array) -> anyhow::Result<Vec<u64>> {
    no_nulls("seq", column)?;
    match column.data_type() {
        DataType::UInt64 => Ok(column.as_primitive::<UInt64Type>().values().to_vec()),
        DataType::Int64 => values::<Int64Type>(column)
            .iter()
            .map(|&seq| u64::try_from(seq).with_context(|| format!("seq {seq} is below 0")))
            .collect(),
        other => bail!("expected column seq as uint64 or int64, got {other}"),
    }
}

/// Hands every row's text to `take`.
fn texts(name: &str, column: &dyn Array, mut take: impl FnMut(&str)) -> anyhow::Result<()> {
    no_nulls(name, column)?;
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().iter().flatten().for_each(take),
        DataType::LargeUtf8 => column.as_string::<i64>().iter().flatten().for_each(take),
        DataType::Utf8View => column.as_string_view().iter().flatten().for_each(take),
        DataType::Dictionary(_, values) if **values == DataType::Utf8 => {
            let dictionary = column.as_any_dictionary();
            let texts = dictionary.values().as_string::<i32>();
            for index in dictionary.normalized_keys() {
                take(texts.value(index));
            }
        }
        other => bail!("expected column {name} as utf8, plain or dictionary, got {other}"),
    }
    Ok(())
}
