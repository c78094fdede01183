//! `now()` and its kind are the batch's time: stored in the plan, the same when the batch is run again.

use std::{
    any::Any,
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use datafusion::{
    arrow::datatypes::{DataType, TimeUnit},
    common::Result,
    logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
    scalar::ScalarValue,
};

const DAY_US: i64 = 86_400_000_000;

/// The time of the batch that is being run, microseconds since the Unix epoch; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct BatchTime(Arc<AtomicI64>);

impl BatchTime {
    pub fn set(&self, time_us: i64) {
        self.0.store(time_us, Ordering::Relaxed);
    }

    fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The functions that replace DataFusion's own, which it would turn into constants when it plans.
    pub fn functions(&self) -> Vec<ScalarUDF> {
        [Part::Timestamp, Part::Date, Part::Time]
            .into_iter()
            .map(|part| ScalarUDF::from(BatchTimeFunction::new(part, self.clone())))
            .collect()
    }
}

/// Whether an expression asks for the batch's time.
pub(super) fn is_batch_time(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if (call.func.inner().as_ref() as &dyn Any).is::<BatchTimeFunction>())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Timestamp,
    Date,
    Time,
}

#[derive(Debug)]
struct BatchTimeFunction {
    part: Part,
    time: BatchTime,
    aliases: Vec<String>,
    signature: Signature,
}

impl BatchTimeFunction {
    fn new(part: Part, time: BatchTime) -> BatchTimeFunction {
        let alias = match part {
            Part::Timestamp => vec!["current_timestamp".to_owned()],
            Part::Date => vec!["today".to_owned()],
            Part::Time => vec![],
        };
        // Volatile, so that no optimizer folds it into a constant: the plan outlives the batch.
        BatchTimeFunction { part, time, aliases: alias, signature: Signature::nullary(Volatility::Volatile) }
    }
}

impl PartialEq for BatchTimeFunction {
    fn eq(&self, other: &Self) -> bool {
        self.part == other.part
    }
}

impl Eq for BatchTimeFunction {}

impl Hash for BatchTimeFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.part.hash(state);
    }
}

impl ScalarUDFImpl for BatchTimeFunction {
    fn name(&self) -> &str {
        match self.part {
            Part::Timestamp => "now",
            Part::Date => "current_date",
            Part::Time => "current_time",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.part {
            Part::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Part::Date => DataType::Date32,
            Part::Time => DataType::Time64(TimeUnit::Microsecond),
        })
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let time_us = self.time.get();
        Ok(ColumnarValue::Scalar(match self.part {
            Part::Timestamp => ScalarValue::TimestampMicrosecond(Some(time_us), None),
            Part::Date => ScalarValue::Date32(Some(time_us.div_euclid(DAY_US) as i32)),
            Part::Time => ScalarValue::Time64Microsecond(Some(time_us.rem_euclid(DAY_US))),
        }))
    }
}
