//! Whether a time is late, as a function of SQL, so that a filter by it sinks below what a late row need not compute.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use datafusion::{
    arrow::{
        array::{Array, AsArray, BooleanArray},
        datatypes::{DataType, TimeUnit, TimestampMicrosecondType},
    },
    common::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
};

/// The watermark that rows are late by, microseconds; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct LateBy(Arc<Mutex<Option<i64>>>);

impl LateBy {
    pub fn set(&self, late_us: Option<i64>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = late_us;
    }

    fn get(&self) -> Option<i64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True for a time that is not after the watermark, and for none.
    pub fn function(&self) -> ScalarUDF {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        // of a column, so that no optimizer folds it into a constant: the plan outlives the batch
        let signature = Signature::exact(vec![time], Volatility::Immutable);
        ScalarUDF::from(IsLate { late_by: self.clone(), signature })
    }
}

#[derive(Debug)]
struct IsLate {
    late_by: LateBy,
    signature: Signature,
}

impl PartialEq for IsLate {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.late_by.0, &other.late_by.0)
    }
}

impl Eq for IsLate {}

impl Hash for IsLate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.late_by.0).hash(state);
    }
}

impl ScalarUDFImpl for IsLate {
    fn name(&self) -> &str {
        "__is_late"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let times = arrays[0].as_primitive::<TimestampMicrosecondType>();
        let late_us = self.late_by.get();
        let is_late = |row| times.is_null(row) || late_us.is_some_and(|late| times.value(row) <= late);
        let late: BooleanArray = (0..times.len()).map(|row| Some(is_late(row))).collect();
        Ok(ColumnarValue::Array(Arc::new(late)))
    }
}
